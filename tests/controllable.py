"""A tiny prior with a UNet that a ControlNet can steer: random weights, pixels, and a prompt of its own."""

import torch
from torch import Tensor

from fibermodels.component import FromFiles
from fibermodels.diffusion import SCHEDULES, Controllable, Denoiser, ScheduleName
from fibermodels.latents import Identity
from fibermodels.nn import Control

SEED = 0
"""Of the weights, as if they lay in a file."""


class TinyPrior(Controllable):
    """The network's output is `F` of `Diffusion`; the prompt is a number added to its input, or nothing."""

    def __init__(self, schedule: ScheduleName = "cosine", prompt: float = 0.0, seed: int | None = None) -> None:
        super().__init__()
        from diffusers import UNet2DConditionModel

        self.latents = Identity((3, 28, 28), 2.0)
        self.schedule, self.prompt = SCHEDULES[schedule], prompt
        torch.manual_seed(SEED if seed is None else seed)
        self.unet = UNet2DConditionModel(
            sample_size=28,
            in_channels=3,
            out_channels=3,
            layers_per_block=1,
            block_out_channels=(8, 8),
            down_block_types=("DownBlock2D", "DownBlock2D"),
            mid_block_type="UNetMidBlock2D",
            up_block_types=("UpBlock2D", "UpBlock2D"),
            norm_num_groups=4,
        )
        self.requires_grad_(False).eval()

    def denoiser(self, h: Tensor | None = None) -> Denoiser:
        return lambda z, t: self._denoise(z, t, None, None)

    def controlled(
        self, z_t: Tensor, t: Tensor, control: Control, prompted: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        return self._denoise(z_t, t, control, prompted)

    def _denoise(self, z, t, control, prompted):
        shown = torch.ones_like(t) if prompted is None else prompted.to(t)
        maps, times = z.unflatten(1, (3, 28, 28)) + self.prompt * shown[:, None, None, None], 999 * t
        down, middle = (None, None) if control is None else control(maps, times, None)
        output = self.unet(
            maps,
            times,
            None,
            down_block_additional_residuals=down,
            mid_block_additional_residual=middle,
            return_dict=False,
        )[0].flatten(1)
        alpha, sigma = self.schedule.alpha(t)[:, None], self.schedule.sigma(t)[:, None]
        return alpha * z - sigma * output, sigma * z + alpha * output


class StoredPrior(TinyPrior, FromFiles):
    """One whose weights lie in a file, so to speak."""
