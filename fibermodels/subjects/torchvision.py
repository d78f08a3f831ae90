"""Any classifier of torchvision, read at any layer, with the preprocessing of its weights."""

import difflib
from typing import Any

import torch
from torch import nn

from fibermodels.subjects.layers import at_layer
from fibermodels.subjects.networked import Networked
from fibermodels.subjects.preprocess import Preprocess
from fibermodels.subjects.weights import fit_state, read_state


class Torchvision(Networked):
    """A classifier of `torchvision.models`, with the transforms of its weights.

    Inception is always built as for its pretrained weights: it converts ImageNet's statistics to its own internally.

    Args:
        model: a name of `torchvision.models.list_models(module=torchvision.models)`.
        layer: `spatial` (the last map), `pooled` (the input of the last linear layer), `logits`, or the name of a
            module.
        image_shape: `[C, H, W]` of the images; one channel is repeated. Images are resized to the network's input.
        weights: None starts at random; `pretrained` downloads torchvision's or finds them in its cache; else a torch or
            safetensors file, in the working directory or below the data root.
        units: channels of the map, or entries of the vector, in this order; None takes all.
        tag: the pretrained weights, such as `IMAGENET1K_V2`. It also selects the preprocessing, for any `weights`. None
            takes torchvision's default.
        num_classes: outputs of the classifier, if they are not those of ImageNet.

    Raises:
        FileNotFoundError: the weights do not exist, or cannot be downloaded.
        ValueError: an unknown model, tag, layer or unit, or weights that do not fit.
    """

    def __init__(
        self,
        model: str,
        layer: str = "spatial",
        image_shape: list[int] = [3, 256, 256],  # noqa: B006 - never changed, and jsonargparse shows it
        weights: str | None = None,
        units: list[int] | None = None,
        tag: str | None = None,
        num_classes: int | None = None,
    ) -> None:
        chosen = _weights(model, tag)
        network = _network(model, chosen, weights, num_classes)
        preprocess = _preprocess(chosen, image_shape)
        example = torch.zeros(1, *preprocess.input_shape)
        source = f"torchvision.models.get_model('{model}')"
        prefix = _prefix_tokens(network)
        super().__init__(network, preprocess, at_layer(network, layer, example, source, prefix), units)


def _weights(model: str, tag: str | None) -> Any:
    """The member of torchvision's enumeration of a model's weights.

    Raises:
        ValueError: an unknown classifier or tag; the message names similar ones.
    """
    from torchvision import models

    names = models.list_models(module=models)
    if model not in names:
        near = difflib.get_close_matches(model, names, n=5)
        raise ValueError(
            f"model: torchvision.models has no '{model}'; "
            + (f"did you mean {near}?" if near else f"expected of {names}")
        )
    known = models.get_model_weights(model).__members__
    if tag is not None and tag not in known:
        raise ValueError(f"tag: expected one of {list(known)} for {model}, got '{tag}'")
    return known[tag or "DEFAULT"]


def _network(model: str, chosen: Any, weights: str | None, num_classes: int | None) -> nn.Module:
    from torchvision import models

    options: dict[str, Any] = {} if num_classes is None else {"num_classes": num_classes}
    if model == "inception_v3":
        options |= {"transform_input": True, "init_weights": False}
    network: nn.Module = models.get_model(model, weights=None, **options).eval()
    if weights == "pretrained":
        try:
            state = chosen.get_state_dict(progress=False, check_hash=True)
        except OSError as error:
            raise FileNotFoundError(
                f"weights: cannot download {chosen.url} ({error}); download it on a connected machine and give the "
                "file: weights: FILE.pth"
            ) from error
        fit_state(network, state, weights, "; give no num_classes with pretrained weights")
    elif weights is not None:
        fit_state(network, read_state(weights), weights, "; if it is the classifier, give its num_classes")
    return network


def _preprocess(chosen: Any, image_shape: list[int]) -> Preprocess:
    """The same preprocessing as `weights.transforms()`."""
    transform = chosen.transforms()
    (shorter,), (crop,) = transform.resize_size, transform.crop_size
    return Preprocess(
        image_shape,
        list(transform.mean),
        list(transform.std),
        shorter=shorter,
        crop=(crop, crop),
        interpolation=transform.interpolation.value,
    )


def _prefix_tokens(network: nn.Module) -> int:
    from torchvision.models import VisionTransformer

    return 1 if isinstance(network, VisionTransformer) else 0
