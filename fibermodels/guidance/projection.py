"""Samples projected onto the fiber by the method of Levenberg and Marquardt.

The residual `r(z) = phi(decode(z, h)) - h` has to vanish. A step of Gauss and Newton is the shortest that solves the
linearised problem (see `gauss_newton.py`); near the fiber each step squares the residual. Farther off a step can
overshoot, so each row has its own damping: a step that lowers the row's residual is kept and the damping falls, any
other step is undone and the damping grows. The shortest step is normal to the fiber, so a sample keeps its place along
the fiber. `Langevin` changes that place.

References: Levenberg (1944); Marquardt (1963).
"""

from typing import Literal, get_args

import torch
from torch import Tensor

from fibermodels.checks import check_choice, check_numbers
from fibermodels.core import FiberModel, LatentSpace, Subject
from fibermodels.guidance.gauss_newton import Exact, Linearised, Solver, rms
from fibermodels.guidance.refine import Refined

Over = Literal["latents", "condition", "both"]

EASE, STRAIN = 0.2, 10.0
"""What a row's damping is multiplied by after a step that lowered its residual, and after one that did not."""


class FiberProjection(Refined):
    """Levenberg-Marquardt onto the fiber.

    Args:
        model, subject, latents: as in `Refined`.
        iterations: the most steps; 0 leaves the samples alone.
        damping: of the first step, in units of the curvature along the gradient; 0 is Gauss-Newton.
        tolerance: a row whose RMS distance to the target is below it is left alone.
        over: the unknown: the `latents`; the `condition` that the decoder is told, for a latent space whose
            decoder sees `h`; or `both`, as one vector. The target stays `h`.
        solver: what solves for a step; None takes `Exact`.

    Raises:
        ValueError: as in `Refined`; a number out of its range; an unknown `over`; when sampling, a decoder that does
            not see the condition that is asked for.
    """

    def __init__(
        self,
        model: FiberModel,
        subject: Subject,
        latents: LatentSpace | None = None,
        iterations: int = 5,
        damping: float = 1e-2,
        tolerance: float = 1e-4,
        over: Over = "latents",
        solver: Solver | None = None,
    ) -> None:
        super().__init__(model, subject, latents, iterations)
        numbers = {"iterations": iterations, "damping": damping, "tolerance": tolerance}
        check_numbers("FiberProjection", numbers, least=0)
        check_choice("FiberProjection", "over", over, get_args(Over))
        self.damping, self.tolerance = damping, tolerance
        self.over: Over = over
        self.solver = solver or Exact()

    def refine(self, z: Tensor, h: Tensor, noise: Tensor) -> Tensor:
        return self._render(self.project(z, h), z, h)

    def project(self, z: Tensor, h: Tensor) -> Tensor:
        """The unknown `(B, U)` after the projection, from latents `(B, D)` and the targets, row by row."""
        told = h.flatten(1)
        unknown = {"latents": z, "condition": told, "both": torch.cat((z, told), 1)}[self.over]
        off = rms(self._residual(unknown, z, h))
        damping = torch.full_like(off, self.damping)
        for _ in range(self.steps):
            rows = (~(off < self.tolerance)).nonzero()[:, 0]  # written so that NaN stays, and is reported
            if not len(rows):
                break
            new, off[rows], damping[rows] = self._iterate(unknown[rows], z[rows], h[rows], off[rows], damping[rows])
            unknown = unknown.index_copy(0, rows, new)
        return unknown

    def _render(self, unknown: Tensor, z: Tensor, h: Tensor) -> Tensor:
        """Images `(B, C, H, W)`; `z` and `h` take the place of what is not unknown."""
        if self.over == "latents":
            return self.space.decode(unknown, h)
        if self.over == "both":
            z, unknown = unknown.split((z.shape[1], unknown.shape[1] - z.shape[1]), 1)
        images = self.space.decode(z, unknown.unflatten(1, h.shape[1:]))
        if torch.is_grad_enabled() and not images.requires_grad:
            raise ValueError(
                f"FiberProjection: over: '{self.over}' expects a latent space whose decoder sees the "
                f"representation, got {type(self.space).__name__}"
            )
        return images

    def _residual(self, unknown: Tensor, z: Tensor, h: Tensor) -> Tensor:
        return (self.subject(self._render(unknown, z, h)) - h).flatten(1)

    def _iterate(
        self, unknown: Tensor, z: Tensor, h: Tensor, off: Tensor, damping: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The next unknown, its RMS residual, and its damping, of rows that are `off`."""
        at = Linearised(lambda u: self._residual(u, z, h), unknown)
        step = self.solver.steps(at)
        waits = torch.ones_like(off, dtype=torch.bool)
        for _ in range(self.solver.trials):
            trial = at.point.detach() - step(damping)
            found = rms(self._residual(trial, z, h))
            better = waits & (found < off)
            unknown = torch.where(better[:, None], trial, unknown)
            off = torch.where(better, found, off)
            damping = torch.where(better, EASE * damping, torch.where(waits, STRAIN * damping.clamp(min=1e-4), damping))
            waits = waits & ~better
            if not waits.any():
                break
        return unknown, off, damping
