"""A denoising normalising flow: a manifold in latent space, and a density on it.

Latents on a `d`-dimensional manifold have no density over all `D` dimensions, but they have one after a little noise
is added, `z~ = z + sigma e`. An outer flow, invertible for every `h`, maps `z~` to coordinates along the manifold and
across it, `(u, v) = f(z~, h)`, and an inner flow maps `u` to standard normal noise:

    log p(z~ | h) = log N(g(u, h); 0, I) + log |det dg/du| + log N(v; 0, sigma^2 I) + log |det df/dz~|.

A point with `v = 0` lies on the manifold. So training makes `f^-1(u, 0)` restore the clean latent:

    loss = -log p(z~ | h) + beta |z - f^-1(u, 0)|^2.

The scale of `v` is a choice of units; with sigma the outer flow need not stretch its input.

Reference: Horvat & Pfister, Denoising normalizing flow, NeurIPS 2021 (unconditional; `h` is ours).
"""

import math

import torch
from torch import Tensor, nn

from fibermodels.checks import check_number
from fibermodels.core import HasLogProb, LatentSpace
from fibermodels.nn import AffineCouplings, FlatCondition, conditional_flow
from fibermodels.noise import log_normal
from fibermodels.trainable import TrainableFiberModel


class DenoisingFlow(TrainableFiberModel, HasLogProb):
    """Noise has `manifold_dim` dimensions. Samples lie on the manifold, along which they are blurred by `sigma`.

    `log_prob` is the log-density of the noisy latents `z + sigma e`, normalised over the whole latent space. Samples
    have no density there.

    Args:
        latents: the frozen latent space.
        feature_shape: of one representation.
        manifold_dim: dimensions of the manifold, from 1 to those of the latent space. They must hold all that
            varies along a fiber.
        sigma: standard deviation of the noise, positive; latents have about unit variance.
        beta: weight of the reconstruction, at least 0.
        width: width of the hidden layers of each coupling network.
        blocks: coupling blocks of the outer flow.
        inner_blocks: coupling blocks of the inner flow. On a manifold of one dimension the inner map is affine.
        layers: hidden layers of each coupling network, and residual blocks of the network of an affine map.
        seed: of the fixed permutations.
    """

    network_calls = 1

    def __init__(
        self,
        latents: LatentSpace,
        feature_shape: list[int],
        manifold_dim: int = 6,
        sigma: float = 0.05,
        beta: float = 10.0,
        width: int = 256,
        blocks: int = 20,
        inner_blocks: int = 8,
        layers: int = 2,
        seed: int = 0,
    ) -> None:
        super().__init__(latents, feature_shape)
        (dim,) = latents.latent_shape
        check_number("DenoisingFlow", "manifold_dim", manifold_dim, least=1, most=dim)
        check_number("DenoisingFlow", "sigma", sigma, above=0)
        check_number("DenoisingFlow", "beta", beta, least=0)
        self.manifold_dim, self.sigma, self.beta = manifold_dim, sigma, beta
        self.off_manifold_dim = dim - manifold_dim
        self.noise_shape = (manifold_dim,)
        self.condition = FlatCondition(feature_shape)
        self.outer = AffineCouplings(width, blocks, layers, seed).build(dim, self.condition.dim)
        self.inner = conditional_flow(manifold_dim, self.condition.dim, width, inner_blocks, layers, seed + 1)

    def log_prob(self, z: Tensor, h: Tensor) -> Tensor:
        """`log p(z~ | h)` of the noisy law at `z~ = z`, in nats, `(B,)`."""
        return self._locate(z, h)[1]

    def latent_loss(self, z: Tensor, h: Tensor) -> dict[str, Tensor]:
        u, log_prob = self._locate(z + self.sigma * torch.randn_like(z), h)
        return {
            "nll": -log_prob / z.shape[1],
            "reconstruction": self.beta * (z - self.lift(u, h)).square().mean(1),
        }

    def lift(self, u: Tensor, h: Tensor) -> Tensor:
        """The points `(B, D)` of the manifold at coordinates `u` `(B, manifold_dim)`."""
        return self.outer.inverse(nn.functional.pad(u, (0, self.off_manifold_dim)), self.condition(h))[0]

    def transport(self, noise: Tensor, h: Tensor) -> Tensor:
        return self.lift(self.inner.inverse(noise, self.condition(h))[0], h)

    def _locate(self, z: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        """Coordinates on the manifold, and the log-density there."""
        condition = self.condition(h)
        code, outer_log_det = self.outer(z, condition)
        u, v = code.split((self.manifold_dim, self.off_manifold_dim), 1)
        noise, inner_log_det = self.inner(u, condition)
        log_prob = log_normal(torch.cat((noise, v / self.sigma), 1)) + inner_log_det + outer_log_det
        return u, log_prob - self.off_manifold_dim * math.log(self.sigma)
