"""The base of all subjects that read a layer of a given network."""

from abc import ABC

import torch
from torch import Tensor, nn

from fibermodels.core import Subject
from fibermodels.subjects.layers import Reading
from fibermodels.subjects.preprocess import Preprocess


class Networked(Subject, ABC):
    """`phi(x) = read(network, preprocess(x))`, all channels or some.

    Args:
        network: the network with its weights.
        preprocess: maps images of the data to the network's input.
        reading: maps the network and its input to a representation.
        units: channels of the map, or entries of the vector, in this order; None takes all.

    Raises:
        ValueError: `units` is empty or has numbers out of range.
    """

    def __init__(self, network: nn.Module, preprocess: Preprocess, reading: Reading, units: list[int] | None) -> None:
        super().__init__()
        self.image_shape = preprocess.image_shape
        self.network, self.preprocess, self.reading = network, preprocess, reading
        self.units: list[int] | None = None
        self.freeze()
        with torch.no_grad():
            shape = self(torch.zeros(1, *self.image_shape)).shape[1:]
        if units is not None:
            bad = [unit for unit in units if not 0 <= unit < shape[0]]
            if bad or not units:
                raise ValueError(f"units: expected numbers from 0 to {shape[0] - 1}, got {bad or units}")
            self.units = list(units)
            shape = torch.Size((len(units), *shape[1:]))
        self.feature_shape = tuple(shape)

    def forward(self, images: Tensor) -> Tensor:
        h = self.reading(self.network, self.preprocess(images))
        return h if self.units is None else h[:, self.units]
