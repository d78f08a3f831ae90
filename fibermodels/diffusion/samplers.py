"""From noise to data along a schedule, given a denoiser. One class for each method; diffusion and flows share them.

A sampler goes through times from 1 to 0. In a step from `t` to `s < t` it asks for the expected data and noise and
puts them together again.

DDIM, and with `eta = 1` DDPM's ancestral sampling with the posterior's variance:

    z_s = alpha_s z_0 + sqrt(sigma_s^2 - c^2) e + c xi,    xi ~ N(0, I),
    c = eta sigma_s / sigma_t sqrt(1 - alpha_t^2 / alpha_s^2).

Heun's method solves the probability-flow equation in the angle of the schedule,

    dz / d angle = alpha e - sigma z_0,

whose right side is bounded at both ends of time. Its last step is one of DDIM, which leaves no noise behind, costs one
call, and keeps the order 2 of the whole.

Euler and the midpoint rule solve the same equation along flow matching's straight path, whose state and time are

    y = z / (alpha + sigma),    u = sigma / (alpha + sigma),    dy / du = e - z_0,

in steps that are even in `u`. Euler's step is DDIM's at `eta = 0` on that grid.

References: Song et al., arXiv 2010.02502 (DDIM); Ho et al., arXiv 2006.11239 (ancestral); Karras et al.,
arXiv 2206.00364 (Heun); Salimans & Ho, arXiv 2202.00512 (the angle); Lipman et al., arXiv 2210.02747 (straight path).
"""

from abc import abstractmethod
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import get_args

import torch
from torch import Tensor

from fibermodels.checks import check_choice, check_number
from fibermodels.config import Recorded
from fibermodels.diffusion.schedule import Schedule, Spacing, spaced, straight_angle, straight_time

Estimate = tuple[Tensor, Tensor]
"""The expected data and noise, each `(B, D)`: both, because either from the other divides by a number that vanishes
at one end of time."""

Denoiser = Callable[[Tensor, Tensor], Estimate]
"""From `z_t` `(B, D)` and `t` `(B,)` the expected data and noise, with `z_t = alpha data + sigma noise`."""

Look = Callable[[Tensor, Tensor, Tensor], Estimate]
"""What a step sees at `z_t` and `t` when it leads to the time `s <= t`: the denoiser's estimate, or what guidance makes
of it. Data and noise together are the state `alpha data + sigma noise` that the step starts from: `z_t`, or where
guidance moves it."""


def unguided(denoise: Denoiser) -> Look:
    """The denoiser alone."""
    return lambda z, t, s: denoise(z, t)


