"""Damped least squares, row by row: steps towards `r(u) = 0` for any differentiable `r`.

With the Jacobian `J = dr/du` `(F, U)` the damped step of Levenberg and Marquardt is `-dz` with

    dz = J^T (J J^T + lam I)^-1 r = (J^T J + lam I)^-1 J^T r.

As `lam -> 0` it is the shortest step to `r = 0` of the linearised problem, or to its least squares. `damping` is `lam`
in units of `|J g|^2 / |g|^2`, the curvature along the gradient `g = J^T r`, so no choice of units for `r` or `u`
changes it. Reverse mode is enough: `J v` is the derivative of `J^T w`, which is linear in `w`, along `v`.

References: Levenberg (1944); Marquardt (1963); Nocedal & Wright, Numerical Optimization, chapter 10.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from fibermodels import distances
from fibermodels.checks import check_number
from fibermodels.config import Recorded
from fibermodels.guidance.objective import gradient


class Linearised:
    """A residual near a point, every row by itself.

    Args:
        residual: `(B, U)` to `(B, F)`.
        point: `(B, U)`.

    Raises:
        ValueError: a residual that is not finite, or that does not depend on the point.
    """

    def __init__(self, residual: Callable[[Tensor], Tensor], point: Tensor) -> None:
        self.point = point.detach().requires_grad_()
        # Fused attention cannot be differentiated twice; the plain one can.
        with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
            self._value = residual(self.point)
            cost = 0.5 * self._value.square().sum(1)
        self.residual = self._value.detach()
        (self.gradient,) = gradient(cost, self.point, retain_graph=True)
        """`J^T r`, `(B, U)`."""
        self._twice: tuple[Tensor, Tensor] | None = None

    def pull(self, w: Tensor) -> Tensor:
        """`J^T w`, `(B, U)`, for `w` `(B, F)`."""
        (found,) = torch.autograd.grad(self._value, self.point, w, retain_graph=True)
        return found

    def push(self, v: Tensor) -> Tensor:
        """`J v`, `(B, F)`, for `v` `(B, U)`."""
        if self._twice is None:
            with torch.enable_grad():
                w = torch.zeros_like(self.residual).requires_grad_()
                (pulled,) = torch.autograd.grad(self._value, self.point, w, create_graph=True)
            self._twice = w, pulled
        w, pulled = self._twice
        (found,) = torch.autograd.grad(pulled, w, v, retain_graph=True)
        return found

    def jacobian(self) -> Tensor:
        """`J`, `(B, F, U)`, by as many products as its smaller side has."""
        wide = self.residual.shape[1] <= self.point.shape[1]
        product, smaller, side = (self.pull, self.residual, 1) if wide else (self.push, self.point, 2)
        units = torch.eye(smaller.shape[1], dtype=smaller.dtype, device=smaller.device)
        return torch.stack([product(unit.expand_as(smaller)) for unit in units], side)


def rms(residual: Tensor) -> Tensor:
    """The root mean square of each row, `(B,)`."""
    return distances.rms(torch.zeros_like(residual), residual)


def curvature(gradient: Tensor, pushed: Tensor) -> Tensor:
    """`|J g|^2 / |g|^2`, `(B,)`, for `g` and `J g`; 0 where the gradient is 0."""
    return pushed.square().sum(1) / gradient.square().sum(1).clamp(min=torch.finfo(gradient.dtype).tiny)


def damped_inverse(jacobian: Tensor, damping: Tensor) -> Callable[[Tensor], Tensor]:
    """`w -> J^T (J J^T + lam I)^-1 w` from one factorisation of the smaller of the two systems.

    Args:
        jacobian: `(B, F, U)`.
        damping: `lam` `(B,)`. A small number against rounding is added, so that 0 gives the pseudo-inverse.

    Returns:
        A function from `(B, F)` to `(B, U)`; NaN in a row that has no factorisation.
    """
    wide = jacobian.shape[1] <= jacobian.shape[2]
    gram = jacobian @ jacobian.mT if wide else jacobian.mT @ jacobian
    diagonal = gram.diagonal(dim1=1, dim2=2)
    rounding = 10 * torch.finfo(gram.dtype).eps * diagonal.mean(1)
    lam = damping + rounding.clamp(min=torch.finfo(gram.dtype).tiny)
    factor, failed = torch.linalg.cholesky_ex(gram + torch.diag_embed(lam[:, None].expand_as(diagonal)))
    factor = torch.where(failed[:, None, None] == 0, factor, torch.nan)

    def inverse(w: Tensor) -> Tensor:
        if wide:
            return (jacobian.mT @ torch.cholesky_solve(w[..., None], factor))[..., 0]
        return torch.cholesky_solve(jacobian.mT @ w[..., None], factor)[..., 0]

    return inverse


class Exact(metaclass=Recorded):
    """By the Jacobian: as many backward passes as the residual or the unknown has dimensions, whichever are fewer.

    One Jacobian serves all dampings, and costs more than trying several.
    """

    trials = 4
    """How many dampings a row may try from one point."""

    def steps(self, at: Linearised) -> Callable[[Tensor], Tensor]:
        """The damped `dz` `(B, U)` as a function of the damping `(B,)`, in units of the curvature."""
        jacobian = at.jacobian()
        unit = curvature(at.gradient, (jacobian @ at.gradient[..., None])[..., 0])
        return lambda damping: damped_inverse(jacobian, damping * unit)(at.residual)


class ConjugateGradients(metaclass=Recorded):
    """By conjugate gradients on `(J^T J + lam I) dz = J^T r`, without a Jacobian, for large residuals and unknowns.

    Every row has its own scalars. The start is 0, so without damping the iterates go to the shortest solution.

    Args:
        iterations: the most in one step, of two backward passes each.
        tolerance: a row whose residual falls to this share of its first one stays there.
    """

    trials = 1

    def __init__(self, iterations: int = 20, tolerance: float = 1e-8) -> None:
        check_number("ConjugateGradients", "iterations", iterations, least=1)
        check_number("ConjugateGradients", "tolerance", tolerance, least=0)
        self.iterations, self.tolerance = iterations, tolerance

    def steps(self, at: Linearised) -> Callable[[Tensor], Tensor]:
        """As in `Exact`."""
        return lambda damping: self._step(at, damping)

    def _step(self, at: Linearised, damping: Tensor) -> Tensor:
        b = at.gradient
        lam = (damping * curvature(b, at.push(b)))[:, None]
        step, left, direction = torch.zeros_like(b), b, b
        size = first = b.square().sum(1, keepdim=True)
        for _ in range(self.iterations):
            going = size > self.tolerance**2 * first
            if not going.any():
                break
            along = at.push(direction)
            bend = along.square().sum(1, keepdim=True) + lam * direction.square().sum(1, keepdim=True)
            rate = torch.where(going, size / bend, 0.0)
            step = step + rate * direction
            left = left - rate * (at.pull(along) + lam * direction)
            before, size = size, left.square().sum(1, keepdim=True)
            direction = left + torch.where(going, size / before, 0.0) * direction
        return step


Solver = Exact | ConjugateGradients
"""How a damped step is computed."""
