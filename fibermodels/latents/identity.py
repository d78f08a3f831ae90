"""The pixels as latent space, for densities over images."""

import torch
from torch import Tensor

from fibermodels.checks import check_number
from fibermodels.core import MapLatents


class Identity(MapLatents):
    """`z` is the flattened image in [-scale, scale]; `decode` clips to [0, 1].

    Args:
        image_shape: `(C, H, W)`.
        scale: the value of white, positive; latents of a diffusion model should have about unit variance.
    """

    trivial = True

    def __init__(self, image_shape: tuple[int, int, int], scale: float = 1.0) -> None:
        super().__init__()
        check_number("Identity", "scale", scale, above=0)
        self.scale = scale
        self.image_shape = self.map_shape = tuple(image_shape)  # type: ignore[assignment]
        self.latent_shape = (int(torch.tensor(image_shape).prod()),)

    def moments(self, x: Tensor, h: Tensor | None) -> tuple[Tensor, Tensor]:
        z = self.scale * (2 * x.flatten(1) - 1)
        return z, torch.zeros_like(z)

    def decode(self, z: Tensor, h: Tensor | None) -> Tensor:
        return ((z / self.scale + 1) / 2).clamp(0, 1).unflatten(1, self.image_shape)
