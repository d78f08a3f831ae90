"""Priors as FiberModels: sampled as they are, or guided to the fiber."""

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from fibermodels.core import FiberModel, Pushforward, Subject, pushed
from fibermodels.diffusion import Denoiser, Prior, SamplerName, check_sampler, network_calls, sample, stochasticity
from fibermodels.guidance.costs import Cost, FiberDistance
from fibermodels.guidance.guidance import Guidance
from fibermodels.guidance.objective import Objective


class Unguided(Pushforward):
    """A prior and a sampler: what every guidance starts from, and what it is at strength 0.

    An unconditional prior ignores the target; a conditional one is bound to it.

    Args:
        prior: the prior.
        steps: steps of the sampler.
        sampler: `ddim`, `ancestral` or `heun`.
        eta: for `ddim`: noise at every step, in units of that of `ancestral`.
        checkpointing: where gradients run through the sampler, compute each call of the network again in the
            backward pass instead of keeping it: the memory of one step, for twice the time forward.
    """

    def __init__(
        self,
        prior: Prior,
        steps: int = 50,
        sampler: SamplerName = "ddim",
        eta: float = 0.0,
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        check_sampler(type(self).__name__, sampler, steps, eta)
        self.prior, self.steps, self.sampler, self.eta = prior, steps, sampler, eta
        self.checkpointing = checkpointing
        self.image_shape = prior.latents.image_shape
        self.noise_shape = _noise_shape(prior, steps, sampler, eta)
        self.network_calls = network_calls(sampler, steps)

    def push(self, noise: Tensor, h: Tensor) -> Tensor:
        return self.estimates(noise, h, 1)[0]

    def estimates(self, noise: Tensor, h: Tensor, count: int) -> Tensor:
        """Images `(count, B, C, H, W)` of the clean latents that the last `count` steps expect, differentiable.

        The last of them is what `push` returns.

        Raises:
            ValueError: not between one estimate and as many as there are steps.
        """
        if not 1 <= count <= self.steps:
            raise ValueError(f"Unguided: count must be from 1 to the {self.steps} steps, got {count}")
        expected: list[Tensor] = []

        def look(denoise: Denoiser, z: Tensor, t: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
            found = checkpoint(denoise, z, t, use_reentrant=False) if self.checkpointing else denoise(z, t)
            if t is not s:  # not Heun's second half
                expected.append(found[0])
            return found

        z = sample(self.prior.denoiser(h), self.prior.schedule, noise, self.steps, self.sampler, self.eta, guide=look)
        latents = [*expected[self.steps - count : -1], z]
        if self.checkpointing:
            return torch.stack([checkpoint(self.prior.decode, z, h, use_reentrant=False) for z in latents])
        return torch.stack([self.prior.decode(z, h) for z in latents])


class Guided(FiberModel):
    """A prior, guided to the fiber of each target: no training per subject.

    Args:
        prior: the prior.
        subject: the network whose fibers are sampled.
        guidance: what steers every step.
        cost: what it lowers; None takes the fiber's distance.
        steps: steps of the sampler.
        sampler: `ddim`, `ancestral` or `heun`.
        eta: for `ddim`: noise at every step, in units of that of `ancestral`.
        strength: what the guidance's own force is multiplied by; 0 leaves the prior alone.

    Raises:
        ValueError: a prior whose images do not fit the subject, or that the guidance cannot guide.
    """

    def __init__(
        self,
        prior: Prior,
        subject: Subject,
        guidance: Guidance,
        cost: Cost | None = None,
        steps: int = 50,
        sampler: SamplerName = "ddim",
        eta: float = 0.0,
        strength: float = 1.0,
    ) -> None:
        super().__init__()
        check_sampler(type(self).__name__, sampler, steps, eta)
        if tuple(prior.latents.image_shape) != tuple(subject.image_shape):
            raise ValueError(
                f"Guided: the subject takes images {tuple(subject.image_shape)}, "
                f"the prior makes {tuple(prior.latents.image_shape)}"
            )
        if not strength >= 0:
            raise ValueError(f"Guided: strength must be at least 0, got {strength}")
        guidance.check(prior)
        self.prior, self.subject, self.guidance, self.cost = prior, subject, guidance, cost or FiberDistance()
        self.steps, self.sampler, self.eta, self.strength = steps, sampler, eta, strength
        self.image_shape = prior.latents.image_shape
        self.noise_shape = _noise_shape(prior, steps, sampler, eta)
        times = prior.schedule.times(steps, torch.zeros(())).tolist()
        visited = times[:-1] + (times[1:-1] if sampler == "heun" else [])
        self.network_calls = sum(guidance.calls(t) for t in visited)

    def _sample(self, h: Tensor, n: int, generator: torch.Generator | None) -> Tensor:
        return pushed(lambda noise, h: self.steer(noise, h), self.noise_shape, h, n, generator)

    def steer(self, noise: Tensor, h: Tensor, strength: Tensor | None = None) -> Tensor:
        """Images `(B, C, H, W)` from noise `(B, *noise_shape)`, without gradients.

        Args:
            noise: standard normal noise.
            h: targets, one for each row.
            strength: `(B,)`, row by row; None takes the model's own for all.
        """
        strength = torch.full((len(h),), self.strength, device=h.device) if strength is None else strength
        objective = Objective(self.prior, self.subject, self.cost, h)
        schedule = self.prior.schedule

        def guide(denoise: Denoiser, z: Tensor, t: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
            return self.guidance.step(denoise, objective, schedule, z, t, s, strength)

        with torch.no_grad():
            z = sample(self.prior.denoiser(h), schedule, noise, self.steps, self.sampler, self.eta, guide=guide)
            return self.prior.decode(z, h)


def _noise_shape(prior: Prior, steps: int, sampler: SamplerName, eta: float) -> tuple[int, ...]:
    shape = tuple(prior.latents.latent_shape)
    return (steps, *shape) if stochasticity(sampler, eta) else shape
