"""Langevin's steps along the fiber, from samples that were projected onto it.

    dz = P (a s(z)) + sqrt(2 a) P xi - J^+ r,    P = I - J^+ J,    xi ~ N(0, I),

with the score `s` of the latents' law and the projector `P` on the tangent of the fiber. Corrections with the same
`J^+` follow each step. Here `r` is the change of the residual in this step: a row that the projection could not bring
to its own fiber goes along the fiber that it is on. As `a -> 0` the law of the steps is the latents' density restricted
to the fiber, with respect to its surface. The conditional law has a further factor `det(J J^T)^(-1/2)` (co-area
formula), which is left out: it is constant where the representation bends little along the fiber.

Reference: Lelievre, Rousset & Stoltz, Math. Comp. 81 (2012) (Langevin's equation under constraints).
"""

from collections.abc import Callable

import torch
from torch import Tensor

from fibermodels.checks import check_number
from fibermodels.core import LatentSpace
from fibermodels.diffusion import Prior
from fibermodels.guidance.gauss_newton import Exact, Linearised, damped_inverse, rms
from fibermodels.guidance.projection import FiberProjection
from fibermodels.guidance.refine import Refined

CORRECTIONS = 5
"""Steps back to the fiber after each of Langevin's; they need no new Jacobian."""

FLAT = 1e-3
"""A direction counts as tangent where its squared singular value is below this share of their mean."""

SHARE = 0.1
"""A step is undone where the corrections leave more than this share of the distance by which it left the fiber."""


class Langevin(Refined):
    """Projects, moves along the fiber by Langevin's steps, and projects again.

    It needs more latent dimensions than the representation has; otherwise no direction is tangent.

    Args:
        model: the projection, over latents and with the solver `Exact`.
        steps: steps along the fiber; 0 is the projection alone.
        step_size: `a`.
        prior: the prior, over the same latents, whose score the steps follow, at one network call each. None takes
            the score of the standard normal law.
        prior_time: the time at which the prior is asked, in (0, 1). Its law is blurred by `sigma / alpha` there.
    """

    model: FiberProjection

    def __init__(
        self,
        model: FiberProjection,
        steps: int = 20,
        step_size: float = 0.01,
        prior: Prior | None = None,
        prior_time: float = 0.05,
    ) -> None:
        super().__init__(model, model.subject, None, steps)
        check_number("Langevin", "steps", steps, least=0)
        check_number("Langevin", "step_size", step_size, above=0)
        check_number("Langevin", "prior_time", prior_time, above=0, below=1)
        if model.over != "latents" or not isinstance(model.solver, Exact):
            raise ValueError(
                "Langevin: model: expected a projection over 'latents' with the solver Exact, got one over "
                f"'{model.over}' with {type(model.solver).__name__}"
            )
        shape = tuple(self.space.latent_shape)
        if prior is not None and tuple(prior.latents.latent_shape) != shape:
            raise ValueError(
                f"Langevin: prior: expected a prior over latents {shape}, got {tuple(prior.latents.latent_shape)}"
            )
        self.step_size, self.prior, self.prior_time = step_size, prior, prior_time
        self.noise_shape = (steps, *shape)
        self.network_calls = model.network_calls + (0 if prior is None else steps)

    @property
    def space(self) -> LatentSpace:
        return self.model.space

    def start(
        self, h: Tensor, n: int, generator: torch.Generator, x: Tensor | None
    ) -> Callable[[Tensor, Tensor], Tensor]:
        return self.model.start(h, n, generator, x)

    def refine(self, z: Tensor, h: Tensor, noise: Tensor) -> Tensor:
        z = self.wander(self.model.project(z, h), h, noise)
        return self.space.decode(self.model.project(z, h), h)

    def wander(self, z: Tensor, h: Tensor, noise: Tensor) -> Tensor:
        """Latents `(B, D)` after the steps along the fiber, from latents on it and noise `(B, steps, D)`."""

        def residual(z: Tensor) -> Tensor:
            return (self.subject(self.space.decode(z, h)) - h).flatten(1)

        score = self._score(h)
        level = residual(z)  # of the fiber that the row is on
        for xi in noise.unbind(1):
            at = Linearised(residual, z)
            jacobian = at.jacobian()
            inverse = damped_inverse(jacobian, FLAT * jacobian.square().sum((1, 2)) / min(jacobian.shape[1:]))
            drift = self.step_size * score(z) + (2 * self.step_size) ** 0.5 * xi
            moved = z + drift - inverse((jacobian @ drift[..., None])[..., 0] + at.residual - level)
            off = residual(moved) - level
            allowed = (SHARE * rms(off)).clamp(min=self.model.tolerance)
            for _ in range(CORRECTIONS):
                moved = moved - inverse(off)
                off = residual(moved) - level
            z = torch.where((rms(off) <= allowed)[:, None], moved, z)
        return z

    def _score(self, h: Tensor) -> Callable[[Tensor], Tensor]:
        """`grad log p(z)` of the latents' law; for a prior, of the law of `z + (sigma / alpha) e`."""
        if self.prior is None:
            return torch.neg
        denoise, schedule, time = self.prior.denoiser(h), self.prior.schedule, self.prior_time

        def score(z: Tensor) -> Tensor:
            t = torch.full_like(z[:, 0], time)
            alpha, sigma = schedule.shares(t)
            return -alpha / sigma * denoise(alpha * z, t)[1]

        return score
