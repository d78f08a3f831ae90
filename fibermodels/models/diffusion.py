"""Diffusion in a latent space, told a representation; without one it is an unconditional prior.

Noise `e ~ N(0, I)` is mixed into a latent, `z_t = alpha z_0 + sigma e`. The predicted noise is `sigma z_t + alpha F`
with a network `F(z_t, t, h)`: what is right for standard normal data, and a correction. The predicted clean latent is
then

    (z_t - sigma e_hat) / alpha = alpha z_t - sigma F,

without a division. Where a network predicts the noise itself, its error and the rounding of low precision are
multiplied by `1 / alpha` there, which has no bound near `t = 1`.

With a UNet that is told a vector this is RCDM. On the path `straight` with the objective `velocity` it is conditional
flow matching, times a weight in [1/2, 1] that depends on the time alone.

References: Ho et al., arXiv 2006.11239; Salimans & Ho, arXiv 2202.00512 (`F` is their v); Bordes et al., arXiv
2112.09164 (RCDM).
"""

from typing import Literal, get_args

import torch
from torch import Tensor

from fibermodels.checks import check_choice
from fibermodels.core import LatentSpace
from fibermodels.diffusion import SCHEDULES, Heun, Sampler, ScheduleName
from fibermodels.diffusion.parametrisation import PREDICTIONS
from fibermodels.models.trainable_prior import NetworkPrior
from fibermodels.nn import Network

Objective = Literal["noise", "velocity"]


class Diffusion(NetworkPrior):
    """A denoising diffusion model over the latents of a frozen latent space.

    Args:
        latents: the frozen latent space.
        feature_shape: of the representation, `[D]` or `[C, H, W]`; `[]` makes an unconditional prior.
        network: `nn.MLP`, or `nn.UNet` for latents that are maps.
        schedule: `cosine`, `linear` (in beta) or `straight` (flow matching's path).
        objective: `noise`, the squared error of the predicted noise; or `velocity`, that of `F`, which is larger by
            `1 / alpha^2` and so asks for more near pure noise.
        sampler: from noise to data; None takes `Heun` with 8 steps.
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
        schedule: ScheduleName = "cosine",
        objective: Objective = "noise",
        sampler: Sampler | None = None,
        weights: str | None = None,
        drop_condition: float = 0.0,
        guidance_scale: float = 1.0,
    ) -> None:
        check_choice("Diffusion", "schedule", schedule, SCHEDULES)
        check_choice("Diffusion", "objective", objective, get_args(Objective))
        guidance = (drop_condition, guidance_scale)
        steps, velocity = sampler or Heun(8), PREDICTIONS["v_prediction"]
        super().__init__(latents, feature_shape, network, SCHEDULES[schedule], steps, velocity, weights, *guidance)
        self.objective = objective

    def weight(self, t: Tensor) -> Tensor:
        """The error of the noise is that of `F`, times alpha."""
        return self.schedule.alpha(t).square() if self.objective == "noise" else torch.ones_like(t)
