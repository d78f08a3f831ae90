"""Schedules of networks that were trained elsewhere: a table of discrete steps, and the shifted straight path.

A network of `T` steps `k = 0 .. T - 1` knows `alpha_k^2 = prod_{i <= k} (1 - beta_i)`. In continuous time step `k`
is at

    t = (k + 1) / T,

so that time 1 is the last, noisiest step and time 0 is clean data, one step below the first, which no network sees.

References: Ho et al., arXiv 2006.11239 (the table); Esser et al., arXiv 2403.03206, eq. 23 (the shift);
Lin et al., arXiv 2305.08891 (the even grid, there called "trailing").
"""

import torch
from torch import Tensor

from fibermodels.diffusion.schedule import Schedule, straight_angle, straight_time


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
