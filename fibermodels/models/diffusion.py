"""Conditional diffusion in a latent space; without a condition it is an unconditional prior.

Noise `e ~ N(0, I)` is mixed into a latent, `z_t = alpha z_0 + sigma e`, and a network predicts it from
`z_t`, the time and the condition; the loss is the squared error of that prediction. A sampler goes from
noise to a latent with it.

The prediction is `sigma z_t + alpha F(z_t, t, h)`: a network `F` and what is right for standard normal
data. The predicted clean latent is then

    (z_t - sigma e_hat) / alpha = alpha z_t - sigma F,

without a division. A network that predicts the noise itself has its error, and the rounding of low
precision, multiplied by `1 / alpha` there, without bound near `t = 1`.

References: Ho et al., arXiv 2006.11239; Salimans & Ho, arXiv 2202.00512 (`F` is their v).
"""

from abc import ABC, abstractmethod
from typing import Literal, get_args

import torch
from torch import Tensor

from fibermodels.core import LatentSpace, Stepped
from fibermodels.diffusion import (
    SCHEDULES,
    Denoiser,
    Prior,
    SamplerName,
    ScheduleName,
    bound,
    check_sampler,
    network_calls,
    sample,
    stochasticity,
)
from fibermodels.nn import ResidualMLP, TimeEmbedding, spread_times

Objective = Literal["noise", "velocity"]


class NoisePrediction(Stepped, Prior, ABC):
    """What all noise-prediction models share; they differ in the network.

    Args:
        latents: the frozen latent space.
        feature_dim: dimensions of the (flat) representation; 0 makes an unconditional prior, which ignores it.
        schedule: `cosine`, `linear` (in beta) or `straight` (flow matching's path).
        sampler: `ddim`, `ancestral` or `heun`; the second draws noise at every step.
        steps: steps of the sampler.
        eta: for `ddim`: noise at every step, in units of that of `ancestral`.
        objective: `noise`, the squared error of the predicted noise; or `velocity`, that of the network's `F`, which
            is larger by `1 / alpha^2`: near pure noise it asks what the former does not. On the path `straight` it
            is flow matching's loss, times a weight in [1/2, 1] that depends on the time alone.
    """

    def __init__(
        self,
        latents: LatentSpace,
        feature_dim: int,
        schedule: ScheduleName,
        sampler: SamplerName,
        steps: int,
        eta: float,
        objective: Objective = "noise",
    ) -> None:
        super().__init__(latents)
        if schedule not in SCHEDULES:
            raise ValueError(f"{type(self).__name__}: schedule must be one of {list(SCHEDULES)}, got '{schedule}'")
        if feature_dim < 0:
            raise ValueError(f"{type(self).__name__}: feature_dim must not be negative, got {feature_dim}")
        if objective not in get_args(Objective):
            raise ValueError(
                f"{type(self).__name__}: objective must be one of {list(get_args(Objective))}, got '{objective}'"
            )
        check_sampler(type(self).__name__, sampler, steps, eta)
        self.feature_dim, self.objective = feature_dim, objective
        self.schedule, self.sampler, self.steps, self.eta = SCHEDULES[schedule], sampler, steps, eta
        self.network_calls = network_calls(sampler, steps)
        if stochasticity(sampler, eta):
            self.noise_shape = (steps, *latents.latent_shape)

    @abstractmethod
    def predict(self, z_t: Tensor, t: Tensor, h: Tensor) -> Tensor:
        """The network's `F(z_t, t, h)`, `(B, D)`; `h` `(B, feature_dim)`."""

    def denoise(self, z_t: Tensor, t: Tensor, h: Tensor | None) -> tuple[Tensor, Tensor]:
        """The predicted clean latent and the predicted noise, each `(B, D)`."""
        return self.split(self.predict(z_t, t, bound(self, z_t, h, self.feature_dim)), z_t, t)

    def split(self, output: Tensor, z_t: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """The data and the noise that an output `F` of the network stands for."""
        alpha, sigma = self.schedule.alpha(t)[:, None], self.schedule.sigma(t)[:, None]
        return alpha * z_t - sigma * output, sigma * z_t + alpha * output

    def denoiser(self, h: Tensor | None = None) -> Denoiser:
        return lambda z, t: self.denoise(z, t, h)

    def latent_loss(self, z: Tensor, h: Tensor) -> dict[str, Tensor]:
        noise = torch.randn_like(z)
        t = spread_times(z)
        z_t = self.noised(z, noise, t)
        if self.objective == "noise":
            return {"noise": (self.denoise(z_t, t, h)[1] - noise).square().mean(1)}
        velocity = self.schedule.alpha(t)[:, None] * noise - self.schedule.sigma(t)[:, None] * z
        error = self.predict(z_t, t, bound(self, z_t, h, self.feature_dim)) - velocity
        return {"velocity": error.square().mean(1)}

    def noised(self, z: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        return self.schedule.alpha(t)[:, None] * z + self.schedule.sigma(t)[:, None] * noise

    def estimate(self, z_t: Tensor, t: Tensor, h: Tensor) -> Tensor:
        return self.denoise(z_t, t, h)[0]

    def transport(self, noise: Tensor, h: Tensor, last_steps: int | None = None) -> Tensor:
        return sample(self.denoiser(h), self.schedule, noise, self.steps, self.sampler, self.eta, last_steps)


class Diffusion(NoisePrediction):
    """A noise-prediction model over the latents of a frozen latent space.

    Args:
        latents, feature_dim, schedule, sampler, steps, eta: as in `NoisePrediction`.
        width: width of the network.
        blocks: residual blocks of the network.
        time_dim: dimensions of the time embedding.
        weights: a safetensors file of a trained model; None starts at random.
    """

    def __init__(
        self,
        latents: LatentSpace,
        feature_dim: int = 48,
        width: int = 512,
        blocks: int = 4,
        schedule: ScheduleName = "cosine",
        sampler: SamplerName = "heun",
        steps: int = 8,
        eta: float = 0.0,
        time_dim: int = 64,
        weights: str | None = None,
    ) -> None:
        super().__init__(latents, feature_dim, schedule, sampler, steps, eta)
        (dim,) = latents.latent_shape
        self.time = TimeEmbedding(time_dim)
        self.network = ResidualMLP(
            dim + feature_dim, dim, width, blocks, context=time_dim + feature_dim, zero_output=True
        )
        self.load_density(weights)

    def predict(self, z_t: Tensor, t: Tensor, h: Tensor) -> Tensor:
        return self.network(torch.cat((z_t, h), -1), torch.cat((self.time(t), h), -1))
