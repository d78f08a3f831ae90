"""A network that exists in memory, such as one in a notebook, read at any of its layers."""

from copy import deepcopy
from typing import Any, NamedTuple, Self

import torch
from torch import nn

from fibermodels.config import GivenAgain
from fibermodels.subjects.layers import at_layer
from fibermodels.subjects.networked import Networked, example_of, trying
from fibermodels.subjects.preprocess import Interpolation, preprocessing


class Live(Networked, GivenAgain):
    """`phi(x) = layer(network(preprocess(x)))` of an `nn.Module` that takes images, or other inputs.

    The network itself stays as it is: the subject has a frozen copy, or the network, if it is frozen already. Files
    hold its weights and not its code: `fibermodels.load(path, subject=network)` gets the network again.

    Args:
        network: takes images `(B, C, H, W)`, or inputs `(B, *input_shape)`.
        layer: a module's name, or `spatial` (the last output that is a map), `pooled` (the input of the last linear
            layer) or `logits` (the network's output).
        image_shape: `[C, H, W]` of images in [0, 1].
        mean, std: statistics of the network's input, for each channel of images in [0, 1], of signals and of maps, or
            for each entry of a vector; None takes the inputs as they are.
        input_size: `[height, width]` of the network's input; None does not resize.
        interpolation: `bicubic` or `bilinear`, for the resize.
        prefix_tokens: number of tokens before those of the image (if the layer returns tokens); they are dropped.
        channels_last: whether the layer returns maps as `(B, h, w, C)`.
        units: channels of the map, or entries of the vector, in this order; None takes all.
        input_shape: `[D]`, `[C, L]` or `[C, H, W]` of inputs of any range, instead of `image_shape`.

    Raises:
        ValueError: the layer does not exist, or the network does not take such inputs.
    """

    again = "network"

    def __init__(
        self,
        network: nn.Module | None,
        layer: str,
        image_shape: list[int] | None = None,
        mean: list[float] | None = None,
        std: list[float] | None = None,
        input_size: list[int] | None = None,
        interpolation: Interpolation = "bicubic",
        prefix_tokens: int = 0,
        channels_last: bool = False,
        units: list[int] | None = None,
        input_shape: list[int] | None = None,
    ) -> None:
        if not isinstance(network, nn.Module):
            raise ValueError(
                f"Live: network: expected an nn.Module, got {type(network).__name__}; files hold the weights of a "
                "network in memory and not its code: fibermodels.load(path, subject=network)"
            )
        grey = image_shape is not None and image_shape[0] == 1 and mean is None
        if grey and (channels := input_channels(network) or 1) > 1:  # a grey image is repeated for all of its channels
            mean, std = [0.0] * channels, [1.0] * channels
        preprocess = preprocessing("Live", image_shape, input_shape, mean, std, input_size, interpolation)
        made, space = frozen(network), preprocess.input_space
        example = example_of(space, preprocess.input_shape)
        with trying(network, space):
            reading = at_layer(made, layer, example, "network", prefix_tokens, channels_last)
            super().__init__(made, preprocess, reading, units)

    def at(self, layer: str) -> Self:
        return type(self)(**self.arguments | {"network": self.network, "layer": layer, "units": None})


def frozen(network: nn.Module) -> nn.Module:
    """A copy in evaluation mode without gradients; a network that is so already is not copied."""
    if not network.training and not any(p.requires_grad for p in network.parameters()):
        return network
    return deepcopy(network).requires_grad_(False).eval()


def input_channels(network: nn.Module) -> int | None:
    """Channels of the images that a network takes, by its first convolution; None if it has none."""
    first = next((module for module in network.modules() if isinstance(module, nn.Conv2d)), None)
    return None if first is None else first.in_channels


class Expected(NamedTuple):
    """What a network's input is."""

    mean: list[float] | None = None
    std: list[float] | None = None
    size: list[int] | None = None
    """Height and width, if it takes no other."""


def expected_input(network: nn.Module, transform: Any = None) -> Expected:
    """What is known about a network's input: from a transform of torchvision, else from a network of timm.

    Args:
        network: one of timm says its statistics, and its size if it takes no other.
        transform: a composition of torchvision with a `Normalize`, or one such step.
    """
    if transform is not None:
        from torchvision.transforms import Normalize, v2

        steps = getattr(transform, "transforms", [transform])
        found = next((step for step in steps if isinstance(step, (Normalize, v2.Normalize))), None)
        if found is None:
            return Expected()
        mean, std = (torch.as_tensor(value, dtype=torch.float64).reshape(-1) for value in (found.mean, found.std))
        each = input_channels(network) or len(mean)  # one number is for all channels
        return Expected(*(value.expand(max(each, len(value))).tolist() for value in (mean, std)))
    about = getattr(network, "pretrained_cfg", None)
    if not isinstance(about, dict) or "mean" not in about:
        return Expected()
    fixed = list(about["input_size"][1:]) if about.get("fixed_input_size") else None
    return Expected(list(about["mean"]), list(about["std"]), fixed)
