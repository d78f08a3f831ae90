"""An invertible affine map whose scale and shift are functions of a condition."""

import torch
from torch import Tensor

from fibermodels.nn.affine_couplings import AffineCouplings
from fibermodels.nn.invertible import Invertible
from fibermodels.nn.residual_mlp import ResidualMLP


class ConditionalAffine(Invertible):
    """`(value - mean(context)) / std(context)`: standard normal where `value` is Gaussian given `context` `(B, >= 1)`.

    Args:
        width: width of the network that reads the condition.
        blocks: its residual blocks.
    """

    MAX_LOG_STD = 6.0  # only a bad training step would go beyond it
    least_dim = 1

    def __init__(self, width: int = 256, blocks: int = 2) -> None:
        super().__init__()
        self.width, self.blocks = width, blocks

    def create(self, dim: int, context: int) -> None:
        self.network = ResidualMLP(context, 2 * dim, self.width, self.blocks, zero_output=True)

    def run(self, value: Tensor, context: Tensor | None, reverse: bool) -> tuple[Tensor, Tensor]:
        mean, raw = self.network(context).chunk(2, -1)
        log_std: Tensor = self.MAX_LOG_STD * torch.tanh(raw / self.MAX_LOG_STD)
        if reverse:
            return mean + value * log_std.exp(), log_std.sum(1)
        return (value - mean) * (-log_std).exp(), -log_std.sum(1)


def conditional_flow(dim: int, context: int, width: int, blocks: int, layers: int, seed: int) -> Invertible:
    """Affine couplings; in one dimension, which has no halves to couple, a `ConditionalAffine`."""
    recipe = ConditionalAffine(width, layers) if dim == 1 else AffineCouplings(width, blocks, layers, seed)
    return recipe.build(dim, context)
