"""Energies of fixed filters: how much contrast and detail an image has, and where."""

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, pad

from fibermodels.checks import check_number
from fibermodels.core import Subject

FLOOR = 1e-4
"""Added to mean squares, because the square root has no derivative at 0: the square of a hundredth of full scale."""


class FilterEnergies(Subject):
    """The contrast of each channel in square cells, and the size of its differences at several scales.

        phi(x) = [ std(x),  rms |grad A_s x|  for each scale s ],    over the pixels of each cell,

    where `A_s` averages blocks of `s x s` pixels, and `grad` has the differences to the right and below. These are the
    marginal statistics of a texture. An energy score of images hardly feels them, because it is dominated by where
    edges are; as a feature of `EnergyScore` they are calibrated by themselves. It has no weights and takes no training.

    Args:
        image_shape: `[C, H, W]`.
        cells: on each side; 1 is the whole image.
        scales: of the differences, in pixels; None takes 1, 2 and 4.

    Raises:
        ValueError: another shape; cells or scales that do not divide the image, or cells that are no larger than a
            scale.

    Reference: Portilla & Simoncelli, IJCV 40, 2000 (textures by the statistics of filters), with differences as
    filters.
    """

    def __init__(self, image_shape: list[int], cells: int = 1, scales: list[int] | None = None) -> None:
        super().__init__()
        if len(image_shape) != 3:
            raise ValueError(f"FilterEnergies: image_shape: expected [C, H, W], got {list(image_shape)}")
        check_number("FilterEnergies", "cells", cells, least=1)
        channels, *sides = image_shape
        self.cells, self.scales = cells, tuple(scales or (1, 2, 4))
        for scale in self.scales:
            check_number("FilterEnergies", "scales", scale, least=1)
            if any(side % (cells * scale) or side <= cells * scale for side in sides):
                raise ValueError(
                    f"FilterEnergies: scales: expected cells of more than one block of {scale} x {scale} pixels in "
                    f"each of {cells} x {cells} cells of {list(image_shape)}, got {list(self.scales)}"
                )
        self.input_shape = tuple(image_shape)
        self.feature_shape = (channels * (1 + len(self.scales)), cells, cells)
        self.freeze()

    def forward(self, images: Tensor) -> Tensor:
        images = images - images.mean((2, 3), keepdim=True)  # no number is far from 0, where squares lose digits
        found = [self._cells(images.square()) - self._cells(images).square()]
        for scale in self.scales:
            coarse = avg_pool2d(images, scale)
            right = pad(coarse.diff(dim=3).square(), (0, 1))  # zero at the last column, and below at the last row
            below = pad(coarse.diff(dim=2).square(), (0, 0, 0, 1))
            found.append(self._cells(right + below))
        return (torch.cat(found, 1).clamp(min=0) + FLOOR).sqrt()

    def _cells(self, values: Tensor) -> Tensor:
        """The mean over each cell, `(B, C, cells, cells)`."""
        height, width = values.shape[2:]
        return avg_pool2d(values, (height // self.cells, width // self.cells))
