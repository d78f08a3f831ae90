"""What flow maps share, whatever their network: loss, jumps, teacher.

Flow matching follows `dz/dt = v(z_t, t, h)` along the path `z_t = (1 - t) z_0 + t e`. A flow map learns
the velocity averaged over a stretch of the trajectory,

    (t - r) u(z_t, r, t, h) = integral of v(z_s, s, h) over s in [r, t],    z_r = z_t - (t - r) u(z_t, r, t, h).

Differentiating in `t` along the trajectory, where `dz_t/dt = v`, leaves no integral: with the total
derivative `u' = v . d_z u + d_t u` it is the MeanFlow identity

    u = v - (t - r) u',

which for all `r <= t` holds for the average velocity alone. The right side, without gradient, is what `u`
regresses on. It is linear in `v`, so `e - z_0`, whose mean given `z_t` is `v`, may take its place in both
terms: the mean of the target stays the same. A trained velocity field in its place (`teacher`) gives
that mean itself, a target without noise. At `r = t` all of this is flow matching.

Reference: Geng et al., Mean Flows for One-step Generative Modeling, arXiv 2505.13447.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import Literal, Self, get_args

import torch
from torch import Tensor

from fibermodels.core import LatentSpace, Stepped
from fibermodels.diffusion import SCHEDULES
from fibermodels.models.diffusion import NoisePrediction
from fibermodels.models.flow_matching import FlowMatching

Derivative = Literal["forward", "difference"]
Teacher = FlowMatching | NoisePrediction


def total_derivative(
    u: Callable[[Tensor, Tensor], Tensor], z: Tensor, t: Tensor, velocity: Tensor, route: Derivative = "forward"
) -> Tensor:
    """`d/dt u(z_t, t)` for a `z_t` that passes through `z` with `velocity`; without gradients.

    `difference` is symmetric, with a step `s = eps^(1/3) / 10`. Rounding gives it an error of about
    `eps / s`, which is 2e-4 in float32 and 4e-10 in float64, and the series one of `(w s)^2 / 6` of
    what varies along the path as `sin(w t)`: 2e-6 in float32 at `w = 2 pi`.

    Args:
        u: a function of `z` `(B, D)` and `t` `(B,)`.
        z: states.
        t: their times.
        velocity: `dz/dt`, `(B, D)`.
        route: `forward` for forward-mode differentiation, which is exact; `difference` for two calls of `u`,
            which asks nothing of the network (fused attention has no forward mode).
    """
    with torch.no_grad():
        if route == "forward":
            return torch.func.jvp(u, (z, t), (velocity, torch.ones_like(t)))[1]
        step = 0.1 * torch.finfo(z.dtype).eps ** (1 / 3)
        return (u(z + step * velocity, t + step) - u(z - step * velocity, t - step)) / (2 * step)


class MeanFlow(Stepped, ABC):
    """A conditional flow map over the latents of a frozen latent space.

    Args:
        latents: the frozen latent space.
        feature_dim: dimensions of the (flat) representation.
        steps: jumps of the sampler, of equal length in time; one network call each.
        instantaneous: share of a batch's rows with `r = t`, which learn plain flow matching.
        power: `p` of the adaptive weight `1 / (error + 1e-3)^p` of a row, `error` being its mean square over
            dimensions. 0 leaves the regression as it is: its minimum is the conditional mean. Any other
            power favours small errors, and only where the target has no noise (`teacher`) the minimum
            remains the same.
        derivative: how the total derivative is computed, `forward` or `difference` (see `total_derivative`).
        teacher: a trained flow-matching model over the same latent space, on the path `straight`.
    """

    def __init__(
        self,
        latents: LatentSpace,
        feature_dim: int,
        steps: int,
        instantaneous: float,
        power: float,
        derivative: Derivative,
        teacher: Teacher | None,
    ) -> None:
        super().__init__(latents)
        name = type(self).__name__
        if steps < 1:
            raise ValueError(f"{name}: steps must be at least 1, got {steps}")
        if not 0 <= instantaneous < 1:
            raise ValueError(f"{name}: instantaneous must be a share in [0, 1), got {instantaneous}")
        if not power >= 0:
            raise ValueError(f"{name}: power must be at least 0, got {power}")
        if derivative not in get_args(Derivative):
            raise ValueError(f"{name}: derivative must be one of {list(get_args(Derivative))}, got '{derivative}'")
        if teacher is not None:
            theirs, ours = (teacher.noise_shape, teacher.feature_dim), (self.noise_shape, feature_dim)
            if theirs != ours:
                raise ValueError(
                    f"{name}: the teacher must have the flow map's latent shape and feature_dim {ours}, got {theirs}"
                )
            if type(teacher.schedule) is not type(SCHEDULES["straight"]):
                raise ValueError(f"{name}: the teacher must follow the path 'straight', as the flow map does")
        self.feature_dim = feature_dim
        self.steps = self.network_calls = steps
        self.instantaneous, self.power = instantaneous, power
        self.derivative: Derivative = derivative

    def finish(self, weights: str | None, teacher: Teacher | None) -> None:
        """The end of every constructor: weights, which hold no teacher, and then the teacher, frozen."""
        self.load_density(weights)
        self.teacher = None if teacher is None else teacher.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> Self:
        """Latent space and teacher are frozen: they stay in evaluation mode."""
        super().train(mode)
        if self.teacher is not None:
            self.teacher.eval()
        return self

    @abstractmethod
    def average_velocity(self, z: Tensor, r: Tensor, t: Tensor, h: Tensor) -> Tensor:
        """The network's `u(z, r, t, h)`, `(B, D)`, for a `z` at time `t`."""

    def jump(self, z: Tensor, t: Tensor, r: Tensor, h: Tensor) -> Tensor:
        """The state at times `r` `(B,)` on the trajectory through `z` at times `t`, in one call."""
        return z - (t - r)[:, None] * self.average_velocity(z, r, t, h)

    def latent_loss(self, z: Tensor, h: Tensor) -> dict[str, Tensor]:
        noise = torch.randn_like(z)
        r, t = self.times(z)
        z_t = self.noised(z, noise, t)
        error = (self.average_velocity(z_t, r, t, h) - self.target(z_t, r, t, h, noise - z)).square().mean(1)
        if self.power:
            error = error / (error.detach() + 1e-3) ** self.power
        return {"average_velocity": error}

    def times(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Times of a batch: two squares of uniform numbers, in order; in its first rows, `r = t`.

        Squares prefer times near the data, where narrow parts of the law are told apart, and there the
        one jump from noise has its other end: it learns faster than from uniform times.
        """
        r, t = torch.rand(2, len(z), device=z.device, dtype=z.dtype).square().sort(0).values
        return torch.cat((t[: self._rows(z)], r[self._rows(z) :])), t

    def _rows(self, z: Tensor) -> int:
        """How many rows of a batch are instantaneous: a fixed number, so that the others alone pay for u'."""
        return int(self.instantaneous * len(z))

    @torch.no_grad()
    def target(self, z_t: Tensor, r: Tensor, t: Tensor, h: Tensor, velocity: Tensor) -> Tensor:
        """The right side of the MeanFlow identity, without gradients.

        In full precision: the derivative of a bfloat16 network is mostly rounding. And nothing that is
        computed here, outside of the loss's graph, may stay in autocast's cache of weights.
        """
        with torch.autocast(z_t.device.type, enabled=False):
            if self.teacher is not None:
                velocity = _velocity(self.teacher, z_t, t, h)
            first = self._rows(z_t)
            late_r, late_h = r[first:], h[first:]
            change = total_derivative(
                lambda z, t: self.average_velocity(z, late_r, t, late_h),
                z_t[first:],
                t[first:],
                velocity[first:],
                self.derivative,
            )
            return torch.cat((velocity[:first], velocity[first:] - (t - r)[first:, None] * change))

    def noised(self, z: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        return torch.lerp(z, noise, t[:, None])

    def estimate(self, z_t: Tensor, t: Tensor, h: Tensor) -> Tensor:
        """The end of the trajectory through `z_t`, a sample: not the conditional mean."""
        return self.jump(z_t, t, torch.zeros_like(t), h)

    def transport(self, noise: Tensor, h: Tensor, last_steps: int | None = None) -> Tensor:
        z = noise
        for i in range(self.steps, 0, -1):
            t, r = (z.new_full((len(z),), k / self.steps) for k in (i, i - 1))
            with torch.set_grad_enabled(torch.is_grad_enabled() and (last_steps is None or i <= last_steps)):
                z = self.jump(z, t, r, h)
        return z

    def product(self, batches: Iterable[dict[str, Tensor]]) -> "MeanFlow":
        """The flow map without its teacher."""
        product = type(self)(**self.arguments | {"weights": None, "teacher": None})
        own = {name: value for name, value in self.state_dict().items() if not name.startswith("teacher.")}
        product.load_state_dict(own)
        return product


def _velocity(teacher: Teacher, z: Tensor, t: Tensor, h: Tensor) -> Tensor:
    """`E[e - z_0 | z_t]` of a prior whose state is `z_t` over the path's length."""
    length = ((1 - t).square() + t.square()).sqrt()[:, None]
    data, noise = teacher.denoiser(h)(z / length, t)
    return noise - data
