"""The driver of all guidance: it takes a prior's sampler step by step and lets a guidance steer every step."""

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor

from fibermodels.checks import check_finite, check_number
from fibermodels.core import FiberModel, Subject
from fibermodels.diffusion import DDIM, Estimate, Prior, Sampler
from fibermodels.guidance.costs import Cost, FiberDistance
from fibermodels.guidance.objective import Guidance, Objective
from fibermodels.noise import pushed_noise, target_noise

Aim = Callable[[Objective, Tensor], Tensor]
"""From the objective and the times `(B,)` of a call of the denoiser, the targets `(B, *feature_shape)` of that call."""

Steering = Callable[[Tensor, Tensor], Tensor]
"""From noise `(n, B, *noise_shape)` and strengths `(B,)`, samples `(n, B, C, H, W)`."""


class Steered(FiberModel, ABC):
    """A model that steers a prior to the fiber, each target at a strength of its own."""

    subject: Subject
    image_shape: tuple[int, int, int]
    strength: float
    """The strength at which `sample` steers."""
    noise_shape: tuple[int, ...]
    """Of the standard normal noise that one sample takes."""

    @abstractmethod
    def steering(self, h: Tensor, x: Tensor | None) -> Steering:
        """What turns noise and strengths into samples of targets `h` `(B, *feature_shape)`; `x` are their queries."""

    def _sample(self, h: Tensor, n: int, generator: torch.Generator | None, x: Tensor | None) -> Tensor:
        noise = target_noise(n, len(h), self.noise_shape, generator)
        return self.steering(h, x)(noise, h.new_full((len(h),), self.strength))


class Guided(Steered):
    """A prior, guided to the fiber of each target: no training per subject.

    Args:
        prior: the prior.
        subject: the network whose fibers are sampled.
        guidance: what steers every step.
        cost: what it lowers; None takes the fiber's distance.
        sampler: how the prior is sampled; None takes 50 steps of DDIM.
        strength: what the guidance's own force is multiplied by; 0 leaves the prior alone.

    Raises:
        ValueError: a prior whose images do not fit the subject, or that the guidance cannot guide; a negative strength;
            when sampling, results that are not finite.
    """

    def __init__(
        self,
        prior: Prior,
        subject: Subject,
        guidance: Guidance,
        cost: Cost | None = None,
        sampler: Sampler | None = None,
        strength: float = 1.0,
    ) -> None:
        super().__init__()
        ours, theirs = tuple(prior.latents.image_shape), tuple(subject.image_shape)
        if ours != theirs:
            raise ValueError(f"Guided: the subject takes images {theirs}, the prior makes {ours}")
        check_number("Guided", "strength", strength, least=0)
        guidance.check(prior)
        self.prior, self.subject, self.guidance, self.cost = prior, subject, guidance, cost or FiberDistance()
        self.sampler, self.strength = sampler or DDIM(), strength
        self.image_shape = prior.latents.image_shape
        self.noise_shape = self.sampler.noise_shape(prior.latents.latent_shape)
        self.network_calls = sum(guidance.calls(t) for t in self.sampler.visited(prior.schedule))

    def steering(self, h: Tensor, x: Tensor | None) -> Steering:
        return lambda noise, strength: pushed_noise(self.steer, noise, h, strength)

    def steer(self, noise: Tensor, h: Tensor, strength: Tensor | None = None, aim: Aim | None = None) -> Tensor:
        """Images `(B, C, H, W)`, without gradients. The prior is bound to its condition once.

        Args:
            noise: standard normal noise `(B, *noise_shape)`.
            h: targets, one for each row.
            strength: `(B,)`, row by row; None takes the model's own.
            aim: other targets for each call of the denoiser; None aims at `h` throughout.
        """
        strength = h.new_full((len(h),), self.strength) if strength is None else strength

        def look(z: Tensor, t: Tensor, s: Tensor) -> Estimate:
            now = objective if aim is None else objective.aimed(aim(objective, t))
            return self.guidance.step(now, z, t, s, strength)

        with torch.no_grad():
            objective = Objective.bound(self.prior, self.subject, self.cost, h)
            images = self.prior.decode(self.sampler(look, self.prior.schedule, noise), h)
        check_finite(images, f"Guided: samples by {type(self.guidance).__name__}")
        return images
