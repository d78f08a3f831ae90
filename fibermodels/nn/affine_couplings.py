"""Invertible conditional networks of affine maps: coupling blocks, and one map of all dimensions.

A block splits its input into two halves, `(u, v)`. A network sees `u` and the context, and says how `v` is scaled and
shifted; a learned scale and offset per dimension and a fixed permutation follow:

    v' = v exp(2 tanh s) + t,   (s, t) = network(u, context) / 10
    out = permutation(exp(g / 10) (u, v') + o)

`log |det|` is the sum of `2 tanh s` and `g / 10`. The factors of a tenth slow the scales down under a learning rate
that suits the other parameters.
"""

from typing import cast

import torch
from torch import Tensor, nn

from fibermodels.checks import check_numbers
from fibermodels.nn.invertible import Invertible
from fibermodels.nn.residual_mlp import ResidualMLP, zeroed

GENTLY = 0.1
LARGEST_LOG_SCALE = 2.0
"""Of one block, however large its network's output is: so that the inverse stays exact."""


class Affine(nn.Module):
    """`value @ first + context @ second + bias`.

    `nn.Linear` on the two side by side is the same map, and slower in training: it stores its weight transposed, which
    makes the gradient of a wide layer with few inputs slow, and computes a gradient for the context.
    """

    def __init__(self, value: int, context: int, outputs: int) -> None:
        super().__init__()
        bound = (value + context) ** -0.5  # as nn.Linear starts
        self.value = nn.Parameter(torch.empty(value, outputs).uniform_(-bound, bound))
        self.context = nn.Parameter(torch.empty(context, outputs).uniform_(-bound, bound)) if context else None
        self.bias = nn.Parameter(torch.empty(outputs).uniform_(-bound, bound))

    def forward(self, value: Tensor, context: Tensor | None) -> Tensor:
        if self.context is None or context is None:
            return torch.addmm(self.bias, value, self.value)
        if torch.is_grad_enabled():
            return torch.addmm(torch.addmm(self.bias, context, self.context), value, self.value)
        weight = torch.cat((self.value, self.context))  # one product is faster than two
        return torch.addmm(self.bias, torch.cat((value, context), 1), weight)


class CouplingBlock(nn.Module):
    """One block of `AffineCouplings`."""

    order: Tensor
    back: Tensor

    def __init__(self, dim: int, context: int, width: int, layers: int, order: Tensor) -> None:
        super().__init__()
        self.halves = (dim - dim // 2, dim // 2)
        self.enter = Affine(self.halves[0], context, width)
        hidden = [part for _ in range(layers - 1) for part in (nn.SiLU(), nn.Linear(width, width))]
        self.leave = nn.Sequential(*hidden, nn.SiLU(), zeroed(nn.Linear(width, 2 * self.halves[1])))
        self.log_scale = nn.Parameter(torch.zeros(dim))
        self.offset = nn.Parameter(torch.zeros(dim))
        self.register_buffer("order", order)
        self.register_buffer("back", order.argsort())

    def forward(self, value: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        """The image, and the terms `(B, dim // 2)` whose sum is the coupling's `log |det|`."""
        seen, changed = value.split(self.halves, 1)
        log_scale, shift = self._coefficients(seen, context)
        value = torch.cat((seen, torch.addcmul(shift, changed, log_scale.exp())), 1)
        value = torch.addcmul(self.offset, value, (GENTLY * self.log_scale).exp())
        return value.index_select(1, self.order), log_scale

    def inverse(self, value: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        """The preimage, and `log |det|` of the forward map there, as `forward` gives it."""
        value = (value.index_select(1, self.back) - self.offset) * (-GENTLY * self.log_scale).exp()
        seen, changed = value.split(self.halves, 1)
        log_scale, shift = self._coefficients(seen, context)
        return torch.cat((seen, (changed - shift) * (-log_scale).exp()), 1), log_scale

    def _coefficients(self, seen: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        log_scale, shift = (GENTLY * self.leave(self.enter(seen, context))).chunk(2, 1)
        return LARGEST_LOG_SCALE * log_scale.tanh(), shift


class AffineCouplings(Invertible):
    """Affine coupling blocks, each followed by a fixed permutation.

    Args:
        width: width of the hidden layers of each coupling network, at least 1.
        blocks: coupling blocks, at least 1.
        layers: hidden layers of each coupling network, at least 1.
        seed: of the permutations.

    Reference: Dinh et al., arXiv 1605.08803; conditional as in Ardizzone et al., arXiv 1907.02392;
    scale and offset as in Kingma and Dhariwal, arXiv 1807.03039.
    """

    def __init__(self, width: int = 512, blocks: int = 16, layers: int = 1, seed: int = 0) -> None:
        super().__init__()
        check_numbers("AffineCouplings", {"width": width, "blocks": blocks, "layers": layers}, least=1)
        self.width, self.count, self.layers, self.seed = width, blocks, layers, seed

    def create(self, dim: int, context: int) -> None:
        generator, count = torch.Generator().manual_seed(self.seed), self.count
        # Every other permutation is random; those between reverse the order, so that a pair of blocks changes
        # every dimension. With few dimensions, random permutations alone leave some unchanged in many blocks.
        orders = (
            torch.randperm(dim, generator=generator) if i % 2 else torch.arange(dim).flip(0) for i in range(count)
        )
        self.blocks = nn.ModuleList(CouplingBlock(dim, context, self.width, self.layers, order) for order in orders)

    def run(self, value: Tensor, context: Tensor | None, reverse: bool) -> tuple[Tensor, Tensor]:
        blocks, terms = cast(list[CouplingBlock], list(self.blocks)), []
        for block in reversed(blocks) if reverse else blocks:
            value, log_scale = block.inverse(value, context) if reverse else block(value, context)
            terms.append(log_scale)
        constant = GENTLY * torch.stack([block.log_scale for block in blocks]).sum()
        log_det = torch.cat(terms, 1).sum(1) + constant
        return value, -log_det if reverse else log_det


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
