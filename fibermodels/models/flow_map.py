"""A flow map in a latent space: from noise to data in one jump, or a few, learned as a MeanFlow.

Flow matching follows `dy/dt = v(y_t, t, h)` along the path `y_t = (1 - t) z_0 + t e`. A flow map learns the velocity
averaged over a stretch of the trajectory,

    (t - r) u(y_t, r, t, h) = integral of v(y_s, s, h) over s in [r, t],    y_r = y_t - (t - r) u(y_t, r, t, h).

Its derivative in `t`, with the total derivative `u' = v . d_y u + d_t u`, is the MeanFlow identity

    u = v - (t - r) u',

which for all `r <= t` holds for the average velocity alone. The right side, without gradient, is what `u` regresses on.
It is linear in `v`, so `e - z_0`, whose mean given `y_t` is `v`, may take its place in both terms. A trained velocity
field in its place (`teacher`) gives that mean itself, a target without noise. At `r = t` this is flow matching.

Reference: Geng et al., Mean Flows for One-step Generative Modeling, arXiv 2505.13447.
"""

from collections.abc import Callable, Iterable
from typing import Any, Literal, Self, get_args

import torch
from torch import Tensor

from fibermodels.checks import check_choice, check_number
from fibermodels.core import LatentSpace
from fibermodels.diffusion import SCHEDULES
from fibermodels.models.diffusion import Diffusion
from fibermodels.models.flow_matching import FlowMatching
from fibermodels.nn import Network
from fibermodels.trainable import Stepped

Derivative = Literal["forward", "difference"]


def total_derivative(
    u: Callable[[Tensor, Tensor], Tensor], z: Tensor, t: Tensor, velocity: Tensor, route: Derivative = "forward"
) -> Tensor:
    """`d/dt u(z_t, t)` for a `z_t` that passes through `z` with `velocity`; without gradients.

    `difference` is symmetric, with a step `s = eps^(1/3) / 10`. Rounding gives it an error of about `eps / s` (2e-4 in
    float32, 4e-10 in float64), the series one of `(w s)^2 / 6` of what varies along the path as `sin(w t)`.

    Args:
        u: a function of `z` `(B, D)` and `t` `(B,)`.
        z, t: states and their times.
        velocity: `dz/dt`, `(B, D)`.
        route: `forward` for forward-mode differentiation, which is exact; `difference` for two calls of `u`,
            which asks nothing of the network (fused attention has no forward mode).
    """
    with torch.no_grad():
        if route == "forward":
            return torch.func.jvp(u, (z, t), (velocity, torch.ones_like(t)))[1]
        step = 0.1 * torch.finfo(z.dtype).eps ** (1 / 3)
        return (u(z + step * velocity, t + step) - u(z - step * velocity, t - step)) / (2 * step)


