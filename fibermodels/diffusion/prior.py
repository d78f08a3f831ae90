"""What guidance steers: a denoiser with its noise schedule and its way to images and back."""

from abc import ABC, abstractmethod
from typing import final

from torch import Tensor

from fibermodels.core import Component, LatentSpace
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


def bound(prior: Prior, z: Tensor, h: Tensor | None, feature_dim: int) -> Tensor:
    """The flat representation `(B, feature_dim)` that a prior's network sees; empty for an unconditional one.

    Raises:
        ValueError: a conditional prior without `h`, or with one of another size.
    """
    if not feature_dim:
        return z.new_empty(len(z), 0)
    given = None if h is None else h.flatten(1)
    if given is None or given.shape != (len(z), feature_dim):
        raise ValueError(
            f"{type(prior).__name__}: expected representations of shape {(len(z), feature_dim)} to be bound to, "
            f"got {None if h is None else tuple(h.shape)}"
        )
    return given
