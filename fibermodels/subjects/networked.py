"""The base of all subjects that read a layer of a given network."""

from abc import ABC
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Self, cast

import torch
from torch import Tensor, nn

from fibermodels.component import fingerprint
from fibermodels.core import Subject
from fibermodels.spaces import ImageSpace, InputSpace
from fibermodels.subjects.layers import Layer, Reading, read_layers
from fibermodels.subjects.preprocess import Normalise, Preprocess


def example_of(space: InputSpace, shape: Sequence[int]) -> Tensor:
    """Zeros `(B, *shape)` to try a network on: one image, or two other inputs, because a convolution of torch takes a
    batch `(B, L)` for one signal `(C, L)` if `B` is its number of channels.

    Args:
        space: of the inputs.
        shape: of one input of the network.
    """
    return torch.zeros(1 if isinstance(space, ImageSpace) else 2, *shape)


@contextmanager
def trying(network: nn.Module, space: InputSpace) -> Iterator[None]:
    """Says in the words of the user that a network does not take inputs of a space, where torch says it in its own.

    Raises:
        ValueError: naming the network and the shape.
    """
    try:
        yield
    except (RuntimeError, IndexError) as error:
        first = str(error).splitlines()[0]
        message = f"{type(network).__name__} does not take {space.word} of {list(space.shape)}: {first}"
        if len(space.shape) == 1 and (conv := next((m for m in network.modules() if isinstance(m, nn.Conv1d)), None)):
            message += f"; its Conv1d takes signals (C, L) of {conv.in_channels} channels"
        raise ValueError(message) from error


class Networked(Subject, ABC):
    """`phi(x) = read(network, preprocess(x))`, all channels or some.

    Args:
        network: the network with its weights.
        preprocess: maps inputs of the data to the network's input.
        reading: maps the network and its input to a representation.
        units: channels of the map, or entries of the vector, in this order; None takes all.

    Raises:
        ValueError: `units` is empty or has numbers out of range.
    """

    def __init__(
        self, network: nn.Module, preprocess: Preprocess | Normalise, reading: Reading, units: list[int] | None
    ) -> None:
        super().__init__()
        self.input_space = preprocess.input_space
        self.network, self.preprocess, self.reading = network, preprocess, reading
        self.units: list[int] | None = None
        self.freeze()
        example = example_of(self.input_space, self.input_shape)
        with torch.no_grad():
            count, *shape = self(example).shape
        if count != len(example):
            raise ValueError(
                f"{type(network).__name__}: expected {len(example)} outputs for {len(example)} inputs of "
                f"{list(self.input_shape)}, got {count}; the network takes inputs of another shape"
            )
        if units is not None:
            bad = [unit for unit in units if not 0 <= unit < shape[0]]
            if bad or not units:
                raise ValueError(f"units: expected numbers from 0 to {shape[0] - 1}, got {bad or units}")
            self.units = list(units)
            shape = [len(units), *shape[1:]]
        self.feature_shape = tuple(shape)

    def forward(self, images: Tensor) -> Tensor:
        return self._chosen(self.reading(self.network, self.preprocess(images)))

    def at(self, layer: str) -> Self:
        """Another layer of the same network with the same weights, all its channels.

        Raises:
            ValueError: there is no such layer.
        """
        other = type(self)(**self.arguments | {"layer": layer, "units": None})
        other.network.load_state_dict(self.network.state_dict())
        return other

    def shares(self, other: Subject) -> bool:
        same = isinstance(other, Networked) and isinstance(other.reading, Layer) and isinstance(self.reading, Layer)
        return other is self or (same and self._pass == other._pass)

    def jointly(self, subjects: Sequence[Subject], images: Tensor) -> list[Tensor]:
        if len(subjects) == 1:
            return super().jointly(subjects, images)
        own = cast(Sequence[Networked], subjects)
        layers = [cast(Layer, each.reading) for each in own]
        found = read_layers(self.network, self.preprocess(images), layers)
        return [each._chosen(h) for each, h in zip(own, found, strict=True)]

    @cached_property
    def _pass(self) -> tuple[object, ...]:
        """What determines a pass of the network: its kind, its weights and its input."""
        own = self.preprocess
        statistics = (own.mean.flatten().tolist(), own.std.flatten().tolist())
        return (type(self.network), fingerprint(self.network), statistics, *own.kind)

    def _chosen(self, h: Tensor) -> Tensor:
        return h if self.units is None else h[:, self.units]
