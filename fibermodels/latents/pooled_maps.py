"""Maps that are nowhere negative, whose mean over places is known: the fibers of a pooling layer.

    z = scale * m,    m = h r / mean(r),  r = max(z, 0),   channel by channel

Every decoded map has exactly the mean `h`, whatever `z` is, so a density over `z` is always on the fiber.
"""

import math

import torch
from torch import Tensor

from fibermodels.checks import check_number
from fibermodels.core import MapLatents
from fibermodels.spaces import space_of

FLOOR = 1e-6
"""Below this mean a channel of `r` counts as empty, and the map has the same value at all places."""


class PooledMaps(MapLatents):
    """Maps `(C, H, W)` behind a rectifier, given their mean over places (see `subjects.SpatialMean`).

    Args:
        input_shape: `[C, H, W]`.
        scale: of the latents, positive; those of a diffusion model should have about unit variance.

    Raises:
        ValueError: another shape, or a scale that is not positive; when decoding, no representation.
    """

    trivial = True

    def __init__(self, input_shape: list[int], scale: float = 1.0) -> None:
        super().__init__()
        check_number("PooledMaps", "scale", scale, above=0)
        if len(input_shape) != 3:
            raise ValueError(f"PooledMaps: input_shape: expected [C, H, W], got {list(input_shape)}")
        self.scale, self.input_space = scale, space_of("PooledMaps", None, input_shape)
        channels, height, width = input_shape
        self.map_shape, self.latent_shape = (channels, height, width), (math.prod(input_shape),)

    def moments(self, x: Tensor, h: Tensor | None) -> tuple[Tensor, Tensor]:
        z = self.scale * x.flatten(1)
        return z, torch.zeros_like(z)

    def decode(self, z: Tensor, h: Tensor | None) -> Tensor:
        if h is None or h.shape[1:] != self.map_shape[:1]:
            got = None if h is None else tuple(h.shape)
            raise ValueError(f"PooledMaps: h: expected means over places (B, {self.map_shape[0]}), got {got}")
        maps = (z / self.scale).relu().unflatten(1, self.map_shape)
        mean = maps.mean((2, 3), keepdim=True)
        empty = mean < FLOOR
        return h[:, :, None, None] * torch.where(empty, torch.ones_like(maps), maps) / torch.where(empty, 1.0, mean)
