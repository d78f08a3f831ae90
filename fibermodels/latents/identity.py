"""The inputs themselves as latent space: the pixels of images, and the numbers of other inputs."""

import math

import torch
from torch import Tensor

from fibermodels.checks import check_number
from fibermodels.core import MapLatents
from fibermodels.spaces import ImageSpace, per_channel, space_of


class Identity(MapLatents):
    """`z` is the flattened input, scaled: an image in [-scale, scale], which `decode` clips to [0, 1], and else
    `z = scale (x - mean) / std`, which it does not clip.

    Args:
        image_shape: `(C, H, W)` of images in [0, 1].
        scale: the value of white, positive; latents of a diffusion model should have about unit variance.
        input_shape: of other inputs: `(D,)`, `(C, L)` or `(C, H, W)`; instead of `image_shape`.
        mean, std: of other inputs, a number for each entry of a vector, or for each channel of a signal or a map; None
            takes 0 and 1.

    Raises:
        ValueError: not one of the two shapes, `mean` or `std` for images or of another length, or a number out of its
            range.
    """

    trivial = True

    def __init__(
        self,
        image_shape: tuple[int, int, int] | None = None,
        scale: float = 1.0,
        input_shape: list[int] | None = None,
        mean: list[float] | None = None,
        std: list[float] | None = None,
    ) -> None:
        super().__init__()
        check_number("Identity", "scale", scale, above=0)
        self.scale, self.input_space = scale, space_of("Identity", image_shape, input_shape)
        shape = self.input_shape
        channels, height, width = (*shape, 1, 1)[:3]  # a vector is a map of one place
        self.map_shape, self.latent_shape = (channels, height, width), (math.prod(shape),)
        self.bounded = isinstance(self.input_space, ImageSpace)
        own_mean, own_std = mean or [0.0] * shape[0], std or [1.0] * shape[0]
        if self.bounded and (mean or std):
            raise ValueError("Identity: mean, std: expected none with image_shape, because images have a range")
        if len(own_mean) != shape[0] or len(own_std) != shape[0] or min(own_std) <= 0:
            raise ValueError(
                f"Identity: mean, std: expected {shape[0]} numbers each and every std positive, for inputs "
                f"{list(shape)}, got {own_mean} and {own_std}"
            )
        self.register_buffer("mean", per_channel(own_mean, shape), persistent=False)
        self.register_buffer("std", per_channel(own_std, shape), persistent=False)

    mean: Tensor
    std: Tensor

    @property
    def shape(self) -> tuple[int, ...]:
        return self.input_shape

    def moments(self, x: Tensor, h: Tensor | None) -> tuple[Tensor, Tensor]:
        unit = 2 * x - 1 if self.bounded else (x - self.mean) / self.std
        z = self.scale * unit.flatten(1)
        return z, torch.zeros_like(z)

    def decode(self, z: Tensor, h: Tensor | None) -> Tensor:
        unit = (z / self.scale).unflatten(1, self.input_shape)
        return ((unit + 1) / 2).clamp(0, 1) if self.bounded else unit * self.std + self.mean
