"""An invertible conditional network of affine coupling blocks (FrEIA's)."""

from typing import Any

import torch
from torch import Tensor, nn


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

    Reference: Dinh et al., arXiv 1605.08803; conditional as in Ardizzone et al., arXiv 1907.02392.
    """

    def __init__(self, dim: int, context: int, width: int = 512, blocks: int = 16, layers: int = 1, seed: int = 0):
        super().__init__()
        for name, size, least in (("dim", dim, 2), ("width", width, 1), ("blocks", blocks, 1), ("layers", layers, 1)):
            if size < least:
                raise ValueError(f"CouplingFlow: {name} must be at least {least}, got {size}")
        self.context = context
        self.flow = _blocks(dim, context, width, blocks, layers, seed)

    def forward(self, value: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The image of `value` and `log |det|` of the Jacobian, `(B,)`."""
        return self._run(value, context, rev=False)

    def inverse(self, value: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The preimage of `value` and `log |det|` of the inverse's Jacobian, `(B,)`."""
        return self._run(value, context, rev=True)

    def _run(self, value: Tensor, context: Tensor | None, rev: bool) -> tuple[Tensor, Tensor]:
        with torch.autocast(value.device.type, enabled=False):
            exact = value if value.dtype == torch.float64 else value.float()
            conditions = None if context is None or not self.context else [context.to(exact.dtype)]
            result: tuple[Tensor, Tensor] = self.flow(exact, conditions, rev=rev)
        return result


def _blocks(dim: int, context: int, width: int, blocks: int, layers: int, seed: int) -> nn.Module:
    """FrEIA initialises them from numpy's global state, which is put back afterwards."""
    import numpy as np
    from FrEIA.framework import SequenceINN
    from FrEIA.modules import AllInOneBlock

    def subnet(inputs: int, outputs: int) -> nn.Module:
        last = nn.Linear(width, outputs)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        hidden = [part for _ in range(layers - 1) for part in (nn.Linear(width, width), nn.SiLU())]
        return nn.Sequential(nn.Linear(inputs, width), nn.SiLU(), *hidden, last)

    state: Any = np.random.get_state()
    np.random.seed(seed)
    try:
        flow = SequenceINN(dim)
        condition = {"cond": 0, "cond_shape": (context,)} if context else {}
        for _ in range(blocks):
            flow.append(AllInOneBlock, subnet_constructor=subnet, **condition)
    finally:
        np.random.set_state(state)
    return flow