class FlowMap(Stepped):
    """A flow map over the latents of a frozen latent space.

    The weights of a flow-matching model with the same network fit all of it but what sees the length of a step, which
    in a `nn.UNet` starts at zero: it starts as the velocity field of that model.

    Args:
        latents: the frozen latent space.
        feature_shape: of the representation, `[D]` or `[C, H, W]`; `[]` for none.
        network: `nn.MLP`, or `nn.UNet` for latents that are maps.
        steps: jumps of the sampler, of equal length in time; one network call each.
        instantaneous: share of a batch's rows with `r = t`, which learn plain flow matching.
        power: `p` of the adaptive weight `1 / (error + 1e-3)^p` of a row, `error` being its mean square over
            dimensions. The minimum is the conditional mean for 0, and where the target has no noise (`teacher`);
            elsewhere any other power favours small errors.
        derivative: how the total derivative is computed, `forward` or `difference` (see `total_derivative`).
        teacher: a trained model over the same latent space, on the path `straight`. It is frozen here, its velocity
            takes the place of `e - z`, and the product of the training is without it.
        weights: a safetensors file of a trained flow map; None starts at random.

    Raises:
        ValueError: numbers out of range, a teacher of other shapes or another path, or a network without forward mode.
    """

    def __init__(
        self,
        latents: LatentSpace,
        feature_shape: list[int],
        network: Network,
        steps: int = 1,
        instantaneous: float = 0.5,
        power: float = 0.0,
        derivative: Derivative = "forward",
        teacher: FlowMatching | Diffusion | None = None,
        weights: str | None = None,
    ) -> None:
        super().__init__(latents, feature_shape)
        check_number("FlowMap", "steps", steps, least=1)
        check_number("FlowMap", "instantaneous", instantaneous, least=0, below=1)
        check_number("FlowMap", "power", power, least=0)
        check_choice("FlowMap", "derivative", derivative, get_args(Derivative))
        if derivative == "forward" and not network.forward_mode:
            raise ValueError(
                "FlowMap: derivative must be 'difference' with attention or checkpointing, which have no forward-mode "
                "derivative, got 'forward'"
            )
        self.schedule = SCHEDULES["straight"]
        if teacher is not None:
            theirs, ours = ((each.latents.latent_shape, each.feature_shape) for each in (teacher, self))
            if theirs != ours:
                raise ValueError(
                    f"FlowMap: the teacher must have the flow map's latent shape and feature_shape {ours}, got {theirs}"
                )
            if teacher.schedule is not self.schedule:
                raise ValueError("FlowMap: the teacher must follow the path 'straight', as the flow map does")
        self.steps = self.network_calls = steps
        self.instantaneous, self.power = instantaneous, power
        self.derivative: Derivative = derivative
        self.network = network.build(latents.shape, feature_shape, times=2, differentiated=True)
        self.load_density(weights)  # which holds no teacher
        self.teacher = None if teacher is None else teacher.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        if self.teacher is not None:
            self.teacher.eval()
        return self

    def average_velocity(self, y: Tensor, r: Tensor, t: Tensor, condition: Any) -> Tensor:
        """The network's `u(y, r, t, h)`, `(B, D)`, for a `y` at times `t`."""
        velocity: Tensor = self.network(y, (t, t - r), condition)
        return velocity

    def jump(self, y: Tensor, t: Tensor, r: Tensor, condition: Any) -> Tensor:
        """The state at times `r` `(B,)` on the trajectory through `y` at times `t`, in one call."""
        return y - (t - r)[:, None] * self.average_velocity(y, r, t, condition)

    def latent_loss(self, z: Tensor, h: Tensor) -> dict[str, Tensor]:
        noise = torch.randn_like(z)
        r, t = self.times(z)
        y = torch.lerp(z, noise, t[:, None])
        found = self.average_velocity(y, r, t, self.network.condition(h))
        error = (found - self.target(y, r, t, h, noise - z)).square().mean(1)
        if self.power:
            error = error / (error.detach() + 1e-3) ** self.power
        return {"average_velocity": error}

    def times(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Times of a batch: two squares of uniform numbers, in order; in its first rows, `r = t`.

        Squares prefer times near the data, where narrow parts of the law are told apart and where the one jump from
        noise ends: the model learns faster than from uniform times.
        """
        r, t = torch.rand(2, len(z), device=z.device, dtype=z.dtype).square().sort(0).values
        return torch.cat((t[: self._rows(z)], r[self._rows(z) :])), t

    def _rows(self, z: Tensor) -> int:
        """How many rows of a batch are instantaneous: a fixed number, so that u' is computed for the others alone."""
        return int(self.instantaneous * len(z))

    @torch.no_grad()
    def target(self, y: Tensor, r: Tensor, t: Tensor, h: Tensor, velocity: Tensor) -> Tensor:
        """The right side of the MeanFlow identity, without gradients.

        It is computed in full precision: the derivative of a bfloat16 network is mostly rounding, and nothing that is
        computed outside of the loss's graph may stay in autocast's cache of weights.
        """
        with torch.autocast(y.device.type, enabled=False):
            if self.teacher is not None:
                data, noise = self.teacher.denoiser(h)(y * sum(self.schedule.shares(t)), t)
                velocity = noise - data
            first = self._rows(y)
            late, condition = r[first:], self.network.condition(h[first:])
            y, t, later = y[first:], t[first:], velocity[first:]
            change = total_derivative(
                lambda y, t: self.average_velocity(y, late, t, condition), y, t, later, self.derivative
            )
            return torch.cat((velocity[:first], later - (t - late)[:, None] * change))

    def noised(self, z: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        return self.schedule.noised(z, noise, t)

    def estimate(self, z_t: Tensor, t: Tensor, h: Tensor) -> Tensor:
        """The end of the trajectory through `z_t`, a sample: not the conditional mean."""
        y, t = self.schedule.straightened(z_t, t)
        return self.jump(y, t, torch.zeros_like(t), self.network.condition(h))

    def transport(self, noise: Tensor, h: Tensor, last_steps: int | None = None) -> Tensor:
        y, condition = noise, self.network.condition(h)
        for i in range(self.steps, 0, -1):
            t, r = (y.new_full((len(y),), k / self.steps) for k in (i, i - 1))
            with torch.set_grad_enabled(torch.is_grad_enabled() and (last_steps is None or i <= last_steps)):
                y = self.jump(y, t, r, condition)
        return y

    def product(self, batches: Iterable[dict[str, Tensor]]) -> "FlowMap":
        """The flow map without its teacher."""
        product = type(self)(**self.arguments | {"weights": None, "teacher": None})
        state = self.state_dict()
        product.load_state_dict({name: value for name, value in state.items() if not name.startswith("teacher.")})
        return product
