"""Conditional flow matching in a latent space.

A straight path from data to noise, `z_t = (1 - t) z_0 + t e` with `e ~ N(0, I)`, has the velocity
`e - z_0`. Its conditional mean `v(z_t, t, h)` is learned by regression; integrating it from `t = 1`
to `t = 0` turns noise into a latent.

Reference: Lipman et al., arXiv 2210.02747 (there time runs from noise to data).
"""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from fibermodels.core import LatentSpace, Stepped
from fibermodels.diffusion import SCHEDULES, Denoiser, Prior, bound
from fibermodels.nn import ResidualMLP, TimeEmbedding, spread_times

Velocity = Callable[[Tensor, Tensor], Tensor]
Solver = Literal["euler", "midpoint", "heun"]
CALLS_PER_STEP: dict[Solver, int] = {"euler": 1, "midpoint": 2, "heun": 2}


def integrate(
    velocity: Velocity, z: Tensor, steps: int, solver: Solver = "midpoint", last_steps: int | None = None
) -> Tensor:
    """Solves `dz/dt = velocity(z, t)` from `t = 1` to `t = 0` in equal steps.

    Args:
        velocity: a function of `z` `(B, D)` and `t` `(B,)`.
        z: the state at `t = 1`.
        steps: number of steps.
        solver: `euler` (order 1, one call a step), `midpoint` or `heun` (order 2, two calls).
        last_steps: gradients run through so many last steps only; None for all.
    """
    dt = -1.0 / steps
    if last_steps is not None and last_steps < steps:
        with torch.no_grad():
            z = _advance(velocity, z, range(steps - last_steps), dt, solver)
        return _advance(velocity, z, range(steps - last_steps, steps), dt, solver)
    return _advance(velocity, z, range(steps), dt, solver)


def _advance(velocity: Velocity, z: Tensor, steps: range, dt: float, solver: Solver) -> Tensor:
    for i in steps:
        t = torch.full((len(z),), 1 + i * dt, device=z.device, dtype=z.dtype)
        v = velocity(z, t)
        if solver == "midpoint":
            v = velocity(z + 0.5 * dt * v, t + 0.5 * dt)
        elif solver == "heun":
            v = 0.5 * (v + velocity(z + dt * v, t + dt))
        z = z + dt * v
    return z


class FlowMatching(Stepped, Prior):
    """A conditional flow-matching model over the latents of a frozen latent space.

    What `transport` computes is one and the same sampler in training with a fiber loss, and after it:
    few steps make that loss affordable, and the model learns to be right in just these steps.

    Args:
        latents: the frozen latent space.
        feature_dim: dimensions of the (flat) representation; 0 makes an unconditional prior, which ignores it.
        width: width of the velocity network.
        blocks: residual blocks of the velocity network.
        steps: steps of the sampler.
        solver: `euler`, `midpoint` or `heun`.
        time_dim: dimensions of the time embedding.
        weights: a safetensors file of a trained model; None starts at random.
    """

    def __init__(
        self,
        latents: LatentSpace,
        feature_dim: int = 48,
        width: int = 512,
        blocks: int = 4,
        steps: int = 8,
        solver: Solver = "midpoint",
        time_dim: int = 64,
        weights: str | None = None,
    ) -> None:
        super().__init__(latents)
        if steps < 1:
            raise ValueError(f"FlowMatching: steps must be at least 1, got {steps}")
        if solver not in CALLS_PER_STEP:
            raise ValueError(f"FlowMatching: solver must be one of {list(CALLS_PER_STEP)}, got '{solver}'")
        if feature_dim < 0:
            raise ValueError(f"FlowMatching: feature_dim must not be negative, got {feature_dim}")
        self.schedule = SCHEDULES["straight"]
        self.feature_dim, self.steps, self.solver = feature_dim, steps, solver
        self.network_calls = steps * CALLS_PER_STEP[solver]
        (dim,) = latents.latent_shape
        self.time = TimeEmbedding(time_dim)
        self.network = ResidualMLP(
            dim + feature_dim, dim, width, blocks, context=time_dim + feature_dim, zero_output=True
        )
        self.load_density(weights)

    def velocity(self, z: Tensor, t: Tensor, h: Tensor | None) -> Tensor:
        """The network's `v(z, t, h)`, `(B, D)`."""
        h = bound(self, z, h, self.feature_dim)
        return self.network(torch.cat((z, h), -1), torch.cat((self.time(t), h), -1))

    def denoiser(self, h: Tensor | None = None) -> Denoiser:
        """Data is `z_t - t v`, noise `z_t + (1 - t) v`; the schedule's state is `z_t` over the path's length."""

        def denoise(z: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
            share = t[:, None]
            z_t = z * ((1 - share).square() + share.square()).sqrt()
            v = self.velocity(z_t, t, h)
            return z_t - share * v, z_t + (1 - share) * v

        return denoise

    def latent_loss(self, z: Tensor, h: Tensor) -> dict[str, Tensor]:
        noise = torch.randn_like(z)
        t = spread_times(z)
        error = self.velocity(self.noised(z, noise, t), t, h) - (noise - z)
        return {"velocity": error.square().mean(1)}

    def noised(self, z: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        return torch.lerp(z, noise, t[:, None])

    def estimate(self, z_t: Tensor, t: Tensor, h: Tensor) -> Tensor:
        return z_t - t[:, None] * self.velocity(z_t, t, h)

    def transport(self, noise: Tensor, h: Tensor, last_steps: int | None = None) -> Tensor:
        return integrate(lambda z, t: self.velocity(z, t, h), noise, self.steps, self.solver, last_steps)
