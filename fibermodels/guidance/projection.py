"""Samples projected onto the fiber, and moved along it.

What has to vanish is `r(z) = phi(decode(z, h)) - h`. Descent lowers it at the pace of its worst
conditioned direction; the method of Gauss and Newton solves the linearised problem at once, by the shortest
step there is (see `gauss_newton.py`), and near the fiber the residual is squared with every step. Farther
off a step can overshoot, so each row has a damping of its own: it falls with every step that
lowered the row's residual, and grows with every one that did not, which is undone.

The shortest way leads along the normals of the fiber, so what a sample is along the fiber stays as its
model drew it. Langevin's steps change that,

    dz = P (a s(z)) + sqrt(2 a) P xi - J^+ r,    P = I - J^+ J,    xi ~ N(0, I),

with the score `s` of the latents' law and the projector `P` on the tangent. Each is followed by corrections
with the same `J^+`. Here `r` is what the step before left over: a row that the projection could not bring to
its fiber goes along the one it is on, for a correction that keeps failing would lead it astray. As `a -> 0`
the steps' law is the latents' density restricted to the fiber, with respect to its surface. The conditional
law has a factor `det(J J^T)^(-1/2)` besides (co-area formula), which is left out: it is constant where the
representation bends little along the fiber.

References: Levenberg (1944), Marquardt (1963); Lelievre, Rousset & Stoltz, Math. Comp. 81 (2012)
(Langevin's equation under constraints).
"""

from typing import Literal, get_args

import torch
from torch import Tensor

from fibermodels import distances
from fibermodels.core import FiberModel, LatentSpace, Subject
from fibermodels.diffusion import Prior
from fibermodels.guidance.gauss_newton import Linearised, damped_inverse, exact_steps, matrix_free_step
from fibermodels.guidance.refine import Refined

Over = Literal["latents", "condition", "both"]
Solver = Literal["exact", "matrix_free"]

EASE, STRAIN = 0.2, 10.0
"""What a row's damping is multiplied by after a step that lowered its residual, and after one that did not."""

TRIALS = 4
"""Dampings that a row tries with one exact Jacobian, which costs more than all of them; matrix-free it is one."""

CORRECTIONS = 5
"""Steps back to the fiber after each of Langevin's; they cost no Jacobian."""

FLAT = 1e-3
"""Langevin's steps take a direction for tangent whose squared singular value is below this share of their mean."""

SHARE = 0.1
"""A step of Langevin's is undone where corrections leave more than this share of what it had put the row off."""


