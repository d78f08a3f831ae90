"""What guidance steers: a denoiser with its noise schedule and its way to images and back."""

from abc import ABC, abstractmethod
from typing import final

from torch import Tensor, nn

from fibermodels.component import Component
from fibermodels.core import LatentSpace
from fibermodels.diffusion.samplers import Denoiser, Estimate
from fibermodels.diffusion.schedule import Schedule
from fibermodels.nn import Control


class Prior(Component, ABC):
    """A denoiser over the latents of a latent space; over pixels where that is `latents.Identity`."""

    latents: LatentSpace
    schedule: Schedule
    """The one the denoiser was trained with, and the only one it is ever asked with."""

    @abstractmethod
    def denoiser(self, h: Tensor | None = None) -> Denoiser:
        """The denoiser `(z_t, t) -> (data, noise)`, differentiable in `z_t`.

        Args:
            h: what a conditional prior is bound to, one row for each row of `z_t`; an unconditional one ignores it.

        Raises:
            ValueError: a conditional prior without `h`.
        """

    @final
    def encode(self, x: Tensor, h: Tensor | None = None) -> Tensor:
        """Latents `(B, D)` of images; `h` for a latent space that sees it."""
        return self.latents.encode(x, h)

    @final
    def decode(self, z: Tensor, h: Tensor | None = None) -> Tensor:
        """Images `(B, C, H, W)` in [0, 1] of latents, differentiable."""
        return self.latents.decode(z, h)


class Controllable(Prior, ABC):
    """A prior whose UNet a ControlNet can steer.

    Reference: Zhang et al., Adding Conditional Control to Text-to-Image Diffusion Models, arXiv 2302.05543.
    """

    unet: nn.Module
    """A diffusers `UNet2DConditionModel`, which a ControlNet copies."""

    @abstractmethod
    def controlled(self, z_t: Tensor, t: Tensor, control: Control, prompted: Tensor | None = None) -> Estimate:
        """The denoiser's data and noise, each `(B, D)`, with the residuals of `control`; differentiable.

        Args:
            z_t: states `(B, D)`, `alpha z_0 + sigma e` of the prior's schedule.
            t: times `(B,)` in [0, 1].
            control: called once, with what the UNet is given.
            prompted: `(B,)` bool, the rows that see the prompt of a prior that has one, not "no prompt"; None for all.
        """
