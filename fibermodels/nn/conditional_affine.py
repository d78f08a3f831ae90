"""An invertible affine map whose scale and shift are functions of a condition."""

import torch
from torch import Tensor, nn

from fibermodels.nn.coupling_flow import CouplingFlow
from fibermodels.nn.residual_mlp import ResidualMLP


class ConditionalAffine(nn.Module):
    """`(value - mean(context)) / std(context)`: standard normal where `value` is Gaussian given `context`.

    Like `CouplingFlow` it computes in float32 (or float64) whatever the trainer's precision.

    Args:
        dim: dimensions of the vectors.
        context: dimensions of the condition.
        width: width of the network that reads the condition.
        blocks: its residual blocks.
    """

    MAX_LOG_STD = 6.0  # beyond it lies only what a bad step would do

    def __init__(self, dim: int, context: int, width: int = 256, blocks: int = 2) -> None:
        super().__init__()
        self.network = ResidualMLP(context, 2 * dim, width, blocks, zero_output=True)

    def forward(self, value: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        """The image of `value` and `log |det|` of the Jacobian, `(B,)`."""
        exact, mean, log_std = self._prepare(value, context)
        return (exact - mean) * (-log_std).exp(), -log_std.sum(1)

    def inverse(self, value: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        """The preimage of `value` and `log |det|` of the inverse's Jacobian, `(B,)`."""
        exact, mean, log_std = self._prepare(value, context)
        return mean + exact * log_std.exp(), log_std.sum(1)

    def _prepare(self, value: Tensor, context: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        with torch.autocast(value.device.type, enabled=False):
            exact = value if value.dtype == torch.float64 else value.float()
            mean, raw = self.network(context.to(exact.dtype)).chunk(2, -1)
        return exact, mean, self.MAX_LOG_STD * (raw / self.MAX_LOG_STD).tanh()


def conditional_flow(
    dim: int, context: int, width: int, blocks: int, layers: int, seed: int
) -> CouplingFlow | ConditionalAffine:
    """A `CouplingFlow`; in one dimension, which has no halves to couple, a `ConditionalAffine`."""
    if dim == 1:
        return ConditionalAffine(1, context, width, layers)
    return CouplingFlow(dim, context, width, blocks, layers, seed)
