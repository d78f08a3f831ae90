"""A prior whose denoiser is known in closed form: what guidance is tested against.

For `z_0 ~ sum_k w_k N(m_k, diag(s_k^2))` and `z_t = alpha z_0 + sigma e`, component `k` has the marginal
`N(alpha m_k, alpha^2 s_k^2 + sigma^2)`, and given it

    E[z_0 | z_t, k] = m_k + alpha s_k^2 w,    E[e | z_t, k] = sigma w,
    w = (z_t - alpha m_k) / (alpha^2 s_k^2 + sigma^2),

so both expectations are averages over the components, weighted by their posterior probabilities.
"""

import torch
from torch import Tensor

from fibermodels.core import LatentSpace
from fibermodels.diffusion.prior import Prior
from fibermodels.diffusion.samplers import Denoiser, Estimate
from fibermodels.diffusion.schedule import SCHEDULES, ScheduleName


class GaussianMixture(Prior):
    """A mixture of Gaussians with diagonal covariances; one component is a Gaussian.

    Args:
        latents: the latent space, of `D` dimensions.
        means: K rows of D numbers.
        stds: K rows of D positive numbers.
        weights: K positive numbers, in any scale; None for equal ones.
        schedule: `cosine`, `linear` or `straight`.
    """

    means: Tensor
    variances: Tensor
    log_weights: Tensor

    def __init__(
        self,
        latents: LatentSpace,
        means: list[list[float]],
        stds: list[list[float]],
        weights: list[float] | None = None,
        schedule: ScheduleName = "linear",
    ) -> None:
        super().__init__()
        self.latents, self.schedule = latents, SCHEDULES[schedule]
        mean, std = torch.tensor(means), torch.tensor(stds)
        share = torch.ones(len(mean)) if weights is None else torch.tensor(weights)
        if mean.shape != std.shape or mean.shape != (len(share), *latents.latent_shape):
            raise ValueError(
                f"GaussianMixture: expected means and stds of shape {(len(share), *latents.latent_shape)}, "
                f"got {tuple(mean.shape)} and {tuple(std.shape)}"
            )
        if not ((std > 0).all() and (share > 0).all()):
            raise ValueError("GaussianMixture: expected positive stds and weights")
        self.register_buffer("means", mean)
        self.register_buffer("variances", std.square())
        self.register_buffer("log_weights", (share / share.sum()).log())

    def denoiser(self, h: Tensor | None = None) -> Denoiser:
        def denoise(z: Tensor, t: Tensor) -> Estimate:
            alpha, sigma = (share[..., None] for share in self.schedule.shares(t))
            means, variances = self.means.to(z), self.variances.to(z)  # (K, D)
            total = alpha.square() * variances + sigma.square()  # (B, K, D)
            centred = z[:, None] - alpha * means
            log_share = self.log_weights.to(z) - 0.5 * (centred.square() / total + total.log()).sum(2)
            share = log_share.softmax(1)[..., None]
            whitened = centred / total
            return (share * (means + alpha * variances * whitened)).sum(1), (share * sigma * whitened).sum(1)

        return denoise
