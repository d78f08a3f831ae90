"""Conditional flow matching in a latent space.

A straight path from data to noise, `y_t = (1 - t) z_0 + t e` with `e ~ N(0, I)`, has the velocity `e - z_0`. Its
conditional mean `v(y_t, t, h)` is learned by regression; integrating it from `t = 1` to `t = 0` turns noise into a
latent.

Reference: Lipman et al., arXiv 2210.02747 (there time runs from noise to data).
"""

import torch
from torch import Tensor

from fibermodels.core import LatentSpace
from fibermodels.diffusion import SCHEDULES, Midpoint, Sampler
from fibermodels.diffusion.parametrisation import PREDICTIONS
from fibermodels.models.trainable_prior import NetworkPrior
from fibermodels.nn import Network


class FlowMatching(NetworkPrior):
    """A flow-matching model over the latents of a frozen latent space.

    To guidance and samplers it is a denoiser of the schedule `straight`, whose states are `y_t` divided by the path's
    length `sqrt((1 - t)^2 + t^2)`: data is `y_t - t v`, noise is `y_t + (1 - t) v`.

    Args:
        latents: the frozen latent space.
        feature_shape: of the representation, `[D]` or `[C, H, W]`; `[]` makes an unconditional prior.
        network: `nn.MLP`, or `nn.UNet` for latents that are maps.
        sampler: from noise to data; None takes `Midpoint` with 8 steps.
        weights: a safetensors file of a trained model; None starts at random.
        drop_condition: share of the rows of a training batch whose representation is hidden, in [0, 1).
        guidance_scale: of classifier-free guidance, for a model that was trained with hidden representations: 1 follows
            the condition, 0 ignores it, more exaggerates.
    """

    def __init__(
        self,
        latents: LatentSpace,
        feature_shape: list[int],
        network: Network,
        sampler: Sampler | None = None,
        weights: str | None = None,
        drop_condition: float = 0.0,
        guidance_scale: float = 1.0,
    ) -> None:
        guidance = (drop_condition, guidance_scale)
        steps, flow = sampler or Midpoint(8), PREDICTIONS["flow"]
        super().__init__(latents, feature_shape, network, SCHEDULES["straight"], steps, flow, weights, *guidance)

    def weight(self, t: Tensor) -> Tensor:
        return torch.ones_like(t)
