"""Masks: which pixels of an image may change."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

Mask = list[int] | str | Tensor
"""A box `[top, left, bottom, right]`; an image file, light where pixels may change; `cam`, the half of the pixels with
the largest class activation; or in Python booleans `(H, W)` or `(B, H, W)`."""

LIGHT = 128
"""The least grey value of a file, of 256, where pixels may change."""


def inside_of(mask: Mask | None, images: Tensor) -> Tensor:
    """Where pixels of images `(B, C, H, W)` may change, `(B, H, W)`; None is everywhere.

    Raises:
        ValueError: a box outside of the image, a tensor of another shape or kind, or `cam` where it is not known.
        FileNotFoundError: no such file.
    """
    count, (height, width) = len(images), images.shape[-2:]
    if isinstance(mask, str):
        mask = read(mask, height, width)
    if isinstance(mask, list):
        mask = box(mask, height, width)
    if mask is None:
        mask = torch.ones(height, width, dtype=torch.bool)
    if mask.dtype != torch.bool or tuple(mask.shape) not in ((height, width), (count, height, width)):
        raise ValueError(
            f"mask: expected booleans [{height}, {width}] or [{count}, {height}, {width}], got {list(mask.shape)} of "
            f"{mask.dtype}"
        )
    return mask.expand(count, height, width)


def box(corners: list[int], height: int, width: int) -> Tensor:
    """Booleans `(H, W)` of a box."""
    if len(corners) != 4 or not (0 <= corners[0] < corners[2] <= height and 0 <= corners[1] < corners[3] <= width):
        raise ValueError(f"mask: expected [top, left, bottom, right] within {height} x {width} pixels, got {corners}")
    found = torch.zeros(height, width, dtype=torch.bool)
    found[corners[0] : corners[2], corners[1] : corners[3]] = True
    return found


def read(path: str, height: int, width: int) -> Tensor:
    """Booleans `(H, W)` of an image file, which is scaled to the images, such as a segmentation."""
    if not Path(path).is_file():
        raise FileNotFoundError(f"mask: there is no file at '{path}'")
    with Image.open(path) as file:
        grey = file.convert("L").resize((width, height), Image.Resampling.BILINEAR)
    return torch.from_numpy(np.array(grey) >= LIGHT)


def activated(h: Tensor, weights: Tensor, height: int, width: int) -> Tensor:
    """The half of the pixels with the largest activation, `(B, H, W)`.

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
    return torch.zeros_like(large, dtype=torch.bool).scatter(1, most, True).unflatten(1, (height, width))
