"""The user's own network, read at any of its layers."""

from typing import Any

from torch import nn

from fibermodels.config import import_class
from fibermodels.subjects.layers import at_layer
from fibermodels.subjects.networked import Networked, example_of, trying
from fibermodels.subjects.preprocess import Interpolation, preprocessing
from fibermodels.subjects.weights import fit_state, read_state


class Cut(Networked):
    """Any `nn.Module` that takes images, or other inputs, read at one of its modules.

    YAML files and checkpoints name the class by its import path. Its package must be allowed:
    `FIBERMODELS_IMPORTS=my_package python train.py ...`.

    Args:
        network: import path of the network's class, such as `my_package.nets.ResNet20`.
        layer: a module's name, or `spatial` (the last output that is a map), `pooled` (the input of the last linear
            layer) or `logits` (the network's output).
        image_shape: `[C, H, W]` of images in [0, 1].
        mean, std: statistics of the network's input, for each channel of images in [0, 1], of signals and of maps, or
            for each entry of a vector; None takes the inputs as they are.
        network_args: arguments of the class, in plain types.
        weights: a safetensors or torch file of the network's state, in the working directory or below the data root;
            None starts at random.
        input_size: `[height, width]` of the network's input; None does not resize.
        interpolation: `bicubic` or `bilinear`, for the resize.
        prefix_tokens: number of tokens before those of the image (if the layer returns tokens); they are dropped.
        channels_last: whether the layer returns maps as `(B, h, w, C)`.
        units: channels of the map, or entries of the vector, in this order; None takes all.
        input_shape: `[D]`, `[C, L]` or `[C, H, W]` of inputs of any range, instead of `image_shape`.

    Raises:
        FileNotFoundError: the file of weights does not exist.
        ValueError: the class is not allowed or not an `nn.Module`, weights do not fit, the layer does not exist, or the
            network does not take such inputs.
    """

    def __init__(
        self,
        network: str,
        layer: str,
        image_shape: list[int] | None = None,
        mean: list[float] | None = None,
        std: list[float] | None = None,
        network_args: dict[str, Any] | None = None,
        weights: str | None = None,
        input_size: list[int] | None = None,
        interpolation: Interpolation = "bicubic",
        prefix_tokens: int = 0,
        channels_last: bool = False,
        units: list[int] | None = None,
        input_shape: list[int] | None = None,
    ) -> None:
        made = _made(network, network_args or {})
        if weights is not None:
            fit_state(made, read_state(weights), weights)
        preprocess = preprocessing("Cut", image_shape, input_shape, mean, std, input_size, interpolation)
        example = example_of(preprocess.input_space, preprocess.input_shape)
        with trying(made, preprocess.input_space):
            reading = at_layer(made.eval(), layer, example, f"{network}(...)", prefix_tokens, channels_last)
            super().__init__(made, preprocess, reading, units)


def _made(path: str, arguments: dict[str, Any]) -> nn.Module:
    cls = import_class(path, lambda found: isinstance(found, type) and issubclass(found, nn.Module), "an nn.Module")
    try:
        made: nn.Module = cls(**arguments)
    except TypeError as error:
        raise ValueError(f"network_args: cannot build {path}: {error}") from error
    return made
