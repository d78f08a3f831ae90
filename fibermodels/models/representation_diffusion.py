"""A UNet modulated by a representation: diffusion or flow matching over images, or over latents that are maps.

Loss, samplers and parametrisation are those of `diffusion.py`. On the path `straight` with the objective `velocity`
this is conditional flow matching, and DDIM's step is Euler's. With the weights of an unconditional model, whose
network is the same but for what tells it the representation, training starts from that model.

References: Bordes et al., High fidelity visualization of what your self-supervised representation knows about,
arXiv 2112.09164 (RCDM: vectors, noise prediction); Lipman et al., arXiv 2210.02747 (flow matching).
"""

import math

from torch import Tensor, nn

from fibermodels.checks import check_feature_shape
from fibermodels.core import MapLatents
from fibermodels.diffusion import Control, Controllable, SamplerName, ScheduleName
from fibermodels.models.diffusion import NoisePrediction, Objective
from fibermodels.nn import ConditionalUNet


class RepresentationDiffusion(NoisePrediction, Controllable):
    """A UNet over maps, told a representation: a vector, or a map with places.

    Args:
        latents: the frozen latent space, of maps: `Identity` for pixels.
        feature_shape: of the representation, `[D]` or `[C, H, W]`; `[]` makes an unconditional prior.
        channels: channels of the UNet's levels, from fine to coarse, each a multiple of 16.
        blocks: residual blocks per level.
        patch: pixels of a square that the UNet sees as one, with more channels.
        attention: how many of the coarsest levels have self-attention.
        frequency: of the time's fastest sine, in radians from `t = 0` to 1.
        schedule, sampler, steps, eta, objective: as in `NoisePrediction`.
        checkpointing: compute the UNet's blocks again in the backward pass instead of keeping what they made.
        weights: a safetensors file of a trained model; None starts at random.
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
        schedule: ScheduleName = "straight",
        sampler: SamplerName = "heun",
        steps: int = 10,
        eta: float = 0.0,
        objective: Objective = "velocity",
        checkpointing: bool = False,
        weights: str | None = None,
    ) -> None:
        dim = math.prod(feature_shape) if feature_shape else 0
        super().__init__(latents, dim, schedule, sampler, steps, eta, objective)
        self.feature_shape, self.map_shape = tuple(feature_shape), latents.map_shape
        self.network = ConditionalUNet(
            latents.map_shape,
            self.feature_shape,
            channels,
            blocks,
            patch,
            attention,
            frequency=frequency,
            checkpointing=checkpointing,
        )
        self.load_density(weights)

    @property
    def unet(self) -> nn.Module:  # type: ignore[override]
        """What a ControlNet copies: a property, since the state would hold an attribute twice."""
        return self.network.network

    def denoise(self, z_t: Tensor, t: Tensor, h: Tensor | None) -> tuple[Tensor, Tensor]:
        if self.feature_shape and h is not None:
            check_feature_shape(type(self).__name__, h, self.feature_shape)
        return super().denoise(z_t, t, h)

    def predict(self, z_t: Tensor, t: Tensor, h: Tensor) -> Tensor:
        told = h.unflatten(1, self.feature_shape) if self.feature_shape else None
        return self.network(z_t.unflatten(1, self.map_shape), t, told).flatten(1)

    def controlled(
        self, z_t: Tensor, t: Tensor, control: Control, prompted: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        output = self.network(z_t.unflatten(1, self.map_shape), t, control=control).flatten(1)
        return self.split(output, z_t, t)
