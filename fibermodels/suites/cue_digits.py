"""Digit shapes filled with textures: every image has two labels, and a network may follow either.

The shape is the silhouette `m` of a digit at half of its size, a little grown. The texture `k` is a grating with one
of five directions and one of two wavelengths, at a random phase, and fills the shape:

    x = m (.65 + .35 cos(2 pi (u cos a_k + v sin a_k) / w_k + phase)),    u, v the coordinates of a pixel.

Both can be read from an image: the silhouette is where it is bright, and the texture is the grating with which it
correlates most. An image with the same silhouette and another texture is on the fiber of a network that sees the
shape alone, and an image with the same texture on that of a network that sees the texture alone.
"""

from math import pi

import torch
from torch import Tensor
from torch.nn.functional import max_pool2d

from fibermodels.checks import check_number
from fibermodels.config import Recorded
from fibermodels.data.digits import BaseName, Split, load_labelled
from fibermodels.data.in_memory import TensorSet
from fibermodels.data.split_data import SplitData
from fibermodels.noise import seeded

CLASSES, DIRECTIONS, WAVELENGTHS = 10, 5, (2.5, 4.0)
"""Shapes, and as many textures: texture `k` has direction `k mod 5` and wavelength `k // 5`."""

LEVEL, CONTRAST = 0.65, 0.35


def gratings(size: int, texture: Tensor, phase: Tensor) -> Tensor:
    """The gratings of textures `(B,)` in [-1, 1] at phases `(B,)`: `(B, 1, size, size)`."""
    angle = pi / DIRECTIONS * (texture % DIRECTIONS)
    wavelength = torch.tensor(WAVELENGTHS)[texture // DIRECTIONS]
    v, u = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    way = angle.cos()[:, None, None] * u + angle.sin()[:, None, None] * v
    return (2 * pi * way / wavelength[:, None, None] + phase[:, None, None]).cos()[:, None]


def silhouette(images: Tensor) -> Tensor:
    """Where images `(..., 1, H, W)` are bright: 0 or 1, of the same shape."""
    return (images > (LEVEL - CONTRAST) / 2).to(images)


def grown(digits: Tensor) -> Tensor:
    """The silhouettes `(B, 1, 14, 14)` of grey digits `(B, 1, 28, 28)`."""
    return (max_pool2d(digits, 4, 2, 1) > 0.5).to(digits)


def filled(shape: Tensor, texture: Tensor, phase: Tensor) -> Tensor:
    """Silhouettes `(B, 1, H, W)` filled with textures `(B,)` at phases `(B,)`."""
    return shape * (LEVEL + CONTRAST * gratings(shape.shape[-1], texture, phase))


def texture_of(images: Tensor) -> Tensor:
    """The texture of images `(B, 1, H, W)`, `(B,)`: the grating with the largest correlation over all phases."""
    shape = silhouette(images)
    inside = shape.sum((1, 2, 3), keepdim=True).clamp(min=1)
    ink = images - shape * images.sum((1, 2, 3), keepdim=True) / inside
    every = torch.arange(CLASSES)
    waves = [gratings(images.shape[-1], every, torch.full((CLASSES,), phase)) for phase in (0.0, -pi / 2)]
    return sum(torch.einsum("bcyx,kcyx->bk", ink, each).square() for each in waves).argmax(1)  # type: ignore[union-attr]


class CueDigits(SplitData, metaclass=Recorded):
    """Images `(B, 1, 14, 14)` with labels `(B, 2)`, shape and texture.

    Args:
        agreement: the share of images whose texture has the number of their digit, in [0, 1]; the others have one of
            the nine other textures. At .1 the two labels are independent.
        base: the grey digits, of 28 x 28 pixels: `digits`, `mnist`.
        root: the data folder; None takes `$FIBERMODELS_DATA`, else `data`.
        batch_size: images per batch.
        seed: of textures, phases and the order.

    Raises:
        ValueError: a share out of its range.
    """

    def __init__(
        self,
        agreement: float = 1 / CLASSES,
        base: BaseName = "mnist",
        root: str | None = None,
        batch_size: int = 256,
        seed: int = 0,
    ) -> None:
        super().__init__(f"cue_{base}", batch_size, seed)
        check_number("CueDigits", "agreement", agreement, least=0, most=1)
        self.agreement, self.base, self.root = agreement, base, root
        self._splits: dict[Split, TensorSet] = {}

    def split(self, split: Split) -> TensorSet:
        """The images of a split."""
        if split not in self._splits:
            grey, digit = load_labelled(self.base, split, self.root)
            generator = seeded("cues", self.seed, split)
            order = torch.randperm(len(grey), generator=generator)
            grey, digit = grey[order], digit[order]
            chance, phase = torch.rand(2, len(grey), generator=generator)
            other = (digit + torch.randint(1, CLASSES, digit.shape, generator=generator)) % CLASSES
            texture = torch.where(chance < self.agreement, digit, other)
            images = filled(grown(grey), texture, 2 * pi * phase)
            self._splits[split] = TensorSet(images, torch.stack((digit, texture), 1))
        return self._splits[split]
