"""Muon: momentum whose matrices are made orthogonal, beside AdamW for everything else.

    M <- mu M + (1 - mu) G,   N = (1 - mu) G + mu M,   W <- (1 - r w) W - r 0.2 sqrt(max(rows, columns)) orth(N)

`orth(N)` is the matrix `U V'` of the singular value decomposition `N = U S V'`: all directions of the update have the
same length, also those in which the gradients are small. Five Newton-Schulz steps, which are products of matrices,
bring the singular values near 1 (into about [0.7, 1.2]). A convolution is a matrix of its output channels by all other
numbers. The factor gives the update the root mean square of AdamW's, so both share a learning rate and a weight decay.

References: Jordan et al., Muon, 2024 (the iteration and its coefficients); Liu et al., arXiv 2502.16982, 2025 (the
factor, section 2.2). `torch.optim.Muon` has neither convolutions nor the other parameters.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of the polynomial `a X + b X X' X + c (X X')^2 X`, whose slope at 0 is large."""

LEAST = 16
"""Rows and columns of the matrices that are made orthogonal. Below it are the colours of an output layer, for example;
there AdamW gives better samples (`docs/cifar10.md`)."""

MATCH = 0.2
"""The root mean square of AdamW's usual update, in learning rates."""


class Muon(torch.optim.AdamW):
    """Muon for parameters that are matrices of at least 16 rows and columns, AdamW for the others.

    Args:
        params: tensors, or groups of them.
        lr: the learning rate of both.
        betas, weight_decay: AdamW's; the decay is that of the matrices, too.
        momentum: mu, in [0, 1).
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        weight_decay: float = 0.01,
        momentum: float = 0.95,
    ) -> None:
        super().__init__(params, lr=lr, betas=betas, weight_decay=weight_decay)
        self.momentum = momentum

    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One update; returns what `closure`, which computes the gradients, returns."""
        found = None
        if closure is not None:
            with torch.enable_grad():
                found = closure()
        gradients = {}
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None and is_large(weight):
                    gradients[weight], weight.grad = weight.grad, None  # AdamW leaves out what has no gradient
                    self._move(weight, gradients[weight], group["lr"], group["weight_decay"])
        super().step()
        for weight, gradient in gradients.items():
            weight.grad = gradient
        return found

    @torch.no_grad()
    def _move(self, weight: Tensor, gradient: Tensor, rate: float, decay: float) -> None:
        state = self.state[weight]
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(weight)
            state["step"] = torch.zeros(())  # AdamW expects it in every state that it loads
        state["step"] += 1
        momentum = state["momentum"].lerp_(gradient, 1 - self.momentum)
        update = orthogonal(gradient.lerp(momentum, self.momentum).flatten(1))
        length = MATCH * max(update.shape) ** 0.5
        weight.mul_(1 - rate * decay).add_(update.view_as(weight), alpha=-rate * length)


def is_large(weight: Tensor) -> bool:
    """Whether it is a matrix of at least 16 rows and columns; a convolution has its output channels as rows."""
    return weight.ndim > 1 and len(weight) >= LEAST and weight.numel() >= LEAST * len(weight)


def orthogonal(matrix: Tensor, steps: int = 5) -> Tensor:
    """About `U V'` of a matrix `U S V'`, by Newton-Schulz steps.

    Args:
        matrix: `(rows, columns)`, at least one of each.
        steps: of the iteration.
    """
    a, b, c = COEFFICIENTS
    wide = matrix.mT if matrix.shape[0] > matrix.shape[1] else matrix  # the products are the smaller ones
    found = wide / (wide.norm() + 1e-7)
    for _ in range(steps):
        square = found @ found.mT
        found = a * found + (b * square + c * square @ square) @ found
    return found.mT if matrix.shape[0] > matrix.shape[1] else found
