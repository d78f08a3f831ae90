"""Conditional diffusion in a latent space.

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

import torch
from torch import Tensor

from fibermodels.core import LatentSpace, Stepped
from fibermodels.diffusion import SAMPLERS, SCHEDULES, SamplerName, ScheduleName, network_calls, sample, stochasticity
from fibermodels.nn import ResidualMLP, TimeEmbedding, spread_times


class Diffusion(Stepped):
    """A conditional noise-prediction model over the latents of a frozen latent space.

    Args:
        latents: the frozen latent space.
        feature_dim: dimensions of the (flat) representation.
        width: width of the network.
        blocks: residual blocks of the network.
        schedule: `cosine` or `linear` (in beta).
        sampler: `ddim`, `ancestral` or `heun`; the second draws noise at every step.
        steps: steps of the sampler.
        eta: for `ddim`: noise at every step, in units of that of `ancestral`.
        time_dim: dimensions of the time embedding.
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
    ) -> None:
        super().__init__(latents)
        if schedule not in SCHEDULES:
            raise ValueError(f"Diffusion: schedule must be one of {list(SCHEDULES)}, got '{schedule}'")
        if sampler not in SAMPLERS:
            raise ValueError(f"Diffusion: sampler must be one of {list(SAMPLERS)}, got '{sampler}'")
        if steps < 1:
            raise ValueError(f"Diffusion: steps must be at least 1, got {steps}")
        if not 0 <= eta <= 1:
            raise ValueError(f"Diffusion: eta must be in [0, 1], got {eta}")
        if eta and sampler != "ddim":
            raise ValueError(f"Diffusion: eta must be 0 for any sampler but 'ddim', got {eta} for '{sampler}'")
        self.schedule, self.sampler, self.steps, self.eta = SCHEDULES[schedule], sampler, steps, eta
        self.network_calls = network_calls(sampler, steps)
        if stochasticity(sampler, eta):
            self.noise_shape = (steps, *latents.latent_shape)
        (dim,) = latents.latent_shape
        self.time = TimeEmbedding(time_dim)
        self.network = ResidualMLP(
            dim + feature_dim, dim, width, blocks, context=time_dim + feature_dim, zero_output=True
        )

    def denoise(self, z_t: Tensor, t: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        """The predicted clean latent and the predicted noise, each `(B, D)`."""
        h = h.flatten(1)
        output = self.network(torch.cat((z_t, h), -1), torch.cat((self.time(t), h), -1))
        alpha, sigma = self.schedule.alpha(t)[:, None], self.schedule.sigma(t)[:, None]
        return alpha * z_t - sigma * output, sigma * z_t + alpha * output

    def latent_loss(self, z: Tensor, h: Tensor) -> dict[str, Tensor]:
        noise = torch.randn_like(z)
        t = spread_times(z)
        error = self.denoise(self.noised(z, noise, t), t, h)[1] - noise
        return {"noise": error.square().mean(1)}

    def noised(self, z: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        return self.schedule.alpha(t)[:, None] * z + self.schedule.sigma(t)[:, None] * noise

    def estimate(self, z_t: Tensor, t: Tensor, h: Tensor) -> Tensor:
        return self.denoise(z_t, t, h)[0]

    def transport(self, noise: Tensor, h: Tensor, last_steps: int | None = None) -> Tensor:
        def denoise(z: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
            return self.denoise(z, t, h)

        return sample(denoise, self.schedule, noise, self.steps, self.sampler, self.eta, last_steps)
