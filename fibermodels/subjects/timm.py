"""Any network of timm, read at any layer, with timm's own preprocessing."""

import difflib
import math
import warnings
from typing import Any

import torch
from torch import Tensor, nn

from fibermodels.subjects.layers import Reading, at_layer, find_layer
from fibermodels.subjects.networked import Networked
from fibermodels.subjects.preprocess import Preprocess
from fibermodels.subjects.weights import read_state

PRETRAINED = "pretrained"
"""The value of `weights` that loads them from the hub or its cache."""

FREE = ("apache-2.0", "mit", "bsd", "cc-by-4.0", "cc0")
"""Prefixes of the names of licences that require only a notice."""


class Timm(Networked):
    """A network of timm (pytorch-image-models), with its own preprocessing for evaluation.

    Pretrained weights have their own licences. A warning names restrictive ones, such as Meta's DINOv3 licence for
    `*dinov3*` and CC BY-NC for `convnextv2_*`.

    Args:
        model: a name of `timm.list_models()`, or one with a tag of `timm.list_pretrained()`, such as
            `vit_base_patch14_dinov2.lvd142m`: the tag selects weights and preprocessing.
        layer: `spatial` (the last map with the final normalisation, tokens arranged as a map), `pooled` (the vector
            before the classifier), `logits`, or the name of a module.
        image_shape: `[C, H, W]` of the images; one channel is repeated. Images are resized to the network's input.
        weights: None starts at random; `pretrained` takes timm's from the hub or its cache; else a safetensors or torch
            file, in the working directory or below the data root: timm's, OpenCLIP's with a tower of timm, or a
            fine-tuned classifier's that `export.py` wrote.
        units: channels of the map, or entries of the vector, in this order; None takes all.
        num_classes: outputs of the classifier; 0 removes the classifier. None keeps the network's own.
        input_size: pixels per side of the network's input; None takes its own. Transformers resample their position
            embedding.
        crop_pct: share of the resized image that the centre crop keeps; None takes the network's own.
        mean, std: statistics of the input; None takes the network's own.
        channels_last: whether a named module returns maps as `(B, h, w, C)`; None follows the network's stages.

    Raises:
        FileNotFoundError: the weights do not exist, or the hub cannot be reached.
        ValueError: an unknown model, layer or unit, or weights that do not fit.
    """

    licence: str
    """The licence of the pretrained weights according to timm; empty if unknown."""

    def __init__(
        self,
        model: str,
        layer: str = "spatial",
        image_shape: list[int] = [3, 256, 256],  # noqa: B006 - never changed, and jsonargparse shows it
        weights: str | None = None,
        units: list[int] | None = None,
        num_classes: int | None = None,
        input_size: int | None = None,
        crop_pct: float | None = None,
        mean: list[float] | None = None,
        std: list[float] | None = None,
        channels_last: bool | None = None,
    ) -> None:
        network = _network(model, weights, num_classes, input_size)
        licence = str(network.pretrained_cfg.get("license") or "")
        if weights is not None and not licence.startswith(FREE):
            warnings.warn(
                f"Timm: the pretrained weights of {model} have the licence '{licence or 'unknown'}': read it before "
                "you use them or publish results",
                stacklevel=2,
            )
        preprocess = _preprocess(network, image_shape, input_size, crop_pct, mean, std)
        example = torch.zeros(1, *preprocess.input_shape)
        super().__init__(network, preprocess, _reading(network, model, layer, example, channels_last), units)
        self.licence = licence


def _network(model: str, weights: str | None, num_classes: int | None, input_size: int | None) -> Any:
    import timm

    cfg = _config(model)
    options: dict[str, Any] = {}
    if num_classes is not None:
        options["num_classes"] = num_classes
    if input_size is not None and cfg.get("fixed_input_size"):
        options["img_size"] = input_size
    if weights is None:
        return timm.create_model(model, **options).eval()
    if weights != PRETRAINED:
        state = read_state(weights)
        if num_classes == 0:
            heads = cfg["classifier"]
            prefixes = tuple(f"{head}." for head in ([heads] if isinstance(heads, str) else heads or ()))
            state = {name: value for name, value in state.items() if not name.startswith(prefixes)}
        own = cfg["num_classes"] if num_classes is None else num_classes  # equal numbers make timm load strictly
        options["pretrained_cfg_overlay"] = {"state_dict": state, "num_classes": own}
    try:
        network = timm.create_model(model, pretrained=True, **options)
    except OSError as error:
        raise FileNotFoundError(
            f"weights: the hub gives none for '{model}' ({str(error).splitlines()[0]}); download them on a connected "
            "machine and give the file: weights: FILE.safetensors"
        ) from error
    except RuntimeError as error:
        reason = " ".join(line.strip()[:200] for line in str(error).splitlines()[:3])
        raise ValueError(
            f"weights: '{weights}' does not fit {model}: {reason}; if it is the classifier, give its num_classes, or 0"
        ) from error
    network.pretrained_cfg.pop("state_dict", None)
    return network.eval()


