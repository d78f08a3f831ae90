"""Figures of images and samples, which notebooks and applications show."""

from __future__ import annotations

import io
import math
import textwrap
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from fibermodels.pictures import Plot, coloured, has_places

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INCHES = 1.2
"""The side of a picture."""

WRAPPED = 20
"""Characters in a line of the title of a row."""

ACROSS = 9
"""Pictures in a row, at most."""


def columns(images: Tensor, rows: Sequence[str]) -> Figure:
    """A figure with one row for each name; of inputs that are no images and no maps, a plot for each target.

    Args:
        images: targets in the first row, their samples below, `(rows, B, *input_shape)`.
        rows: their names.
    """
    if not has_places(images[0]):
        return Plot(images[0], images[1:]).figure()
    x, x_hat = coloured(images[0], images[1:])
    images = torch.cat((x[None], x_hat))
    figure = _figure(images.shape[1], len(rows), 0.5)
    grid = figure.subplots(len(rows), images.shape[1], squeeze=False)
    for name, line, pictures in zip(rows, grid, images, strict=True):
        for axes, picture in zip(line, pictures, strict=True):
            show(axes, picture)
        line[0].set_ylabel(name, fontsize=9)
    return figure


def strip(images: Tensor, captions: Sequence[str]) -> Figure:
    """A figure with an image first, and its samples with their captions behind it.

    Args:
        images: `(1 + n, C, H, W)` in [0, 1].
        captions: of the samples.
    """
    across = min(ACROSS, len(images))
    down = math.ceil(len(images) / across)
    figure = _figure(across, down, 0.0, 0.25)
    grid = list(figure.subplots(down, across, squeeze=False).flat)
    for axes, picture, caption in zip(grid, images, ("image", *captions), strict=False):
        show(axes, picture)
        axes.set_title(caption, fontsize=8)
    for axes in grid[len(images) :]:
        axes.remove()
    return figure


def rows(titles: Sequence[str], images: Sequence[Tensor], captions: Sequence[Sequence[str]], heading: str) -> Figure:
    """A figure with one row of images for each title; rows may have different lengths.

    Args:
        titles: of the rows.
        images: of each row, `(n, C, H, W)` in [0, 1].
        captions: of each row's images.
        heading: of the figure.
    """
    across = max(map(len, images))
    figure = _figure(across, len(images), 1.0, 0.25)
    grid = figure.subplots(len(images), across, squeeze=False)
    for title, own, names, line in zip(titles, images, captions, grid, strict=True):
        line[0].set_ylabel(textwrap.fill(title, WRAPPED), fontsize=8 if len(title) <= WRAPPED else 6)
        for axes, image, name in zip(line, own, names, strict=False):
            show(axes, image)
            axes.set_title(name, fontsize=7)
        for axes in line[len(own) :]:
            axes.remove()
    figure.suptitle(heading, fontsize=9)
    return figure


def heat(values: Tensor, top: float | None = None) -> Tensor:
    """Maps `(..., H, W)` of numbers from 0 on as coloured images `(..., 3, H, W)`, dark where a number is 0.

    Args:
        values: the numbers.
        top: the number with the brightest colour; None takes the largest.
    """
    import matplotlib

    most = max(float(values.max()) if top is None else top, 1e-12)
    coloured = matplotlib.colormaps["viridis"]((values / most).clamp(0, 1).cpu().numpy())
    return torch.from_numpy(coloured)[..., :3].float().movedim(-1, -3)


def show(axes: Axes, image: Tensor) -> None:
    """Draws an image `(C, H, W)` in [0, 1]."""
    axes.imshow(image.permute(1, 2, 0).expand(-1, -1, 3).clamp(0, 1).cpu().numpy(), interpolation="nearest")
    axes.set_xticks([])
    axes.set_yticks([])


def png(figure: Figure) -> bytes:
    """A figure as a file."""
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=100)
    return file.getvalue()


def _figure(across: int, down: int, left: float, above: float = 0.0) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    figure = _shown()(figsize=(INCHES * across + left, (INCHES + above) * down), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


@cache
def _shown() -> type[Figure]:
    """The class of figures that a notebook shows, also if nothing has imported pyplot."""
    from matplotlib.figure import Figure

    class Shown(Figure):
        def _repr_png_(self) -> bytes:
            return png(self)

    return Shown
