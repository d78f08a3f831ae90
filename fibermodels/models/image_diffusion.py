"""Diffusion over images, with a UNet: in pixels, or in latents that are images.

Loss, samplers and parametrisation are those of `diffusion.py`.

References: Ho et al., arXiv 2006.11239; the network is diffusers' `UNet2DModel`.
"""

from torch import Tensor

from fibermodels.core import MapLatents
from fibermodels.diffusion import SamplerName, ScheduleName
from fibermodels.models.diffusion import NoisePrediction
from fibermodels.nn import UNet


class ImageDiffusion(NoisePrediction):
    """A noise-prediction model with a UNet, for latents that are images.

    Args:
        latents, feature_dim, schedule, sampler, steps, eta: as in `NoisePrediction`; the latents are
            maps, as those of `latents.Identity` are.
        channels: channels of the UNet's levels, from fine to coarse, each a multiple of 16.
        blocks: residual blocks per level.
        patch: pixels of a square that the UNet sees as one, with more channels.
        weights: a safetensors file of a trained model; None starts at random.
    """

    def __init__(
        self,
        latents: MapLatents,
        feature_dim: int = 48,
        channels: list[int] = [48, 96],  # noqa: B006 (read only; a tuple would not be a YAML list)
        blocks: int = 1,
        patch: int = 2,
        schedule: ScheduleName = "cosine",
        sampler: SamplerName = "heun",
        steps: int = 50,
        eta: float = 0.0,
        weights: str | None = None,
    ) -> None:
        super().__init__(latents, feature_dim, schedule, sampler, steps, eta)
        self.network = UNet(latents.map_shape, channels, blocks, patch, feature_dim)
        self.load_density(weights)

    def predict(self, z_t: Tensor, t: Tensor, h: Tensor) -> Tensor:
        return self.network(z_t.unflatten(1, self.latents.map_shape), t, h).flatten(1)
