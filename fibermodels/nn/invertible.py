"""The contract of invertible networks, and the precision in which they compute."""

from abc import ABC, abstractmethod
from typing import Self, final

import torch
from torch import Tensor

from fibermodels.checks import check_number
from fibermodels.component import Component


def full_precision(value: Tensor) -> Tensor:
    """The value in float32, or unchanged if it is in float64."""
    return value if value.dtype == torch.float64 else value.float()


class Invertible(Component, ABC):
    """A map of vectors `(B, dim)` to vectors `(B, dim)`, invertible for every condition `(B, context)`.

    The constructor takes hyperparameters alone. A model knows the dimensions, and calls `build` for the layers.
    All computation is in float32 (or float64) whatever the trainer's precision, because the inverse of a flow in
    bfloat16 is wrong in the second digit.
    """

    context: int
    """Dimensions of the condition; 0 for none."""
    least_dim = 2
    """The fewest dimensions that the map takes: a coupling changes one half and looks at the other."""

    @final
    def build(self, dim: int, context: int) -> Self:
        """A network with these hyperparameters and with layers; this one stays without.

        Args:
            dim: dimensions of the vectors.
            context: dimensions of the condition; 0 for none.
        """
        check_number(type(self).__name__, "dim", dim, least=self.least_dim)
        built = type(self)(**self.arguments)
        built.context = context
        built.create(dim, context)
        return built

    @abstractmethod
    def create(self, dim: int, context: int) -> None:
        """Makes the layers; arguments as in `build`."""

    @abstractmethod
    def run(self, value: Tensor, context: Tensor | None, reverse: bool) -> tuple[Tensor, Tensor]:
        """The image of `value` (in reverse, its preimage) and `log |det|` of this direction's Jacobian, `(B,)`."""

    def forward(self, value: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The image of `value` `(B, dim)`, and `log |det|` of the Jacobian there, `(B,)`."""
        return self._exact(value, context, reverse=False)

    @final
    def inverse(self, value: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The preimage of `value` `(B, dim)`, and `log |det|` of the inverse's Jacobian, `(B,)`."""
        return self._exact(value, context, reverse=True)

    def _exact(self, value: Tensor, context: Tensor | None, reverse: bool) -> tuple[Tensor, Tensor]:
        if not self.context:
            context = None
        elif context is None:
            raise ValueError(f"{type(self).__name__}: expected a context of {self.context} dimensions, got None")
        with torch.autocast(value.device.type, enabled=False):
            value = full_precision(value)
            return self.run(value, None if context is None else context.to(value.dtype), reverse)