class Sampler(metaclass=Recorded):
    """A method that goes from noise to data in a number of steps.

    Args:
        steps: how many, at least 1.
    """

    def __init__(self, steps: int) -> None:
        if steps < 1:
            raise ValueError(f"{type(self).__name__}: steps must be at least 1, got {steps}")
        self.steps = steps

    @property
    def stochastic(self) -> bool:
        """Whether every step but the last adds fresh noise."""
        return False

    @abstractmethod
    def step(
        self, look: Look, schedule: Schedule, z: Tensor, t: Tensor, s: Tensor, fresh: Tensor | None, last: bool
    ) -> Estimate:
        """The state `(B, D)` at times `s` `(B,)`, and the data that was expected at `t`.

        Args:
            look: see `Look`.
            schedule: the one that the denoiser was trained with.
            z: the state `(B, D)` at times `t` `(B,)`.
            t, s: where the step starts, and where it leads.
            fresh: noise `(B, D)` to add, of a stochastic sampler; None in the last step.
            last: whether this step leads to time 0.
        """

    def times(self, schedule: Schedule, like: Tensor) -> Tensor:
        """The `steps + 1` times from 1 to 0; device and dtype of `like`."""
        return schedule.times(self.steps, like)

    def visited(self, schedule: Schedule) -> list[float]:
        """The times at which the denoiser is called."""
        return self.times(schedule, torch.zeros(())).tolist()[:-1]

    @property
    def calls(self) -> int:
        """Calls of the denoiser for one sample."""
        return self.steps

    def noise_shape(self, latent_shape: tuple[int, ...]) -> tuple[int, ...]:
        """Of the noise that one sample takes: the state at time 1, and, of a stochastic sampler, what steps add."""
        return (self.steps, *latent_shape) if self.stochastic else tuple(latent_shape)

    def trajectory(
        self, look: Look, schedule: Schedule, noise: Tensor, last_steps: int | None = None
    ) -> Iterator[Estimate]:
        """After each step, the state and the data that was expected at its start.

        Args:
            look, schedule: as in `step`.
            noise: `(B, *noise_shape)`.
            last_steps: gradients run through so many last steps only; None for all.
        """
        z, *fresh = noise.unbind(1) if self.stochastic else (noise,)
        first = 0 if last_steps is None else max(0, self.steps - last_steps)
        for i, (now, then) in enumerate(pairwise(self.times(schedule, z))):
            t, s = now.expand(len(z)), then.expand(len(z))
            with torch.set_grad_enabled(torch.is_grad_enabled() and i >= first):
                own, last = fresh[i] if i < len(fresh) else None, i == self.steps - 1
                z, data = self.step(look, schedule, z, t, s, own, last)
            yield z, data

    def __call__(self, look: Look, schedule: Schedule, noise: Tensor, last_steps: int | None = None) -> Tensor:
        """Data `(B, D)` at time 0, a function of the noise alone; arguments as in `trajectory`."""
        z = noise
        for z, _ in self.trajectory(look, schedule, noise, last_steps):  # noqa: B007 (the last one counts)
            pass
        return z


class DDIM(Sampler):
    """Order 1, one call a step.

    Args:
        steps: how many.
        eta: noise that every step adds, in [0, 1], in units of that of `Ancestral`.
        spacing: of the steps, `angle` (see `Schedule.times`) or `even` in time.
    """

    def __init__(self, steps: int = 50, eta: float = 0.0, spacing: Spacing = "angle") -> None:
        super().__init__(steps)
        check_choice(type(self).__name__, "spacing", spacing, get_args(Spacing))
        if not 0 <= eta <= 1:
            raise ValueError(f"{type(self).__name__}: eta must be in [0, 1], got {eta}")
        self.eta, self.spacing = eta, spacing

    @property
    def stochastic(self) -> bool:
        return self.eta > 0

    def times(self, schedule: Schedule, like: Tensor) -> Tensor:
        return super().times(spaced(schedule, self.spacing), like)

    def step(
        self, look: Look, schedule: Schedule, z: Tensor, t: Tensor, s: Tensor, fresh: Tensor | None, last: bool
    ) -> Estimate:
        data, noise = look(z, t, s)
        if fresh is None:
            return schedule.noised(data, noise, s), data
        alpha_s, sigma_s = schedule.shares(s)
        # 1 - alpha_t^2 / alpha_s^2, without the difference of two numbers that may be equal after rounding
        turned = torch.sin(schedule.angle(t) - schedule.angle(s)) * torch.sin(schedule.angle(t) + schedule.angle(s))
        added = self.eta * (sigma_s / schedule.sigma(t)[:, None]) * turned.clamp(min=0).sqrt()[:, None] / alpha_s
        return alpha_s * data + (sigma_s.square() - added.square()).clamp(min=0).sqrt() * noise + added * fresh, data


class Ancestral(DDIM):
    """DDPM's sampling with the posterior's variance: DDIM with `eta = 1`.

    Args:
        steps, spacing: as in `DDIM`.
    """

    def __init__(self, steps: int = 50, spacing: Spacing = "angle") -> None:
        super().__init__(steps, 1.0, spacing)


