"""Variance-preserving noise schedules in continuous time, 0 (data) to 1 (noise).

    z_t = alpha(t) z_0 + sigma(t) e,    alpha^2 + sigma^2 = 1,    e ~ N(0, I)

Such a path is a rotation: `alpha = cos(angle)`, `sigma = sin(angle)`. A schedule is how fast time turns the angle, from
0 to at most a quarter turn. There alpha is 0, so nothing here or in the samplers divides by alpha.

References: Nichol & Dhariwal, arXiv 2102.09672 (cosine); Ho et al., arXiv 2006.11239 and Song et al.,
arXiv 2011.13456 (linear beta); Lipman et al., arXiv 2210.02747 (straight).
"""

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

ScheduleName = Literal["cosine", "linear", "straight"]


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
