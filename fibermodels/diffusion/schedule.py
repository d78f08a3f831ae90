"""Variance-preserving noise schedules in continuous time, 0 (data) to 1 (noise).

    z_t = alpha(t) z_0 + sigma(t) e,    alpha^2 + sigma^2 = 1,    e ~ N(0, I)

Such a path is a rotation: `alpha = cos(angle)`, `sigma = sin(angle)`. A schedule is how fast time turns the angle, from
0 to at most a quarter turn. There alpha is 0, so nothing here or in the samplers divides by alpha.

A network of `T` steps `k = 0 .. T - 1` knows `alpha_k^2 = prod_{i <= k} (1 - beta_i)`. In continuous time step `k` is
at `t = (k + 1) / T`: time 1 is the last, noisiest step, and time 0 is clean data, which no network sees.

References: Nichol & Dhariwal, arXiv 2102.09672 (cosine); Ho et al., arXiv 2006.11239 (linear beta, the table) and Song
et al., arXiv 2011.13456 (linear beta); Lipman et al., arXiv 2210.02747 (straight); Esser et al., arXiv 2403.03206,
eq. 23 (the shift); Lin et al., arXiv 2305.08891 (the even grid, there called "trailing").
"""

import math
from collections.abc import Callable
from typing import Literal, get_args

import torch
from torch import Tensor

from fibermodels.checks import check_choice

ScheduleName = Literal["cosine", "linear", "straight"]
"""The name of a schedule in `SCHEDULES`."""


