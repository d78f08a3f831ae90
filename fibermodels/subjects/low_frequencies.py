"""The low frequencies of an image: where it is bright and which colours it has, without its detail."""

import math

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from fibermodels.checks import check_number
from fibermodels.core import Subject

OPPONENT = ((1, 1, 1), (1, -1, 0), (1, 1, -2))
"""Directions of colour, before they get length 1: brightness, red against green, and yellow against blue."""


class LowFrequencies(Subject):
    """The coefficients of the two-dimensional cosine transform (type II) with `u + v <= highest`, in each colour.

        phi(x)_{c, (u, v)} = sum_{i, j} b_u(i) b_v(j) a_c(i, j) / n,
        b_k(i) = sqrt(2 - [k = 0]) cos(pi k (i + 1/2) / n),

    where `a` is the image averaged to `n x n` blocks, in the directions of brightness, red against green, and yellow
    against blue if it has three channels. The coefficient of (0, 0) is `n` times the mean. As `marginals` of
    `EnergyScore`, they give the samples of a fiber the spread of the data in colours and layout. It has no weights and
    takes no training.

    Args:
        image_shape: `[C, H, W]`.
        blocks: n, on each side of the averaged image.
        highest: the largest `u + v`.

    Raises:
        ValueError: another shape; blocks that do not divide the image, or frequencies that they do not have.

    Reference: Ahmed, Natarajan & Rao, IEEE Transactions on Computers C-23, 1974.
    """

    directions: Tensor
    waves: Tensor

    def __init__(self, image_shape: list[int], blocks: int = 8, highest: int = 5) -> None:
        super().__init__()
        if len(image_shape) != 3:
            raise ValueError(f"LowFrequencies: image_shape: expected [C, H, W], got {list(image_shape)}")
        check_number("LowFrequencies", "blocks", blocks, least=1)
        check_number("LowFrequencies", "highest", highest, least=0, most=blocks - 1)
        channels, *sides = image_shape
        if any(side % blocks for side in sides):
            raise ValueError(
                f"LowFrequencies: blocks: expected a divisor of the sides of {list(image_shape)}, got {blocks}"
            )
        own = torch.tensor(OPPONENT, dtype=torch.float) if channels == 3 else torch.eye(channels)
        self.register_buffer("directions", own / own.norm(dim=1, keepdim=True), persistent=False)
        self.register_buffer("waves", cosines(blocks), persistent=False)
        self.blocks = blocks
        pairs = [(u, v) for u in range(blocks) for v in range(blocks) if u + v <= highest]
        self.rows, self.columns = [u for u, _ in pairs], [v for _, v in pairs]
        self.input_shape = tuple(image_shape)
        self.feature_shape = (channels * len(pairs),)
        self.freeze()

    def forward(self, images: Tensor) -> Tensor:
        with torch.autocast(images.device.type, enabled=False):  # sums over the image lose digits in 16 bits
            images = images.to(torch.promote_types(images.dtype, torch.float32))
            waves, directions = self.waves.to(images), self.directions.to(images)
            averaged = adaptive_avg_pool2d(images, self.blocks)
            transformed = waves @ torch.einsum("oc,bcij->boij", directions, averaged) @ waves.T
            return transformed[:, :, self.rows, self.columns].flatten(1)


def cosines(n: int) -> Tensor:
    """The orthogonal matrix `(n, n)` of the cosine transform of type II, a frequency in each row."""
    frequency, place = torch.arange(n)[:, None], torch.arange(n) + 0.5
    waves = torch.cos(math.pi * frequency * place / n) * (2 / n) ** 0.5
    waves[0] /= 2**0.5
    return waves
