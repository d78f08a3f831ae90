"""What guidance steers: a denoiser with its noise schedule and its way to images and back."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import final

from torch import Tensor, nn

from fibermodels.checks import check_feature_shape
from fibermodels.component import Component
from fibermodels.core import LatentSpace
from fibermodels.diffusion.samplers import Denoiser
from fibermodels.diffusion.schedule import Schedule


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


Residuals = tuple[tuple[Tensor, ...], Tensor]
"""What is added to a UNet's skips, from fine to coarse, and to its middle."""

Control = Callable[[Tensor, Tensor, Tensor | None], Residuals]
"""From what the UNet itself is given: its input `(B, C, H, W)`, its time steps `(B,)` and, of a text-conditional
one, the prompt's embedding, to the residuals that steer it."""


class Controllable(Prior, ABC):
    """A prior whose UNet a ControlNet can steer.

    Reference: Zhang et al., Adding Conditional Control to Text-to-Image Diffusion Models, arXiv 2302.05543.
    """

    unet: nn.Module
    """A diffusers `UNet2DConditionModel`, which a ControlNet copies."""

    @abstractmethod
    def controlled(
        self, z_t: Tensor, t: Tensor, control: Control, prompted: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """The denoiser's data and noise, each `(B, D)`, with the residuals of `control`; differentiable.

        Args:
            z_t: states `(B, D)`, `alpha z_0 + sigma e` of the prior's schedule.
            t: times `(B,)` in [0, 1].
            control: called once, with what the UNet is given.
            prompted: `(B,)` bool, the rows that see the prompt, for a prior that has one; None for all. The others
                see what the prior uses for "no prompt".
        """


def bound(prior: Prior, z: Tensor, h: Tensor | None, feature_dim: int) -> Tensor:
    """The flat representation `(B, feature_dim)` that a prior's network sees; empty for an unconditional one.

    Raises:
        ValueError: a conditional prior without `h`, or with one of another size.
    """
    if not feature_dim:
        return z.new_empty(len(z), 0)
    given = None if h is None else h.flatten(1)
    if given is not None and h is not None and given.shape[1] != feature_dim and h.ndim > 2:
        check_feature_shape(type(prior).__name__, h, (feature_dim,))
    if given is None or given.shape != (len(z), feature_dim):
        raise ValueError(
            f"{type(prior).__name__}: expected representations of shape {(len(z), feature_dim)} to be bound to, "
            f"got {None if h is None else tuple(h.shape)}"
        )
    return given
