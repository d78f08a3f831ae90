"""The network of vectors: a residual MLP that sees times and a representation in every block."""

import math

import torch
from torch import Tensor

from fibermodels.nn.network import Network
from fibermodels.nn.residual_mlp import ResidualMLP
from fibermodels.nn.time_embedding import TimeEmbedding

FREQUENCY, SLOW_FREQUENCY = 100.0, 2.0
"""Of the time embedding: usually, and where the objective contains the derivative in time, of which it is a factor."""


class MLP(Network):
    """A residual MLP. It flattens maps, in the state and in the representation.

    Args:
        width: dimensions of the residual stream, at least 1.
        blocks: residual blocks, at least 0.
        time_dim: dimensions of the embedding of each time, even.
        max_frequency: of the time embedding, in half periods from `t = 0` to 1; None takes 100, or 2 where the
            objective contains the derivative in time.
    """

    def __init__(
        self, width: int = 512, blocks: int = 4, time_dim: int = 64, max_frequency: float | None = None
    ) -> None:
        super().__init__()
        self.width, self.blocks, self.time_dim, self.max_frequency = width, blocks, time_dim, max_frequency

    def create(self, shape: tuple[int, ...], times: int, differentiated: bool) -> None:
        dim, told = math.prod(shape), math.prod(self.feature_shape) if self.feature_shape else 0
        usual = SLOW_FREQUENCY if differentiated else FREQUENCY
        self.time = TimeEmbedding(self.time_dim, usual if self.max_frequency is None else self.max_frequency)
        context = times * self.time_dim + told
        self.layers = ResidualMLP(dim + told, dim, self.width, self.blocks, context=context, zero_output=True)

    def encode(self, h: Tensor) -> Tensor:
        return h.flatten(1)

    def forward(self, z: Tensor, times: tuple[Tensor, ...], condition: Tensor | None) -> Tensor:
        told = () if condition is None else (condition,)
        context = torch.cat((*(self.time(t) for t in times), *told), -1)
        output: Tensor = self.layers(torch.cat((z, *told), -1), context)
        return output
