"""The images themselves as latent space, for models that learn a density over pixels."""

import torch
from torch import Tensor

from fibermodels.core import LatentSpace


class Identity(LatentSpace):
    """`z` is the image in [-1, 1], flattened; `decode` clips to [0, 1].

    Args:
        image_shape: `(C, H, W)`.
    """

    def __init__(self, image_shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.image_shape = tuple(image_shape)  # type: ignore[assignment]
        self.latent_shape = (int(torch.tensor(image_shape).prod()),)

    def moments(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        z = 2 * x.flatten(1) - 1
        return z, torch.zeros_like(z)

    def decode(self, z: Tensor, h: Tensor) -> Tensor:
        return ((z + 1) / 2).clamp(0, 1).unflatten(1, self.image_shape)
