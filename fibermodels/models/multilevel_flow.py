"""A multi-level flow: it separates what the condition determines of a latent from the details.

An invertible map, which does not depend on the condition, splits a latent into a coarse part and details,
`(c, d) = f(z)`. The details depend on the condition only through the coarse part:

    log p(z | h) = log N(c; m(h), s(h)^2) + log p(d | c) + log |det df/dz|,

where a second flow with `c` as its condition gives the density of the details. The first term is a regression of `c`
on `h` with the noise `s(h)`. A constant `c` does not minimise the loss, because the determinant of `f` would become
small.

Reference: arXiv 2603.21782, appendix B, after the multi-scale architecture of Kingma & Dhariwal,
arXiv 1807.03039. There the coarse part has the dimensions of `h`, a penalty `|c - h|` draws it to `h`, a third flow
gives its unconditional density, and sampling inserts `h` for `c`. Here a conditional density with the mean `m(h)`
replaces the penalty and the third flow, and the coarse part is sampled.
"""

import torch
from torch import Tensor

from fibermodels.checks import check_number
from fibermodels.core import HasLogProb, LatentSpace
from fibermodels.nn import AffineCouplings, ConditionalAffine, FlatCondition, conditional_flow
from fibermodels.noise import log_normal
from fibermodels.trainable import TrainableFiberModel


class MultilevelFlow(TrainableFiberModel, HasLogProb):
    """A flow that sees `h` through a bottleneck of `coarse_dim` numbers.

    It can represent every density of `z` given `h` that depends on `h` through that many numbers.

    Args:
        latents: the frozen latent space.
        feature_shape: of one representation.
        coarse_dim: dimensions of the coarse part, at least 1 and fewer than the latent space has.
        width: width of the hidden layers of each network.
        blocks: coupling blocks of the map that splits.
        detail_blocks: coupling blocks of the details' flow. A single detail is Gaussian given the coarse part.
        layers: hidden layers of each coupling network, and residual blocks of the network of an affine map.
        seed: of the fixed permutations.
    """

    network_calls = 1

    def __init__(
        self,
        latents: LatentSpace,
        feature_shape: list[int],
        coarse_dim: int = 4,
        width: int = 256,
        blocks: int = 20,
        detail_blocks: int = 12,
        layers: int = 2,
        seed: int = 0,
    ) -> None:
        super().__init__(latents, feature_shape)
        (dim,) = latents.latent_shape
        check_number("MultilevelFlow", "coarse_dim", coarse_dim, least=1, below=dim)
        self.condition = FlatCondition(feature_shape)
        self.sizes = (coarse_dim, dim - coarse_dim)
        self.splitter = AffineCouplings(width, blocks, layers, seed).build(dim, 0)
        self.coarse = ConditionalAffine(width, layers).build(coarse_dim, self.condition.dim)
        self.details = conditional_flow(dim - coarse_dim, coarse_dim, width, detail_blocks, layers, seed + 1)

    def log_prob(self, z: Tensor, h: Tensor) -> Tensor:
        code, log_det = self.splitter(z)
        coarse, details = code.split(self.sizes, 1)
        coarse_noise, coarse_log_det = self.coarse(coarse, self.condition(h))
        detail_noise, detail_log_det = self.details(details, coarse)
        return log_normal(torch.cat((coarse_noise, detail_noise), 1)) + coarse_log_det + detail_log_det + log_det

    def latent_loss(self, z: Tensor, h: Tensor) -> dict[str, Tensor]:
        return {"nll": -self.log_prob(z, h) / z.shape[1]}

    def transport(self, noise: Tensor, h: Tensor) -> Tensor:
        coarse_noise, detail_noise = noise.split(self.sizes, 1)
        coarse, _ = self.coarse.inverse(coarse_noise, self.condition(h))
        details, _ = self.details.inverse(detail_noise, coarse)
        return self.splitter.inverse(torch.cat((coarse, details), 1))[0]
