"""An invertible conditional network of affine coupling blocks.

A block splits its input in two, `(u, v)`, and changes one half as a network of the other and of the
context says; a learned scale and offset per dimension and a fixed permutation follow:

    v' = v exp(2 tanh s) + t,   (s, t) = network(u, context) / 10
    out = permutation(exp(g / 10) (u, v') + o)

`log |det|` is the sum of `2 tanh s` and `g / 10`. The tenths make the scales move gently under a
learning rate that suits the rest.
"""

from typing import cast

import torch
from torch import Tensor, nn

GENTLY = 0.1
LARGEST_LOG_SCALE = 2.0
"""Of one block, however large its network's output: what keeps the inverse exact."""


class Affine(nn.Module):
    """`value @ first + context @ second + bias`.

    `nn.Linear` on the two side by side is the same map and takes 1.4 times as long in training: it
    stores its weight the other way round, where the gradient of a wide layer with few inputs is slow,
    and it computes a gradient for the context that nobody wants.
    """

    def __init__(self, value: int, context: int, outputs: int) -> None:
        super().__init__()
        bound = (value + context) ** -0.5  # as nn.Linear starts
        self.value = nn.Parameter(torch.empty(value, outputs).uniform_(-bound, bound))
        self.context = nn.Parameter(torch.empty(context, outputs).uniform_(-bound, bound)) if context else None
        self.bias = nn.Parameter(torch.empty(outputs).uniform_(-bound, bound))

    def forward(self, value: Tensor, context: Tensor | None) -> Tensor:
        if self.context is None:
            return torch.addmm(self.bias, value, self.value)
        if context is None:
            raise ValueError(f"CouplingFlow: expected a context of {len(self.context)} dimensions, got None")
        if torch.is_grad_enabled():
            return torch.addmm(torch.addmm(self.bias, context, self.context), value, self.value)
        weight = torch.cat((self.value, self.context))  # without gradients, one product is faster than two
        return torch.addmm(self.bias, torch.cat((value, context), 1), weight)


class CouplingBlock(nn.Module):
    """One block of a `CouplingFlow`."""

    order: Tensor
    back: Tensor

    def __init__(self, dim: int, context: int, width: int, layers: int, order: Tensor) -> None:
        super().__init__()
        self.halves = (dim - dim // 2, dim // 2)
        self.enter = Affine(self.halves[0], context, width)
        hidden = [part for _ in range(layers - 1) for part in (nn.SiLU(), nn.Linear(width, width))]
        last = nn.Linear(width, 2 * self.halves[1])
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.leave = nn.Sequential(*hidden, nn.SiLU(), last)
        self.log_scale = nn.Parameter(torch.zeros(dim))
        self.offset = nn.Parameter(torch.zeros(dim))
        self.register_buffer("order", order)
        self.register_buffer("back", order.argsort())

    def forward(self, value: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        """The image, and `log |det|` as terms `(B, dim // 2)` still to be summed."""
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


class CouplingFlow(nn.Module):
    """Vectors `(B, dim)` to vectors `(B, dim)`, invertible at every condition `(B, context)`.

    It computes in float32 (or float64) whatever the trainer's precision: in bfloat16 its inverse is
    wrong in the second digit.

    Args:
        dim: dimensions of the vectors; at least 2, for a block changes one half and looks at the other.
        context: dimensions of the condition; 0 for none.
        width: width of the hidden layers of each coupling network.
        blocks: coupling blocks, each followed by a fixed permutation.
        layers: hidden layers of each coupling network.
        seed: of the permutations.

    Reference: Dinh et al., arXiv 1605.08803; conditional as in Ardizzone et al., arXiv 1907.02392;
    scale and offset as in Kingma and Dhariwal, arXiv 1807.03039.
    """

    def __init__(self, dim: int, context: int, width: int = 512, blocks: int = 16, layers: int = 1, seed: int = 0):
        super().__init__()
        for name, size, least in (("dim", dim, 2), ("width", width, 1), ("blocks", blocks, 1), ("layers", layers, 1)):
            if size < least:
                raise ValueError(f"CouplingFlow: {name} must be at least {least}, got {size}")
        self.context = context
        generator = torch.Generator().manual_seed(seed)
        # Every other permutation is random; those between turn the order round, so that a pair of blocks
        # changes every dimension: with few dimensions, random ones alone leave some unchanged for long.
        orders = [
            torch.arange(dim).flip(0) if i % 2 == 0 else torch.randperm(dim, generator=generator) for i in range(blocks)
        ]
        self.blocks = nn.ModuleList(CouplingBlock(dim, context, width, layers, order) for order in orders)

    def forward(self, value: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The image of `value` and `log |det|` of the Jacobian, `(B,)`."""
        return self._run(value, context, rev=False)

    def inverse(self, value: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The preimage of `value` and `log |det|` of the inverse's Jacobian, `(B,)`."""
        value, log_det = self._run(value, context, rev=True)
        return value, -log_det

    def _run(self, value: Tensor, context: Tensor | None, rev: bool) -> tuple[Tensor, Tensor]:
        with torch.autocast(value.device.type, enabled=False):
            value = value if value.dtype == torch.float64 else value.float()
            context = None if context is None or not self.context else context.to(value.dtype)
            blocks = cast(list[CouplingBlock], list(self.blocks))
            terms = []
            for block in reversed(blocks) if rev else blocks:
                value, log_scale = block.inverse(value, context) if rev else block(value, context)
                terms.append(log_scale)
            constant = GENTLY * torch.stack([block.log_scale for block in blocks]).sum()
            return value, torch.cat(terms, 1).sum(1) + constant