def _config(model: str) -> dict[str, Any]:
    """timm's description of the pretrained network.

    Raises:
        ValueError: an unknown network or tag; the message names similar ones.
    """
    import timm

    name, _, tag = model.partition(".")
    if not timm.is_model(name):
        near = difflib.get_close_matches(name, timm.list_models(), n=5)
        raise ValueError(
            f"model: timm {timm.__version__} has no '{name}'"
            + (f"; did you mean {near}?" if near else "")
            + " List them with `timm.list_models('*part of the name*')`"
        )
    tags = timm.list_pretrained(f"{name}.*") if tag else []
    if tag and model not in tags:
        raise ValueError(f"model: timm has no pretrained tag '{tag}' of {name}; expected one of {tags}")
    config: dict[str, Any] = timm.get_pretrained_cfg(model).to_dict()
    return config


def _preprocess(
    network: nn.Module,
    image_shape: list[int],
    input_size: int | None,
    crop_pct: float | None,
    mean: list[float] | None,
    std: list[float] | None,
) -> Preprocess:
    """The same preprocessing as `timm.data.create_transform(**timm.data.resolve_data_config(...))`."""
    from timm.data import resolve_data_config

    config = resolve_data_config({}, model=network)
    height, width = (input_size, input_size) if input_size else config["input_size"][1:]
    share = config["crop_pct"] if crop_pct is None else crop_pct
    if not 0 < share <= 1:
        raise ValueError(f"crop_pct: expected a share in (0, 1], got {crop_pct}")
    scaled = (math.floor(height / share), math.floor(width / share))
    if config["crop_mode"] not in ("center", "squash") or (height != width and config["crop_mode"] == "center"):
        raise ValueError(f"model: crops of mode '{config['crop_mode']}' to {height} x {width} are not supported")
    squash = config["crop_mode"] == "squash"
    return Preprocess(
        image_shape,
        list(mean or config["mean"]),
        list(std or config["std"]),
        shorter=None if squash else scaled[0],
        size=scaled if squash else None,
        crop=(height, width),
        interpolation=config["interpolation"],
    )


def _reading(network: nn.Module, model: str, layer: str, example: Tensor, channels_last: bool | None) -> Reading:
    if layer == "spatial":
        return _spatial
    if layer == "pooled":
        return _pooled
    if layer == "logits":
        if not network.num_classes:
            raise ValueError(f"layer: {model} has no classifier, so no 'logits'; give layer: pooled, or num_classes")
        return _logits
    module = find_layer(network, layer, f"timm.create_model('{model}')")
    if channels_last is None:
        channels_last = _attribute(network, "output_fmt", "NCHW") == "NHWC" and not isinstance(module, nn.Conv2d)
    prefix = _attribute(network, "num_prefix_tokens", 0)
    return at_layer(network, layer, example, f"timm.create_model('{model}')", prefix, channels_last)


def _attribute(network: nn.Module, name: str, default: Any) -> Any:
    """An attribute that only some of timm's networks have."""
    return vars(network).get(name, default)


def _spatial(network: nn.Module, inputs: Tensor) -> Tensor:
    maps: list[Tensor] = network.forward_intermediates(  # type: ignore[operator]
        inputs, indices=1, norm=True, intermediates_only=True, stop_early=True
    )
    return maps[-1]


def _pooled(network: nn.Module, inputs: Tensor) -> Tensor:
    features = network.forward_features(inputs)  # type: ignore[operator]
    pooled: Tensor = network.forward_head(features, pre_logits=True)  # type: ignore[operator]
    return pooled.flatten(1)


def _logits(network: nn.Module, inputs: Tensor) -> Tensor:
    output: Tensor = network(inputs)
    return output
