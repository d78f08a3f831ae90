"""Strictly proper scores of draws: their expectation is least where the draws have the law of the observations.

    E|x - g| - 1/2 E|g - g'|,   g, g' independent draws

is the energy score. It needs no density of the draws, and two of them give an unbiased gradient. An energy distance
over many dimensions hardly feels the finer structure of its vectors, so images are scored by patches of several sizes.

Reference: Gneiting & Raftery, JASA 102 (2007), sections 4.2 and 4.3.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

FLOOR = 1e-12
"""Added to squared distances: the square root has no derivative at 0."""


def energy_score(x: Tensor, draws: Tensor) -> Tensor:
    """The energy score `(B,)` of draws `(m, B, ..., d)` for observations `(B, ..., d)`, averaged over places.

    Distances are Euclidean over the last dimension, divided by `sqrt(d)`.

    Raises:
        ValueError: fewer than two draws.
    """
    if len(draws) < 2:
        raise ValueError(f"energy_score: expected at least 2 draws, got {len(draws)}")
    pairs = [(i, j) for i in range(len(draws)) for j in range(i)]
    near = torch.stack([_distance(x, draw) for draw in draws]).mean(0)
    apart = torch.stack([_distance(draws[i], draws[j]) for i, j in pairs]).mean(0)
    return near - 0.5 * apart


def _distance(a: Tensor, b: Tensor) -> Tensor:
    square = (a - b).square().mean(-1)
    return (square + FLOOR).sqrt().flatten(1).mean(1)


def patches(images: Tensor, size: int) -> Tensor:
    """Images `(..., C, H, W)` as `(..., places, C * size * size)`; a rest at the border is left out.

    It reshapes, because the backward pass of `unfold` is many times slower on a CPU.
    """
    *lead, channels, height, width = images.shape
    rows, columns = height // size, width // size
    cut = images[..., : rows * size, : columns * size]
    blocks = cut.reshape(*lead, channels, rows, size, columns, size)
    n = len(lead)
    order = (*range(n), n + 1, n + 3, n, n + 2, n + 4)
    return blocks.permute(order).reshape(*lead, rows * columns, channels * size * size)


def patch_score(x: Tensor, draws: Tensor, sizes: Sequence[int]) -> Tensor:
    """The energy score `(B,)` of drawn images `(m, B, C, H, W)` for images `x` `(B, C, H, W)`: that of their patches.
    Inputs of another number of dimensions, `(B, *input_shape)`, are one patch.

    Args:
        sizes: of the patches, in pixels, over which the score is averaged; a size that an image does not have is the
            whole image.
    """
    if x.ndim != 4:
        return energy_score(x.flatten(1)[:, None], draws.flatten(2)[:, :, None])
    terms = []
    for size in sizes:
        if size > min(x.shape[-2:]):
            terms.append(energy_score(x.flatten(1)[:, None], draws.flatten(2)[:, :, None]))
        else:
            terms.append(energy_score(patches(x, size), patches(draws, size)))
    return torch.stack(terms).mean(0)
