"""A UNet modulated by a representation, that jumps from noise to an image. The maths is in `mean_flow.py`.

References: Geng et al., Mean Flows for One-step Generative Modeling, arXiv 2505.13447; Bordes et al.,
arXiv 2112.09164, for the conditioning.
"""

import math

from torch import Tensor

from fibermodels.checks import check_feature_shape
from fibermodels.core import MapLatents
from fibermodels.models.mean_flow import Derivative, MeanFlow
from fibermodels.models.representation_diffusion import RepresentationDiffusion
from fibermodels.nn import ConditionalUNet


class RepresentationFlowMap(MeanFlow):
    """A flow map with a UNet over maps, told a representation: a vector, or a map with places.

    The weights of a `RepresentationDiffusion` on the path `straight` fit all of its network but what sees the
    length of a step, which starts at zero: as that model's velocity field, from where it learns to jump.

    Args:
        latents, feature_shape, channels, blocks, patch, attention, frequency, checkpointing: as in
            `RepresentationDiffusion`; forward-mode derivatives know no attention and no checkpointing.
        steps, instantaneous, power, derivative: as in `MeanFlow`.
        teacher: a trained model over the same latent space. It is frozen here, its velocity takes the place of
            `e - z`, and the product of the training is without it.
        weights: a safetensors file of a trained flow map; None starts at random.
    """

    def __init__(
        self,
        latents: MapLatents,
        feature_shape: list[int],
        channels: list[int] = [64, 128],  # noqa: B006 (read only; a tuple would not be a YAML list)
        blocks: int = 1,
        patch: int = 2,
        attention: int = 0,
        frequency: float = 10.0,
        steps: int = 1,
        instantaneous: float = 0.5,
        power: float = 0.0,
        derivative: Derivative = "forward",
        teacher: RepresentationDiffusion | None = None,
        checkpointing: bool = False,
        weights: str | None = None,
    ) -> None:
        super().__init__(latents, math.prod(feature_shape), steps, instantaneous, power, derivative, teacher)
        if derivative == "forward" and (attention or checkpointing):
            raise ValueError(
                "RepresentationFlowMap: derivative must be 'difference' with attention or checkpointing, got 'forward'"
            )
        self.feature_shape, self.map_shape = tuple(feature_shape), latents.map_shape
        self.network = ConditionalUNet(
            latents.map_shape,
            self.feature_shape,
            channels,
            blocks,
            patch,
            attention,
            duration=True,
            frequency=frequency,
            checkpointing=checkpointing,
        )
        self.finish(weights, teacher)

    def average_velocity(self, z: Tensor, r: Tensor, t: Tensor, h: Tensor) -> Tensor:
        check_feature_shape(type(self).__name__, h, self.feature_shape)
        return self.network(z.unflatten(1, self.map_shape), t, h, t - r).flatten(1)
