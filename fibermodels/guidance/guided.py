"""A prior as a FiberModel: sampled as it is, or with a guidance that steers every step of its sampler."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from fibermodels.checks import check_finite, check_number
from fibermodels.core import FiberModel, Pushforward, Subject
from fibermodels.diffusion import DDIM, Denoiser, Estimate, Prior, Prompted, Sampler, unguided
from fibermodels.guidance.costs import Cost, FiberDistance
from fibermodels.guidance.objective import Guidance, Objective, check_fits
from fibermodels.noise import pushed_noise, target_noise
from fibermodels.spaces import HasInputSpace

Aim = Callable[[Objective, Tensor], Tensor]
"""From the objective and the times `(B,)` of a call of the denoiser, the targets `(B, *feature_shape)` of that call."""

Steering = Callable[[Tensor, Tensor], Tensor]
"""From noise `(n, B, *noise_shape)` and strengths `(B,)`, samples `(n, B, *input_shape)`."""


class Steered(FiberModel, HasInputSpace, ABC):
    """A model that steers a prior to the fiber, each target at a strength of its own."""

    subject: Subject
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
        ValueError: a prior whose inputs do not fit the subject, or that the guidance cannot guide; a negative strength;
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
        check_fits(self, subject, prior.latents.input_shape, "the prior")
        check_number("Guided", "strength", strength, least=0)
        guidance.check(prior)
        self.prior, self.subject, self.guidance, self.cost = prior, subject, guidance, cost or FiberDistance()
        self.sampler, self.strength = sampler or DDIM(), strength
        self.input_space = prior.latents.input_space
        self.noise_shape = self.sampler.noise_shape(prior.latents.latent_shape)
        self.network_calls = sum(guidance.calls(t) for t in self.sampler.visited(prior.schedule))

    def steering(self, h: Tensor, x: Tensor | None) -> Steering:
        return lambda noise, strength: pushed_noise(self.steer, noise, h, strength)

    def steer(self, noise: Tensor, h: Tensor, strength: Tensor | None = None, aim: Aim | None = None) -> Tensor:
        """Inputs `(B, *input_shape)`, without gradients. The prior is bound to its condition once.

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


class Unguided(Pushforward, HasInputSpace):
    """A prior and a sampler: what every guidance is at strength 0. A conditional prior is bound to the target.

    Args:
        prior: the prior.
        sampler: how it is sampled; None takes 50 steps of DDIM.
        checkpointing: where gradients run through the sampler, compute each call of the network again in the
            backward pass instead of keeping it: the memory of one step, for twice the time forward.
    """

    def __init__(self, prior: Prior, sampler: Sampler | None = None, checkpointing: bool = False) -> None:
        super().__init__()
        self.prior, self.sampler, self.checkpointing = prior, sampler or DDIM(), checkpointing
        self.input_space = prior.latents.input_space
        self.noise_shape = self.sampler.noise_shape(prior.latents.latent_shape)
        self.network_calls = self.sampler.calls

    def push(self, noise: Tensor, h: Tensor) -> Tensor:
        return self.estimates(noise, h, 1)[0]

    def estimates(self, noise: Tensor, h: Tensor, count: int, prompts: Tensor | None = None) -> Tensor:
        """Inputs `(count, B, *input_shape)` of the clean latents that the last `count` steps expect, differentiable.

        Args:
            noise: `(B, *noise_shape)`.
            h: `(B, *feature_shape)`.
            count: from 1 to the sampler's steps.
            prompts: null-text and prompt in each call of the denoiser, `(B, calls, 2, *shape)`, of a `Prompted` prior;
                None takes the prior's own in all calls.
        """
        if not 1 <= count <= self.sampler.steps:
            raise ValueError(f"Unguided: count must be from 1 to the {self.sampler.steps} steps, got {count}")
        denoise = self._kept(self.prior.denoiser(h)) if prompts is None else self._prompted(prompts)
        decode = self._kept(self.prior.decode)
        *earlier, last = self.sampler.trajectory(unguided(denoise), self.prior.schedule, noise)
        expected = [data for _, data in earlier][len(earlier) + 1 - count :]
        return torch.stack([decode(z, h) for z in (*expected, last[0])])

    def _prompted(self, prompts: Tensor) -> Denoiser:
        """The denoiser that has the next of `prompts` `(B, calls, 2, *shape)` in every call."""
        if not isinstance(self.prior, Prompted):
            raise ValueError(f"Unguided: prompts: expected a prior that takes them, got {type(self.prior).__name__}")
        if prompts.shape[1] != self.sampler.calls:
            raise ValueError(
                f"Unguided: prompts: expected one for each of the {self.sampler.calls} calls, got {prompts.shape[1]}"
            )
        denoise, each = self._kept(self.prior.denoise_prompted), iter(prompts.unbind(1))
        return lambda z, t: denoise(z, t, next(each))

    def _kept(self, part: Callable[..., Any]) -> Callable[..., Any]:
        """The same function, which computes its activations again in the backward pass with `checkpointing`."""
        return partial(checkpoint, part, use_reentrant=False) if self.checkpointing else part
