"""From noise to data along a schedule, given a denoiser: DDIM, ancestral sampling and Heun.

DDIM goes from time t to s < t by putting the predicted data and noise together again,

    z_s = alpha_s z_0 + sqrt(sigma_s^2 - c^2) e + c xi,    xi ~ N(0, I),
    c = eta sigma_s / sigma_t sqrt(1 - alpha_t^2 / alpha_s^2),

deterministic for eta = 0; for eta = 1 it is DDPM's ancestral sampling with the posterior's variance, and
schedule and network agree on the time. Heun's method solves the probability-flow equation in the angle of
the schedule,

    dz / d angle = alpha e - sigma z_0,

whose right side is bounded at both ends, whereas in the variable sigma / alpha of Karras et al. the first
step is infinitely long for a schedule that ends at pure noise. Its last step is one of DDIM: it leaves no
noise behind and costs one call, and a single step of order 1 keeps the order 2 of the whole.

References: Song et al., arXiv 2010.02502 (DDIM); Ho et al., arXiv 2006.11239 (ancestral); Karras et al.,
arXiv 2206.00364 (Heun); Salimans & Ho, arXiv 2202.00512 (the angle).
"""

from collections.abc import Callable
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor

from fibermodels.diffusion.schedule import Schedule

Denoiser = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""From `z_t` `(B, D)` and `t` `(B,)` the expected data and noise, with `z_t = alpha data + sigma noise`.

Both, because either from the other divides by a number that vanishes at one end of time.
"""

Guide = Callable[[Denoiser, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
"""From a denoiser, `z_t`, `t` and the time `s <= t` that the step leads to, the data and noise to go on with.

Together they are the state `alpha data + sigma noise` that the step starts from: `z_t`, or where the guide moves it.
"""

SamplerName = Literal["ddim", "ancestral", "heun"]
SAMPLERS: tuple[SamplerName, ...] = ("ddim", "ancestral", "heun")


def network_calls(sampler: SamplerName, steps: int) -> int:
    """Calls of the denoiser for one sample."""
    return 2 * steps - 1 if sampler == "heun" else steps


def check_sampler(owner: str, sampler: str, steps: int, eta: float) -> None:
    """Raises a ValueError in the name of `owner` for what no sampler does."""
    if sampler not in SAMPLERS:
        raise ValueError(f"{owner}: sampler must be one of {list(SAMPLERS)}, got '{sampler}'")
    if steps < 1:
        raise ValueError(f"{owner}: steps must be at least 1, got {steps}")
    if not 0 <= eta <= 1:
        raise ValueError(f"{owner}: eta must be in [0, 1], got {eta}")
    if eta and sampler != "ddim":
        raise ValueError(f"{owner}: eta must be 0 for any sampler but 'ddim', got {eta} for '{sampler}'")


def stochasticity(sampler: SamplerName, eta: float) -> float:
    """`eta` as the sampler uses it; above 0 it wants noise at every step."""
    return 1.0 if sampler == "ancestral" else eta


def sample(
    denoise: Denoiser,
    schedule: Schedule,
    noise: Tensor,
    steps: int,
    sampler: SamplerName = "ddim",
    eta: float = 0.0,
    last_steps: int | None = None,
    guide: Guide | None = None,
) -> Tensor:
    """Data `(B, D)` at time 0, a function of the noise alone.

    Args:
        denoise: see `Denoiser`.
        schedule: the one that the denoiser was trained with.
        noise: the state at time 1, `(B, D)`; for a stochastic sampler `(B, steps, D)`, the state and then
            what each step but the last adds (that one adds none).
        steps: number of steps.
        sampler: `ddim`, `ancestral` or `heun`.
        eta: the noise that `ddim` adds, in units of that of `ancestral`.
        last_steps: gradients run through so many last steps only; None for all.
        guide: steers every step; None leaves the denoiser alone.
    """
    look = guide or _unguided
    eta = stochasticity(sampler, eta)
    z, *fresh = noise.unbind(1) if eta else (noise,)
    times = schedule.times(steps, z)
    first = 0 if last_steps is None else max(0, steps - last_steps)
    for i, (now, then) in enumerate(pairwise(times)):
        t, s = now.expand(len(z)), then.expand(len(z))
        with torch.set_grad_enabled(torch.is_grad_enabled() and i >= first):
            if sampler == "heun" and i < steps - 1:
                z = _heun_step(look, denoise, schedule, z, t, s)
            else:
                estimate = look(denoise, z, t, s)
                z = _ddim_step(*estimate, schedule, t, s, eta, fresh[i] if i < len(fresh) else None)
    return z


def _unguided(denoise: Denoiser, z: Tensor, t: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
    return denoise(z, t)


def _ddim_step(
    data: Tensor, noise: Tensor, schedule: Schedule, t: Tensor, s: Tensor, eta: float, fresh: Tensor | None
) -> Tensor:
    alpha_s, sigma_s = schedule.alpha(s)[:, None], schedule.sigma(s)[:, None]
    if fresh is None:
        return alpha_s * data + sigma_s * noise
    # 1 - alpha_t^2 / alpha_s^2, without the difference of two numbers that may be equal after rounding
    turned = torch.sin(schedule.angle(t) - schedule.angle(s)) * torch.sin(schedule.angle(t) + schedule.angle(s))
    added = eta * (sigma_s / schedule.sigma(t)[:, None]) * turned.clamp(min=0).sqrt()[:, None] / alpha_s
    return alpha_s * data + (sigma_s.square() - added.square()).clamp(min=0).sqrt() * noise + added * fresh


def _heun_step(look: Guide, denoise: Denoiser, schedule: Schedule, z: Tensor, t: Tensor, s: Tensor) -> Tensor:
    turn = (schedule.angle(s) - schedule.angle(t))[:, None]
    data, noise = look(denoise, z, t, s)
    z = schedule.alpha(t)[:, None] * data + schedule.sigma(t)[:, None] * noise  # moved, where a guide moves it
    slope = _slope((data, noise), schedule, t)
    return z + 0.5 * turn * (slope + _slope(look(denoise, z + turn * slope, s, s), schedule, s))


def _slope(estimate: tuple[Tensor, Tensor], schedule: Schedule, t: Tensor) -> Tensor:
    """`dz / d angle` of the probability-flow equation."""
    data, noise = estimate
    return schedule.alpha(t)[:, None] * noise - schedule.sigma(t)[:, None] * data
