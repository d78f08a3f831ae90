"""Priors as FiberModels: sampled as they are, or guided to the fiber."""

import math
import warnings
from typing import Literal

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from fibermodels import distances
from fibermodels.core import Pushforward, Reports, Subject
from fibermodels.diffusion import Denoiser, Prior, SamplerName, check_sampler, network_calls, sample, stochasticity
from fibermodels.guidance.costs import Cost, FiberDistance
from fibermodels.guidance.guidance import Guidance
from fibermodels.guidance.objective import Objective
from fibermodels.guidance.strength import HIGHEST, find_strength
from fibermodels.noise import pushed_noise, target_noise
from fibermodels.retrieval import Retrieval


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


class Guided(Retrieval, Reports):
    """A prior, guided to the fiber of each target: no training per subject.

    With `target_rms` it finds the strength that reaches this fiber RMS, for each target by itself, on
    samples of its own. `report` then says what it chose, and for how many targets it fell short by more than
    a fifth; it warns of these. The search's calls of the network come once per target, beside those per sample.

    With `target="renoised"` what guidance aims at is not `h` but what the subject makes of the query as the
    prior sees it at the present noise level, `phi(decode(E[z_0 | z_t]))` for `z_t` the noised query: early steps
    are not asked for detail that no sample has by then (arXiv 2603.21782, section 3.2). It needs the query itself, not
    only its representation, and one call more a step.

    Args:
        prior: the prior.
        subject: the network whose fibers are sampled.
        guidance: what steers every step.
        cost: what it lowers; None takes the fiber's distance.
        steps: steps of the sampler.
        sampler: `ddim`, `ancestral` or `heun`.
        eta: for `ddim`: noise at every step, in units of that of `ancestral`.
        strength: what the guidance's own force is multiplied by; 0 leaves the prior alone.
        target_rms: the fiber RMS to reach; it takes the place of `strength`.
        search_samples: samples of each target on which a strength is measured.
        search_rounds: strengths that are measured, each at the cost of sampling.
        target: `static` or `renoised`.

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
        target_rms: float | None = None,
        search_samples: int = 4,
        search_rounds: int = 8,
        target: Literal["static", "renoised"] = "static",
    ) -> None:
        super().__init__()
        check_sampler(type(self).__name__, sampler, steps, eta)
        ours, theirs = tuple(prior.latents.image_shape), tuple(subject.image_shape)
        if ours != theirs:
            raise ValueError(f"Guided: the subject takes images {theirs}, the prior makes {ours}")
        if not strength >= 0:
            raise ValueError(f"Guided: strength must be at least 0, got {strength}")
        if target_rms is not None and not target_rms > 0:
            raise ValueError(f"Guided: target_rms must be positive, got {target_rms}")
        if search_samples < 1 or search_rounds < 1:
            raise ValueError(
                f"Guided: expected at least 1 search sample and round, got {search_samples}, {search_rounds}"
            )
        if target not in ("static", "renoised"):
            raise ValueError(f"Guided: target must be 'static' or 'renoised', got '{target}'")
        guidance.check(prior)
        self.prior, self.subject, self.guidance, self.cost = prior, subject, guidance, cost or FiberDistance()
        self.steps, self.sampler, self.eta, self.strength = steps, sampler, eta, strength
        self.target_rms, self.search_samples, self.search_rounds = target_rms, search_samples, search_rounds
        self.renoised = target == "renoised"
        self.bank = "targets" if self.renoised else None
        self.image_shape = prior.latents.image_shape
        own = _noise_shape(prior, steps, sampler, eta)
        self.noise_shape = (1 + (own[0] if len(own) > 1 else 1), own[-1]) if self.renoised else own
        times = prior.schedule.times(steps, torch.zeros(())).tolist()
        visited = times[:-1] + (times[1:-1] if sampler == "heun" else [])
        self.network_calls = sum(guidance.calls(t) + self.renoised for t in visited)
        self._report: dict[str, float] = {}

    def _sample(self, h: Tensor, n: int, generator: torch.Generator | None, x: Tensor | None) -> Tensor:
        queries = (self.prior.encode(self.recall(h), h),) if self.renoised else ()
        if self.target_rms is None:
            noise = target_noise(n, len(h), self.noise_shape, generator)
            return pushed_noise(self.steer, noise, h, h.new_full((len(h),), self.strength), *queries)
        noise = target_noise(n + self.search_samples, len(h), self.noise_shape, generator)
        strength = self._find_strength(noise[n:], h, queries, self.target_rms)
        return pushed_noise(self.steer, noise[:n], h, strength, *queries)

    def _find_strength(self, noise: Tensor, h: Tensor, queries: tuple[Tensor, ...], goal: float) -> Tensor:
        def measure(strength: Tensor) -> Tensor:
            x_hat = pushed_noise(self.steer, noise, h, strength.to(h), *queries)
            return torch.stack([distances.rms(h, self.subject(slot)) for slot in x_hat]).mean(0)

        found, reached = find_strength(measure, goal, len(h), self.search_rounds)
        missed = (reached / goal).log().abs() > math.log(1.2)
        low, middle, high = found.quantile(torch.tensor([0.1, 0.5, 0.9])).tolist()
        self._report = {
            "target_rms": goal,
            "target_rms_missed": float(missed.float().mean()),
            "search_calls_per_target": float(self.search_rounds * self.search_samples * self.network_calls),
            "strength_10": low,
            "strength_50": middle,
            "strength_90": high,
        }
        if missed.any():
            warnings.warn(
                f"Guided: for {int(missed.sum())} of {len(h)} targets no strength up to {HIGHEST:g} came within a "
                f"fifth of target_rms {goal:g}; there the fiber RMS is {float(reached[missed].mean()):.3g}",
                stacklevel=2,
            )
        return found.to(h)

    def report(self) -> dict[str, float]:
        return self._report

    def steer(self, noise: Tensor, h: Tensor, strength: Tensor | None = None, query: Tensor | None = None) -> Tensor:
        """Images `(B, C, H, W)`, without gradients.

        Args:
            noise: standard normal noise `(B, *noise_shape)`; for a renoised target its first part is the query's.
            h: targets, one for each row.
            strength: `(B,)`, row by row; None takes the model's own.
            query: for a renoised target, the latents `(B, D)` of the queries.
        """
        renoise = noise[:, 0]
        if query is not None:
            noise = noise[:, 1:] if stochasticity(self.sampler, self.eta) else noise[:, 1]
        schedule, own = self.prior.schedule, self.prior.denoiser(h)
        strength = h.new_full((len(h),), self.strength) if strength is None else strength
        static = Objective(self.prior, self.subject, self.cost, h, h)

        def guide(denoise: Denoiser, z: Tensor, t: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
            if query is None:
                return self.guidance.step(static, z, t, s, strength)
            noised = schedule.alpha(t)[:, None] * query + schedule.sigma(t)[:, None] * renoise
            aim = self.subject(self.prior.decode(denoise(noised, t)[0], h))
            objective = Objective(self.prior, self.subject, self.cost, aim, h)
            return self.guidance.step(objective, z, t, s, strength)

        with torch.no_grad():
            z = sample(own, schedule, noise, self.steps, self.sampler, self.eta, guide=guide)
            return self.prior.decode(z, h)


def _noise_shape(prior: Prior, steps: int, sampler: SamplerName, eta: float) -> tuple[int, ...]:
    shape = tuple(prior.latents.latent_shape)
    return (steps, *shape) if stochasticity(sampler, eta) else shape
