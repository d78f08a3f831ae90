"""A conditional coupling flow in a latent space: exact density, one pass to sample.

An invertible network `f(., h)` maps latents to standard normal noise, so

    log p(z | h) = log N(f(z, h); 0, I) + log |det df/dz|.

Reference: Ardizzone et al., arXiv 1907.02392; Rombach et al., arXiv 2008.01777 (as a fiber model).
"""

import math

from torch import Tensor

from fibermodels.core import HasLogProb, LatentSpace, TrainableFiberModel
from fibermodels.nn import CouplingFlow


class NormalizingFlow(TrainableFiberModel, HasLogProb):
    """Affine coupling blocks with fixed permutations; every coupling network sees `h`.

    Args:
        latents: the frozen latent space.
        feature_dim: dimensions of the (flat) representation.
        width: width of the hidden layers of each coupling network.
        blocks: coupling blocks.
        layers: hidden layers of each coupling network.
        seed: of the fixed permutations.
        weights: a safetensors file of a trained flow; None starts at random.
    """

    network_calls = 1

    def __init__(
        self,
        latents: LatentSpace,
        feature_dim: int = 48,
        width: int = 512,
        blocks: int = 16,
        layers: int = 1,
        seed: int = 0,
        weights: str | None = None,
    ) -> None:
        super().__init__(latents)
        (dim,) = latents.latent_shape
        self.flow = CouplingFlow(dim, feature_dim, width, blocks, layers, seed)
        self.load_density(weights)

    def log_prob(self, z: Tensor, h: Tensor) -> Tensor:
        noise, log_det = self.flow(z, h.flatten(1))
        return log_det - 0.5 * (noise.square() + math.log(2 * math.pi)).sum(1)

    def latent_loss(self, z: Tensor, h: Tensor) -> dict[str, Tensor]:
        return {"nll": -self.log_prob(z, h) / z.shape[1]}  # per dimension: the scale of other families' losses

    def transport(self, noise: Tensor, h: Tensor) -> Tensor:
        return self.flow.inverse(noise, h.flatten(1))[0]
