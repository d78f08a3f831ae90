"""A denoising normalising flow: a manifold in latent space, and a density on it.

Latents near a `d`-dimensional manifold have no density over all `D` dimensions; with a little noise,
`z~ = z + sigma e`, they have one. An outer flow, invertible at every `h`, takes `z~` to coordinates
on the manifold and off it, `(u, v) = f(z~, h)`, and an inner flow takes `u` to standard normal noise:

    log p(z~ | h) = log N(g(u, h); 0, I) + log |det dg/du| + log N(v; 0, sigma^2 I) + log |det df/dz~|.

A point with `v = 0` lies on the manifold. So `f^-1(u, 0)` is to restore the clean latent:

    loss = -log p(z~ | h) + beta |z - f^-1(u, 0)|^2.

The scale of `v` is a matter of units, for the outer flow can absorb any: neither the density nor the
reconstruction changes. With sigma the outer flow need not stretch what it finds.

Reference: Horvat & Pfister, Denoising normalizing flow, NeurIPS 2021 (unconditional; `h` is ours).
"""

import math

import torch
from torch import Tensor, nn

from fibermodels.core import HasLogProb, LatentSpace, TrainableFiberModel
from fibermodels.nn import CouplingFlow, conditional_flow


class DenoisingFlow(TrainableFiberModel, HasLogProb):
    """Noise has `manifold_dim` dimensions, and samples lie on the manifold: they carry no noise off it.
    Along the manifold they keep what `sigma` blurs there.

    `log_prob` is the density of the noisy latents `z + sigma e`: normalised over the whole latent
    space, but not the law of the samples, which has no density there.

    Args:
        latents: the frozen latent space.
        feature_dim: dimensions of the (flat) representation.
        manifold_dim: dimensions of the manifold, at least 1 and at most those of the latent space. What
            the samples show of a fiber has to fit; a colour alone takes 3.
        sigma: standard deviation of the noise; latents have about unit variance.
        beta: weight of the reconstruction.
        width: width of the hidden layers of each coupling network.
        blocks: coupling blocks of the outer flow.
        inner_blocks: coupling blocks of the inner flow. On a manifold of one dimension there is nothing to
            couple: the inner map is affine, and the outer flow does the rest.
        layers: hidden layers of each coupling network, residual blocks of each affine map's.
        seed: of the fixed permutations.
    """

    network_calls = 1

    def __init__(
        self,
        latents: LatentSpace,
        feature_dim: int = 48,
        manifold_dim: int = 6,
        sigma: float = 0.05,
        beta: float = 10.0,
        width: int = 256,
        blocks: int = 20,
        inner_blocks: int = 8,
        layers: int = 2,
        seed: int = 0,
    ) -> None:
        super().__init__(latents)
        (dim,) = latents.latent_shape
        if not 1 <= manifold_dim <= dim:
            raise ValueError(
                f"DenoisingFlow: manifold_dim must be from 1 to the {dim} dimensions of the latent space, "
                f"got {manifold_dim}"
            )
        if not sigma > 0:
            raise ValueError(f"DenoisingFlow: sigma must be positive, got {sigma}")
        if not beta >= 0:
            raise ValueError(f"DenoisingFlow: beta must be at least 0, got {beta}")
        self.manifold_dim, self.sigma, self.beta = manifold_dim, sigma, beta
        self.off_manifold_dim = dim - manifold_dim
        self.noise_shape = (manifold_dim,)
        self.outer = CouplingFlow(dim, feature_dim, width, blocks, layers, seed)
        self.inner = conditional_flow(manifold_dim, feature_dim, width, inner_blocks, layers, seed + 1)

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
        return self.outer.inverse(nn.functional.pad(u, (0, self.off_manifold_dim)), h.flatten(1))[0]

    def transport(self, noise: Tensor, h: Tensor) -> Tensor:
        return self.lift(self.inner.inverse(noise, h.flatten(1))[0], h)

    def _locate(self, z: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        """Coordinates on the manifold, and the log-density there."""
        code, outer_log_det = self.outer(z, h.flatten(1))
        u, v = code.split((self.manifold_dim, self.off_manifold_dim), 1)
        noise, inner_log_det = self.inner(u, h.flatten(1))
        normal = torch.cat((noise, v / self.sigma), 1)
        log_normal = -0.5 * (normal.square() + math.log(2 * math.pi)).sum(1)
        return u, log_normal + inner_log_det + outer_log_det - self.off_manifold_dim * math.log(self.sigma)
