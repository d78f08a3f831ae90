"""Masks: how much of a change each pixel of an image takes, from 0 for none to 1 for all of it.

A mask of 0 and 1 leaves a seam at its border. That of the class activation has a soft border.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

Mask = list[int] | str | Tensor
"""A box `[top, left, bottom, right]`; an image file, white where pixels may change, black where they may not, and grey
between; `cam`, about the half of the pixels with the largest class activation; or in Python booleans or numbers from 0
to 1, `(H, W)` or `(B, H, W)`."""

WHITE = 255
"""The largest grey value of a file."""

BORDER = 16
"""A soft border reaches as far to both sides as twice this part of an image's side."""


def weights_of(mask: Mask | None, images: Tensor) -> Tensor:
    """How much of a change each pixel of images `(B, C, H, W)` takes, `(B, H, W)` in [0, 1]; None is all of it.

    Raises:
        ValueError: a box outside of the image, a tensor of another shape or range, or `cam` where it is not known.
        FileNotFoundError: no such file.
    """
    count, (height, width) = len(images), images.shape[-2:]
    if isinstance(mask, str):
        mask = read(mask, height, width)
    if isinstance(mask, list):
        mask = box(mask, height, width)
    if mask is None:
        mask = torch.ones(height, width)
    weights = mask.float()
    fits = tuple(mask.shape) in ((height, width), (count, height, width))
    if not (fits and weights.min() >= 0 and weights.max() <= 1):
        raise ValueError(
            f"mask: expected booleans or numbers from 0 to 1, [{height}, {width}] or [{count}, {height}, {width}], got "
            f"{list(mask.shape)} of {mask.dtype} from {float(weights.min()):.3g} to {float(weights.max()):.3g}"
        )
    return weights.expand(count, height, width)


def box(corners: list[int], height: int, width: int) -> Tensor:
    """1 inside of a box and 0 outside, `(H, W)`."""
    if len(corners) != 4 or not (0 <= corners[0] < corners[2] <= height and 0 <= corners[1] < corners[3] <= width):
        raise ValueError(f"mask: expected [top, left, bottom, right] within {height} x {width} pixels, got {corners}")
    found = torch.zeros(height, width)
    found[corners[0] : corners[2], corners[1] : corners[3]] = 1
    return found


def read(path: str, height: int, width: int) -> Tensor:
    """The grey values `(H, W)` of an image file, which is scaled to the images, such as a segmentation."""
    if not Path(path).is_file():
        raise FileNotFoundError(f"mask: there is no file at '{path}'")
    with Image.open(path) as file:
        grey = file.convert("L").resize((width, height), Image.Resampling.BILINEAR)
    return torch.from_numpy(np.array(grey)).float() / WHITE


def activated(h: Tensor, weights: Tensor, height: int, width: int) -> Tensor:
    """The half of the pixels with the largest activation, with a soft border, `(B, H, W)`.

    The activation of a place is `sum_c w_c h_c`, and between places it is bilinear. It takes no gradient.

    Args:
        h: maps `(B, C, h, w)`.
        weights: of the channels, for each image `(B, C)`.
        height, width: of the images.

    Raises:
        ValueError: representations that are no maps.

    Reference: Zhou et al., arXiv 1512.04150 (class activation maps).
    """
    if h.ndim != 4:
        raise ValueError(f"mask: 'cam' needs a subject with maps (C, H, W), got representations {list(h.shape[1:])}")
    heat = torch.einsum("bchw,bc->bhw", h, weights)
    large = torch.nn.functional.interpolate(heat[:, None], (height, width), mode="bilinear")[:, 0].flatten(1)
    most = large.topk(height * width // 2).indices
    return softened(torch.zeros_like(large).scatter(1, most, 1.0).unflatten(1, (height, width)))


def softened(weights: Tensor) -> Tensor:
    """Weights `(B, H, W)` averaged twice over squares, so that they fall from 1 to 0 over a border. Small images, of
    less than `BORDER` pixels, keep theirs."""
    reach = min(weights.shape[-2:]) // BORDER
    found = weights[:, None]
    for _ in range(2):
        found = torch.nn.functional.avg_pool2d(found, 2 * reach + 1, 1, reach, count_include_pad=False)
    return found[:, 0]
