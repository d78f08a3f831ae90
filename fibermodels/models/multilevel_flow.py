"""A multi-level flow: what the condition says about a latent, apart from what it leaves free.

An invertible map, the same at every condition, splits a latent into a coarse part and details,
`(c, d) = f(z)`. The condition speaks about the coarse part, and only through it about the details:

    log p(z | h) = log N(c; m(h), s(h)^2) + log p(d | c) + log |det df/dz|,

where a second flow, conditional on `c`, is the density of the details. The first term is the
supervision, a regression of `c` on `h` with the noise `s(h)`. It cannot be won by a constant `c`,
because the determinant of `f` would charge for that.

Reference: arXiv 2603.21782, appendix B, after the multi-scale architecture of Kingma & Dhariwal,
arXiv 1807.03039. There the coarse part is as wide as `h` and a penalty `|c - h|` draws it to `h`, a
third flow is its unconditional density, and sampling inserts `h` for `c`. Here the latent space may be
smaller than `h`: `m(h)` takes the place of `h`, and a conditional density that of penalty and third
flow. So the coarse part is drawn, not inserted, and samples have the law whose likelihood was trained.
"""

import math

import torch
from torch import Tensor

from fibermodels.core import HasLogProb, LatentSpace, TrainableFiberModel
from fibermodels.nn import ConditionalAffine, CouplingFlow, conditional_flow


class MultilevelFlow(TrainableFiberModel, HasLogProb):
    """A flow that sees `h` through a bottleneck of `coarse_dim` numbers.

    It can represent every law of `z` given `h` that depends on `h` through so many numbers.

    Args:
        latents: the frozen latent space.
        feature_dim: dimensions of the (flat) representation.
        coarse_dim: dimensions of the coarse part, at least 1 and fewer than the latent space has.
        width: width of the hidden layers of each network.
        blocks: coupling blocks of the map that splits.
        detail_blocks: coupling blocks of the details' flow. A single detail has nothing to couple: it
            is Gaussian given the coarse part.
        layers: hidden layers of each coupling network, residual blocks of each affine map's.
        seed: of the fixed permutations.
    """

    network_calls = 1

    def __init__(
        self,
        latents: LatentSpace,
        feature_dim: int = 48,
        coarse_dim: int = 4,
        width: int = 256,
        blocks: int = 20,
        detail_blocks: int = 12,
        layers: int = 2,
        seed: int = 0,
    ) -> None:
        super().__init__(latents)
        (dim,) = latents.latent_shape
        if not 1 <= coarse_dim < dim:
            raise ValueError(
                f"MultilevelFlow: coarse_dim must be at least 1 and below the {dim} of the latent space, "
                f"got {coarse_dim}"
            )
        self.sizes = (coarse_dim, dim - coarse_dim)
        self.splitter = CouplingFlow(dim, 0, width, blocks, layers, seed)
        self.coarse = ConditionalAffine(coarse_dim, feature_dim, width, layers)
        self.details = conditional_flow(dim - coarse_dim, coarse_dim, width, detail_blocks, layers, seed + 1)

    def log_prob(self, z: Tensor, h: Tensor) -> Tensor:
        code, log_det = self.splitter(z)
        coarse, details = code.split(self.sizes, 1)
        coarse_noise, coarse_log_det = self.coarse(coarse, h.flatten(1))
        detail_noise, detail_log_det = self.details(details, coarse)
        normal = torch.cat((coarse_noise, detail_noise), 1)
        log_normal = -0.5 * (normal.square() + math.log(2 * math.pi)).sum(1)
        return log_normal + coarse_log_det + detail_log_det + log_det

    def latent_loss(self, z: Tensor, h: Tensor) -> dict[str, Tensor]:
        return {"nll": -self.log_prob(z, h) / z.shape[1]}

    def transport(self, noise: Tensor, h: Tensor) -> Tensor:
        coarse_noise, detail_noise = noise.split(self.sizes, 1)
        coarse, _ = self.coarse.inverse(coarse_noise, h.flatten(1))
        details, _ = self.details.inverse(detail_noise, coarse)
        return self.splitter.inverse(torch.cat((coarse, details), 1))[0]
