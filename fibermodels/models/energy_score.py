"""A generator in one network call, trained by a strictly proper scoring rule.

    x_hat = decode(G(e, h)),  e ~ N(0, I)

References: those of `Scored`.
"""

import torch
from torch import Tensor

from fibermodels.core import LatentSpace, Subject
from fibermodels.models.scored import Scored
from fibermodels.nn import Network


class EnergyScore(Scored):
    """A one-step generator over the latents of a frozen space; the score compares decoded images.

    Args:
        latents: the latent space; `Identity` generates pixels.
        feature_shape: of one representation.
        network: maps standard normal noise and the representation to a latent.
        draws: per image and step, at least 2.
        patch_sizes: in pixels; None takes 4, 8 and 32, and a size that an image does not have is the whole image.
        features: networks whose outputs are scored too, such as the first stages of the subject (`Cut`).
        feature_weight: of each of them.
        weights: a safetensors file of a trained model; None starts at random.

    Raises:
        ValueError: a number out of its range, or a feature network for other images.
    """

    network_calls = 1

    def __init__(
        self,
        latents: LatentSpace,
        feature_shape: list[int],
        network: Network,
        draws: int = 2,
        patch_sizes: list[int] | None = None,
        features: list[Subject] | None = None,
        feature_weight: float = 0.5,
        weights: str | None = None,
    ) -> None:
        super().__init__(latents, feature_shape, draws, patch_sizes, feature_weight)
        self.network = network.build(latents.shape, feature_shape)
        self.load_density(weights)
        self.score_features(features)

    def transport(self, noise: Tensor, h: Tensor) -> Tensor:
        start = torch.ones_like(noise[:, 0])  # the noise is a state at time 1
        output: Tensor = self.network(noise, (start,), self.network.condition(h))
        return output
