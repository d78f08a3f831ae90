"""Reading a network at one of its modules, by name, or at one of three standard places.

A forward hook takes the layer's output and ends the forward pass. Of a network of images or maps, maps and tokens are
returned as maps `(B, C, h, w)`, and outputs without a grid as vectors `(B, D)`. Of other networks, outputs of three
dimensions are returned as they are, as signals `(B, C, L)`.
"""

import difflib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

PLACES = ("spatial", "pooled", "logits")
"""The last map, the input of the classifier, the network's output."""

Reading = Callable[[nn.Module, Tensor], Tensor]
"""A function that maps a network and its input to a representation."""


class _Reached(Exception):
    """Raised by the hook to end the forward pass, because later layers are not needed."""


def find_layer(network: nn.Module, layer: str, source: str) -> nn.Module:
    """The module of that name.

    Args:
        network: the network.
        layer: a name of `named_modules()`.
        source: an expression that builds the network, for the error message.

    Raises:
        ValueError: there is no such module; the message names similar ones and how to list all.
    """
    modules = dict(network.named_modules())
    if layer in modules and layer:
        return modules[layer]
    names = [name for name in modules if name]
    near = difflib.get_close_matches(layer, [*PLACES, *names], n=5, cutoff=0.5)
    raise ValueError(
        f"layer: there is no '{layer}' in {type(network).__name__}; "
        + (f"did you mean {near}? " if near else "")
        + f"Expected one of {list(PLACES)} or of {len(names)} modules, listed by "
        f"`print(*dict({source}.named_modules()), sep='\\n')`"
    )


def token_grid(tokens: int, size: tuple[int, int]) -> tuple[int, int] | None:
    """Height and width of a grid of `tokens` with the aspect ratio of `size`; None if there is no such grid."""
    height = round(math.sqrt(tokens * size[0] / size[1]))
    if height < 1 or tokens % height or tokens // height * size[0] != height * size[1]:
        return None
    return height, tokens // height


Size = tuple[int, int] | None
"""Height and width of a network's input; None for vectors and signals."""


def size_of(inputs: Tensor) -> Size:
    """The size of a network's inputs `(B, *input_shape)`."""
    return (inputs.shape[-2], inputs.shape[-1]) if inputs.ndim == 4 else None


def as_representation(output: Any, size: Size, prefix_tokens: int, channels_last: bool, what: str) -> Tensor:
    """A layer's output as `(B, D)`, `(B, C, L)` or `(B, C, h, w)`.

    Args:
        output: a tensor, or a tuple that begins with one: `(B, D)`, tokens `(B, N, C)` or a map.
        size: height and width of the network's input; the grid of tokens has the same aspect ratio. None for inputs
            without a grid.
        prefix_tokens: tokens before those of the grid (class token, registers), which are dropped.
        channels_last: whether a map is `(B, h, w, C)`.
        what: the layer's name for errors.

    Raises:
        ValueError: the output is neither a vector nor a map, or tokens form no grid.
    """
    if isinstance(output, (tuple, list)) and output:
        output = output[0]
    if not isinstance(output, Tensor) or output.ndim not in (2, 3, 4):
        shape = list(output.shape) if isinstance(output, Tensor) else type(output).__name__
        raise ValueError(f"{what}: expected an output (B, D), tokens (B, N, C) or a map, got {shape}")
    if output.ndim == 2 or (output.ndim == 3 and size is None):
        return output
    if output.ndim == 4:
        maps = output.permute(0, 3, 1, 2) if channels_last else output
        return maps.flatten(1) if maps.shape[-2:] == (1, 1) else maps
    number, size = output.shape[1], size or (1, 1)
    grid = token_grid(number - prefix_tokens, size)
    if grid is None:
        fits = [p for p in range(min(17, number)) if token_grid(number - p, size)]
        hint = f"; prefix_tokens {fits[0]} would give one" if fits else ""
        raise ValueError(
            f"{what}: {number} tokens without prefix_tokens {prefix_tokens} form no grid for {size[0]} x {size[1]} "
            f"pixels{hint}"
        )
    return output[:, prefix_tokens:].transpose(1, 2).unflatten(2, grid)


@dataclass(frozen=True)
class Layer:
    """The output or the input of one module, as a representation.

    Args:
        name: the module's name; the empty name is the whole network.
        calls: how often the module runs; its last call is read.
        given: whether to read the module's input instead of its output.
        prefix_tokens, channels_last: as in `as_representation`.
    """

    name: str
    calls: int = 1
    given: bool = False
    prefix_tokens: int = 0
    channels_last: bool = False

    def __call__(self, network: nn.Module, inputs: Tensor) -> Tensor:
        """The representation of a network's input."""
        return read_layers(network, inputs, [self])[0]