class FiberProjection(Refined):
    """Levenberg-Marquardt onto the fiber, and optionally Langevin's steps along it.

    Args:
        model, subject, latents: as in `Refined`.
        iterations: most steps of the projection, and again after Langevin's.
        damping: of the first step, in units of the curvature along the gradient; 0 is Gauss-Newton.
        tolerance: a row whose RMS distance to the target is below it is left alone.
        over: the unknown: the `latents`; the `condition` that the decoder is told, for a latent space whose
            decoder sees `h`; or `both`, as one vector. The target stays `h`.
        solver: `exact` makes the Jacobian, by as many backward passes as the representation or the unknown has
            dimensions, whichever are fewer; `matrix_free` solves by conjugate gradients, for many of both.
        cg_iterations: most iterations of the latter in one step, of two backward passes each.
        langevin: steps along the fiber; they need `exact`, `over` latents, and more dimensions of these than
            the representation has, or there is no direction to go.
        step_size: `a` of those steps.
        prior: whose score they follow, over the same latents; one network call each. None takes the standard normal's.
        prior_time: the time at which the prior is asked. Its law is blurred by `sigma / alpha` there.

    Raises:
        ValueError: a bad option; a prior over other latents.
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
        solver: Solver = "exact",
        cg_iterations: int = 20,
        langevin: int = 0,
        step_size: float = 0.01,
        prior: Prior | None = None,
        prior_time: float = 0.05,
    ) -> None:
        super().__init__(model, subject, latents)
        for name, count, least in (
            ("iterations", iterations, 0),
            ("cg_iterations", cg_iterations, 1),
            ("langevin", langevin, 0),
        ):
            if count < least:
                raise ValueError(f"FiberProjection: {name} must be at least {least}, got {count}")
        for name, value in (("damping", damping), ("tolerance", tolerance)):
            if not value >= 0:
                raise ValueError(f"FiberProjection: {name} must be at least 0, got {value}")
        if not step_size > 0:
            raise ValueError(f"FiberProjection: step_size must be positive, got {step_size}")
        if not 0 < prior_time < 1:
            raise ValueError(f"FiberProjection: prior_time must be in (0, 1), got {prior_time}")
        if over not in get_args(Over):
            raise ValueError(f"FiberProjection: over must be one of {list(get_args(Over))}, got '{over}'")
        if solver not in get_args(Solver):
            raise ValueError(f"FiberProjection: solver must be one of {list(get_args(Solver))}, got '{solver}'")
        if langevin and (over, solver) != ("latents", "exact"):
            raise ValueError(
                f"FiberProjection: langevin: expected over 'latents' and solver 'exact', got '{over}' and '{solver}'"
            )
        shape = self.space.latent_shape
        if prior is not None and tuple(prior.latents.latent_shape) != tuple(shape):
            raise ValueError(
                f"FiberProjection: the prior must be over latents {tuple(shape)}, "
                f"got {tuple(prior.latents.latent_shape)}"
            )
        self.iterations, self.damping, self.tolerance = iterations, damping, tolerance
        self.over: Over = over
        self.solver: Solver = solver
        self.cg_iterations = cg_iterations
        self.langevin, self.step_size, self.prior, self.prior_time = langevin, step_size, prior, prior_time
        self.noise_shape = (langevin, *shape)
        self.network_calls = model.network_calls + (0 if prior is None else langevin)

    @property
    def moves(self) -> bool:
        return self.iterations > 0 or self.langevin > 0

    def refine(self, z: Tensor, h: Tensor, noise: Tensor) -> Tensor:
        told = h.flatten(1)
        unknown = {"latents": z, "condition": told, "both": torch.cat((z, told), 1)}[self.over]
        unknown = self._project(unknown, z, h)
        if self.langevin:
            unknown = self._project(self._wander(unknown, h, noise), z, h)
        return self._render(unknown, z, h)

    def _render(self, unknown: Tensor, z: Tensor, h: Tensor) -> Tensor:
        """Images `(B, C, H, W)`; `z` and `h` are what stands where it is not unknown."""
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

    def _project(self, unknown: Tensor, z: Tensor, h: Tensor) -> Tensor:
        off = _rms(self._residual(unknown, z, h))
        damping = torch.full_like(off, self.damping)
        for _ in range(self.iterations):
            rows = (~(off < self.tolerance)).nonzero()[:, 0]  # written so that NaN stays, and is reported
            if not len(rows):
                break
            new, off[rows], damping[rows] = self._iterate(unknown[rows], z[rows], h[rows], off[rows], damping[rows])
            unknown = unknown.index_copy(0, rows, new)
        return unknown

    def _iterate(
        self, unknown: Tensor, z: Tensor, h: Tensor, off: Tensor, damping: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The next unknown, its RMS residual, and its damping, of rows that are `off`."""
        at = Linearised(lambda u: self._residual(u, z, h), unknown)
        if self.solver == "exact":
            step, trials = exact_steps(at), TRIALS
        else:
            step, trials = lambda damping: matrix_free_step(at, damping, self.cg_iterations), 1
        waits = torch.ones_like(off, dtype=torch.bool)
        for _ in range(trials):
            trial = at.point.detach() - step(damping)
            found = _rms(self._residual(trial, z, h))
            better = waits & (found < off)
            unknown = torch.where(better[:, None], trial, unknown)
            off = torch.where(better, found, off)
            damping = torch.where(better, EASE * damping, torch.where(waits, STRAIN * damping.clamp(min=1e-4), damping))
            waits = waits & ~better
            if not waits.any():
                break
        return unknown, off, damping

    def _wander(self, z: Tensor, h: Tensor, noise: Tensor) -> Tensor:
        level = self._residual(z, z, h)  # the fiber that the row has come to, as near to its own as it could
        for xi in noise.unbind(1):
            at = Linearised(lambda u: self._residual(u, u, h), z)
            jacobian = at.jacobian()
            inverse = damped_inverse(jacobian, FLAT * jacobian.square().sum((1, 2)) / min(jacobian.shape[1:]))
            drift = self.step_size * self._score(z, h) + (2 * self.step_size) ** 0.5 * xi
            moved = z + drift - inverse((jacobian @ drift[..., None])[..., 0] + at.residual - level)
            off = self._residual(moved, z, h) - level
            allowed = (SHARE * _rms(off)).clamp(min=self.tolerance)
            for _ in range(CORRECTIONS):
                moved = moved - inverse(off)
                off = self._residual(moved, z, h) - level
            z = torch.where((_rms(off) <= allowed)[:, None], moved, z)
        return z

    def _score(self, z: Tensor, h: Tensor) -> Tensor:
        """`grad log p(z)` of the latents' law; of `z + (sigma / alpha) e` for a prior."""
        if self.prior is None:
            return -z
        t = torch.full_like(z[:, 0], self.prior_time)
        alpha, sigma = (level[:, None] for level in (self.prior.schedule.alpha(t), self.prior.schedule.sigma(t)))
        _, noise = self.prior.denoiser(h)(alpha * z, t)
        return -alpha / sigma * noise


def _rms(residual: Tensor) -> Tensor:
    return distances.rms(torch.zeros_like(residual), residual)
