"""A conditional normalising flow in a latent space: exact density, one pass to sample.

An invertible network `f(., h)` maps latents to standard normal noise, so

    log p(z | h) = log N(f(z, h); 0, I) + log |det df/dz|.

Reference: Ardizzone et al., arXiv 1907.02392; Rombach et al., arXiv 2008.01777 (as a fiber model).
"""

from torch import Tensor

from fibermodels.core import HasLogProb, LatentSpace
from fibermodels.nn import AffineCouplings, FlatCondition, Invertible
from fibermodels.noise import log_normal
from fibermodels.trainable import TrainableFiberModel


class NormalizingFlow(TrainableFiberModel, HasLogProb):
    """An invertible network with `h` as its condition.

    Args:
        latents: the frozen latent space.
        feature_shape: of one representation.
        flow: the invertible network; None takes `AffineCouplings()`.
        weights: a safetensors file of a trained flow; None starts at random.
    """

    network_calls = 1

    def __init__(
        self,
        latents: LatentSpace,
        feature_shape: list[int],
        flow: Invertible | None = None,
        weights: str | None = None,
    ) -> None:
        super().__init__(latents, feature_shape)
        (dim,) = latents.latent_shape
        self.condition = FlatCondition(feature_shape)
        self.flow = (flow or AffineCouplings()).build(dim, self.condition.dim)
        self.load_density(weights)

    def log_prob(self, z: Tensor, h: Tensor) -> Tensor:
        noise, log_det = self.flow(z, self.condition(h))
        return log_normal(noise) + log_det

    def latent_loss(self, z: Tensor, h: Tensor) -> dict[str, Tensor]:
        return {"nll": -self.log_prob(z, h) / z.shape[1]}  # per dimension: the scale of other families' losses

    def transport(self, noise: Tensor, h: Tensor) -> Tensor:
        return self.flow.inverse(noise, self.condition(h))[0]