class Schedule:
    """The angle as an increasing function of time, and its inverse; elementwise on tensors.

    Args:
        angle: the angle in [0, pi/2] at times in [0, 1]; 0 at time 0.
        time: the time at which an angle is reached.
    """

    def __init__(self, angle: Callable[[Tensor], Tensor], time: Callable[[Tensor], Tensor]) -> None:
        self.angle, self.time = angle, time

    def alpha(self, t: Tensor) -> Tensor:
        """The share of data, from 1 down."""
        return torch.sin(math.pi / 2 - self.angle(t))  # a cosine that is not negative at pi/2 after rounding

    def sigma(self, t: Tensor) -> Tensor:
        """The share of noise, from 0 up."""
        return torch.sin(self.angle(t))

    def shares(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """`alpha` and `sigma`, each `(B, 1)`, at times `t` `(B,)`."""
        return self.alpha(t)[:, None], self.sigma(t)[:, None]

    def noised(self, z: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """The state `alpha z + sigma noise` `(B, D)` at times `t` `(B,)`."""
        alpha, sigma = self.shares(t)
        return alpha * z + sigma * noise

    def straightened(self, z: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """State `z / (alpha + sigma)` and time `sigma / (alpha + sigma)` on flow matching's straight path."""
        alpha, sigma = self.alpha(t), self.sigma(t)
        return z / (alpha + sigma)[:, None], sigma / (alpha + sigma)

    def times(self, steps: int, like: Tensor) -> Tensor:
        """A grid for samplers: `steps + 1` times from 1 to 0; device and dtype of `like`.

        The angle shrinks quadratically. In the angle the samplers' equation is smooth. In time it is not: wherever
        `beta` starts above 0, sigma behaves like sqrt(t) at the data, and with steps even in time a solver of order 2
        has order 1. The steps shrink towards the data, since the narrower a law is, the later it is decided.
        """
        return self.grid(steps, like, lambda even: self.angle(like.new_ones(())) * even.square())

    def grid(self, steps: int, like: Tensor, angle: Callable[[Tensor], Tensor]) -> Tensor:
        """`steps + 1` times from 1 to 0, those between at the angles of `steps` even shares of 1."""
        even = torch.linspace(1, 0, steps + 1, device=like.device, dtype=like.dtype)
        between = self.time(angle(even))[1:-1].clamp(0, 1)
        return torch.cat((even[:1], between, even[-1:]))


BETA_MIN, BETA_MAX = 0.1, 20.0


def linear_angle(t: Tensor) -> Tensor:
    """The angle of `alpha = exp(-1/2 int_0^t beta)` with `beta` from 0.1 to 20; it ends at alpha = 0.0066."""
    decay = BETA_MIN / 2 * t + (BETA_MAX - BETA_MIN) / 4 * t.square()
    return torch.atan2((-torch.expm1(-2 * decay)).sqrt(), torch.exp(-decay))


def linear_time(angle: Tensor) -> Tensor:
    """The inverse of `linear_angle`."""
    alpha, sigma = torch.sin(math.pi / 2 - angle), torch.sin(angle)  # each exact where it is small
    decay = torch.where(sigma < alpha, -0.5 * torch.log1p(-sigma.square()), -alpha.log())
    root = (BETA_MIN**2 + 4 * (BETA_MAX - BETA_MIN) * decay).sqrt()
    return 4 * decay / (BETA_MIN + root)  # the quadratic's positive root, without cancellation


def straight_angle(t: Tensor) -> Tensor:
    """The angle of flow matching's path, `(1 - t) z_0 + t e`, divided by its length `sqrt((1 - t)^2 + t^2)`."""
    return torch.atan2(t, 1 - t)


def straight_time(angle: Tensor) -> Tensor:
    """The inverse of `straight_angle`, `sigma / (alpha + sigma)`."""
    sin, cos = torch.sin(angle), torch.sin(math.pi / 2 - angle)
    return sin / (sin + cos)


SCHEDULES: dict[ScheduleName, Schedule] = {
    "cosine": Schedule(lambda t: math.pi / 2 * t, lambda angle: angle / (math.pi / 2)),
    "linear": Schedule(linear_angle, linear_time),
    "straight": Schedule(straight_angle, straight_time),
}
"""`cosine` is the published one without its offset, which guards discrete steps against too small a first one."""


class Tabulated(Schedule):
    """The angles of a table at its times `(k + 1) / T`, 0 at time 0, and straight lines between.

    Args:
        alphas_cumprod: `alpha_k^2`, `(T,)`, decreasing, in [0, 1).
    """

    def __init__(self, alphas_cumprod: Tensor) -> None:
        squares = alphas_cumprod.detach().cpu().double()
        falling = squares.ndim == 1 and len(squares) > 0 and bool((squares.diff() < 0).all())
        if not (falling and squares[-1] >= 0 and squares[0] < 1):
            raise ValueError(
                "Tabulated: alphas_cumprod must be a vector that decreases within [0, 1), got "
                f"shape {tuple(squares.shape)}, values {squares.flatten()[:3].tolist()} ..."
            )
        super().__init__(self._angle, self._time)
        self.steps = len(squares)
        angles = torch.atan2((1 - squares).sqrt(), squares.sqrt())
        self._tables = {(angles.device, angles.dtype): torch.cat((angles.new_zeros(1), angles))}

    def index(self, t: Tensor) -> Tensor:
        """The network's (fractional) step `T t - 1` at times `t`; 0 below the first."""
        return (t * self.steps - 1).clamp(min=0)

    def _angle(self, t: Tensor) -> Tensor:
        table = self._table(t)
        place = t.clamp(0, 1) * self.steps
        below = place.floor().clamp(max=self.steps - 1).long()
        return torch.lerp(table[below], table[below + 1], place - below)

    def _time(self, angle: Tensor) -> Tensor:
        table = self._table(angle)
        above = torch.searchsorted(table, angle.contiguous()).clamp(1, self.steps)
        low, high = table[above - 1], table[above]
        return (above - 1 + (angle - low) / (high - low)) / self.steps

    def _table(self, like: Tensor) -> Tensor:
        """The angles `(T + 1,)` where and as `like` is; copied to a device once."""
        key = (like.device, like.dtype)
        if key not in self._tables:
            self._tables[key] = next(iter(self._tables.values())).to(like)
        return self._tables[key]


def shifted(shift: float) -> Schedule:
    """The path `straight`, run through at `s = shift t / (1 + (shift - 1) t)`: for `shift > 1` longer in the noise.

    Args:
        shift: positive; 1 changes nothing.
    """
    if not shift > 0:
        raise ValueError(f"shifted: shift must be positive, got {shift}")

    def time(angle: Tensor) -> Tensor:
        s = straight_time(angle)
        return s / (shift - (shift - 1) * s)

    return Schedule(lambda t: straight_angle(shift * t / (1 + (shift - 1) * t)), time)


Spacing = Literal["angle", "even"]
"""How samplers go through time: evenly in the schedule's angle, squared, or in time, which is that of a table."""


class Even(Schedule):
    """Another schedule, with a samplers' grid that is even in time: on the steps of a table, where there is one.

    It is what such networks are usually sampled on, though coarser near the data than the angle's own (see
    `Schedule.times`).

    Args:
        schedule: the other.
    """

    def __init__(self, schedule: Schedule) -> None:
        super().__init__(schedule.angle, schedule.time)
        self.table = schedule.steps if isinstance(schedule, Tabulated) else None

    def times(self, steps: int, like: Tensor) -> Tensor:
        even = torch.linspace(1, 0, steps + 1, dtype=torch.double)
        if self.table is not None:
            if steps > self.table:
                raise ValueError(
                    f"steps: expected at most the {self.table} that the network was trained with, got {steps}"
                )
            even = (even * self.table).round() / self.table
        return even.to(like)


def spaced(schedule: Schedule, spacing: Spacing) -> Schedule:
    """The schedule with the samplers' grid that is asked for."""
    check_choice("sampler", "spacing", spacing, get_args(Spacing))
    return Even(schedule) if spacing == "even" else schedule
