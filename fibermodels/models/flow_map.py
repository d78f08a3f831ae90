"""A flow map in a latent space: from noise to data in one jump, or a few. The maths is in `mean_flow.py`.

Reference: Geng et al., Mean Flows for One-step Generative Modeling, arXiv 2505.13447.
"""

import torch
from torch import Tensor

from fibermodels.core import LatentSpace
from fibermodels.models.flow_matching import FlowMatching
from fibermodels.models.mean_flow import Derivative, MeanFlow
from fibermodels.nn import ResidualMLP, TimeEmbedding

MAX_FREQUENCY = 2.0
"""Of the time embeddings. The target contains `d_t u`, in which a frequency is a factor: with 100, which
flow matching affords, training is unstable."""


class FlowMap(MeanFlow):
    """A conditional flow map with a residual MLP, learned as a MeanFlow.

    Args:
        latents, feature_dim, steps, instantaneous, power, derivative: as in `MeanFlow`.
        width: width of the network.
        blocks: residual blocks of the network.
        time_dim: dimensions of each of the two time embeddings, of `t` and of `t - r`.
        teacher: a trained flow-matching model over the same latent space. It is frozen here, its velocity
            takes the place of `e - z`, and the product of the training is without it.
        weights: a safetensors file of a trained flow map; None starts at random.
    """

    def __init__(
        self,
        latents: LatentSpace,
        feature_dim: int = 48,
        width: int = 512,
        blocks: int = 4,
        steps: int = 1,
        time_dim: int = 64,
        instantaneous: float = 0.5,
        power: float = 0.0,
        derivative: Derivative = "forward",
        teacher: FlowMatching | None = None,
        weights: str | None = None,
    ) -> None:
        super().__init__(latents, feature_dim, steps, instantaneous, power, derivative, teacher)
        (dim,) = latents.latent_shape
        self.time = TimeEmbedding(time_dim, MAX_FREQUENCY)
        self.network = ResidualMLP(
            dim + feature_dim, dim, width, blocks, context=2 * time_dim + feature_dim, zero_output=True
        )
        self.finish(weights, teacher)

    def average_velocity(self, z: Tensor, r: Tensor, t: Tensor, h: Tensor) -> Tensor:
        """The network's `u(z, r, t, h)`, `(B, D)`, for a `z` at time `t`."""
        h = h.flatten(1)
        return self.network(torch.cat((z, h), -1), torch.cat((self.time(t), self.time(t - r), h), -1))