class Heun(Sampler):
    """Order 2 in the schedule's angle; two calls a step, in the last step one.

    Args:
        steps: how many.
    """

    def __init__(self, steps: int = 10) -> None:
        super().__init__(steps)

    @property
    def calls(self) -> int:
        return 2 * self.steps - 1

    def visited(self, schedule: Schedule) -> list[float]:
        first, *inner = super().visited(schedule)
        return [first, *(time for time in inner for _ in range(2))]

    def step(
        self, look: Look, schedule: Schedule, z: Tensor, t: Tensor, s: Tensor, fresh: Tensor | None, last: bool
    ) -> Estimate:
        data, noise = look(z, t, s)
        if last:
            return schedule.noised(data, noise, s), data
        turn = (schedule.angle(s) - schedule.angle(t))[:, None]
        z = schedule.noised(data, noise, t)  # moved, where guidance moves it
        slope = self._slope((data, noise), schedule, t)
        return z + 0.5 * turn * (slope + self._slope(look(z + turn * slope, s, s), schedule, s)), data

    @staticmethod
    def _slope(estimate: Estimate, schedule: Schedule, t: Tensor) -> Tensor:
        """`dz / d angle` of the probability-flow equation."""
        (data, noise), (alpha, sigma) = estimate, schedule.shares(t)
        return alpha * noise - sigma * data


def straight_times(steps: int, schedule: Schedule, like: Tensor, power: float = 1.0) -> Tensor:
    """`steps + 1` times from 1 to 0: powers of even numbers are the straight path's times `u`."""
    last = straight_time(schedule.angle(like.new_ones(())))
    return schedule.grid(steps, like, lambda even: straight_angle(even**power * last))


class Euler(Sampler):
    """Order 1 along the straight path, one call a step.

    Args:
        steps: how many.
    """

    def __init__(self, steps: int = 20) -> None:
        super().__init__(steps)

    def times(self, schedule: Schedule, like: Tensor) -> Tensor:
        return straight_times(self.steps, schedule, like)

    def step(
        self, look: Look, schedule: Schedule, z: Tensor, t: Tensor, s: Tensor, fresh: Tensor | None, last: bool
    ) -> Estimate:
        data, noise = look(z, t, s)
        return schedule.noised(data, noise, s), data


class Midpoint(Sampler):
    """Order 2 along the straight path, two calls a step.

    Args:
        steps: how many.
        power: the times are `(i / steps)^power`. Above 1 the steps near the data are shorter, where narrow parts of a
            law are told apart; positive.
    """

    def __init__(self, steps: int = 8, power: float = 1.0) -> None:
        super().__init__(steps)
        check_number("Midpoint", "power", power, above=0)
        self.power = power

    @property
    def calls(self) -> int:
        return 2 * self.steps

    def times(self, schedule: Schedule, like: Tensor) -> Tensor:
        return straight_times(self.steps, schedule, like, self.power)

    def visited(self, schedule: Schedule) -> list[float]:
        times = self.times(schedule, torch.zeros(()))
        return torch.stack((times[:-1], self._middle(schedule, times[:-1], times[1:])), 1).flatten().tolist()

    def step(
        self, look: Look, schedule: Schedule, z: Tensor, t: Tensor, s: Tensor, fresh: Tensor | None, last: bool
    ) -> Estimate:
        data, noise = look(z, t, s)
        middle = self._middle(schedule, t, s)
        later_data, later_noise = look(schedule.noised(data, noise, middle), middle, s)
        now, then = (straight_time(schedule.angle(time))[:, None] for time in (t, s))
        y = torch.lerp(data, noise, now) + (then - now) * (later_noise - later_data)
        return y * (schedule.alpha(s) + schedule.sigma(s))[:, None], data

    @staticmethod
    def _middle(schedule: Schedule, t: Tensor, s: Tensor) -> Tensor:
        """The schedule's time half way between two times in `u`."""
        now, then = straight_time(schedule.angle(t)), straight_time(schedule.angle(s))
        return schedule.time(straight_angle((now + then) / 2))