def read_layers(network: nn.Module, inputs: Tensor, layers: Sequence[Layer]) -> list[Tensor]:
    """The representations at several layers, from one pass that ends when all of them have been read."""
    seen: list[list[Any]] = [[] for _ in layers]

    def take(place: int, value: Any) -> None:
        several = len(layers) > 1 and isinstance(value, Tensor)
        seen[place].append(value.clone() if several else value)  # later layers may write into it
        if all(layer.name and len(own) >= layer.calls for layer, own in zip(layers, seen, strict=True)):
            raise _Reached

    handles = []
    for place, layer in enumerate(layers):
        module = network.get_submodule(layer.name)
        if layer.given:
            handles.append(module.register_forward_pre_hook(lambda _, given, place=place: take(place, given[0])))
        else:
            handles.append(module.register_forward_hook(lambda _, __, output, place=place: take(place, output)))
    try:
        network(inputs)
    except _Reached:
        pass
    finally:
        for handle in handles:
            handle.remove()
    size = size_of(inputs)
    return [
        as_representation(own[-1], size, layer.prefix_tokens, layer.channels_last, f"layer '{layer.name}'")
        for layer, own in zip(layers, seen, strict=True)
    ]


@torch.no_grad()
def trace(network: nn.Module, inputs: Tensor) -> list[tuple[str, tuple[int, ...]]]:
    """The names of all modules that run, in the order in which they finish, with the shapes of their outputs; `()` for
    an output that is not a tensor."""
    steps: list[tuple[str, tuple[int, ...]]] = []

    def note(name: str, output: Any) -> None:
        first = output[0] if isinstance(output, (tuple, list)) and output else output
        steps.append((name, tuple(first.shape) if isinstance(first, Tensor) else ()))

    handles = [
        module.register_forward_hook(lambda _, __, output, name=name: note(name, output))
        for name, module in network.named_modules()
    ]
    try:
        network(inputs)
    finally:
        for handle in handles:
            handle.remove()
    return steps


def at_layer(
    network: nn.Module, layer: str, example: Tensor, source: str, prefix_tokens: int = 0, channels_last: bool = False
) -> Reading:
    """The reading of a layer of any network.

    `logits` is the network's output, `pooled` the input of its last linear layer, and `spatial` the last output that is
    a map with more than one pixel or a grid of tokens.

    Args:
        network: the network, in evaluation mode.
        layer: one of `PLACES` or a module's name.
        example: inputs `(B, *input_shape)`.
        source: as in `find_layer`.
        prefix_tokens, channels_last: as in `as_representation`.

    Raises:
        ValueError: the layer does not exist or never runs.
    """
    if layer == "logits":
        return Layer("", prefix_tokens=prefix_tokens, channels_last=channels_last)
    if layer not in PLACES:
        find_layer(network, layer, source)
    steps = trace(network, example)
    calls = [name for name, _ in steps]
    if layer == "pooled":
        linear = [name for name in calls if isinstance(network.get_submodule(name), nn.Linear)]
        if not linear:
            raise ValueError(
                f"layer: {type(network).__name__} has no linear layer, so it has no 'pooled'; give a module's name"
            )
        return Layer(linear[-1], calls.count(linear[-1]), given=True)
    if layer == "spatial":
        size = size_of(example)
        maps = [name for name, shape in steps if _is_map(shape, size, prefix_tokens)]
        if not maps:
            raise ValueError(
                f"layer: no module of {type(network).__name__} returns a map, so it has no 'spatial'; give 'logits', "
                "'pooled' or a module's name"
            )
        layer = maps[-1]
    elif layer not in calls:
        raise ValueError(f"layer: '{layer}' does not run in a forward pass of {type(network).__name__}")
    return Layer(layer, calls.count(layer), prefix_tokens=prefix_tokens, channels_last=channels_last)


def _is_map(shape: tuple[int, ...], size: Size, prefix_tokens: int) -> bool:
    if len(shape) == 3 and size is None:
        return shape[2] > 1
    if len(shape) == 3 and size is not None:
        tokens = shape[1] - prefix_tokens
        return tokens > 1 and token_grid(tokens, size) is not None
    return len(shape) == 4 and shape[-2:] != (1, 1)
