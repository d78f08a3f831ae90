"""How inputs are drawn: images as they are, maps in three colours, points as scatter plots, other inputs as lines.

What an input is drawn as follows from its shape and its values, so results need not say it.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INCHES, DOTS, ACROSS, CLOUD = 1.7, 80, 6, 2000
"""The side of a panel, dots per inch, panels in a row, and points of a cloud at most."""

ENOUGH = 20
"""Targets whose deviation is that of the data."""

PAPER = "#fdfdfd"
"""The ground of plots: not quite white, so that nobody takes a plot for a grid of images."""

INK, SAMPLE = "black", "#d1495b"
"""The colours of a target and of its samples."""


def are_images(x: Tensor) -> bool:
    """Whether inputs `(B, *input_shape)` are grey or coloured images in [0, 1]."""
    if x.ndim != 4 or x.shape[1] not in (1, 3):
        return False
    return not x.numel() or bool((x.min() >= -1e-4) & (x.max() <= 1 + 1e-4))


def has_places(x: Tensor) -> bool:
    """Whether inputs are images or maps `(B, C, H, W)`, which `coloured` makes pictures of; others are plotted."""
    return x.ndim == 4


def coloured(x: Tensor, x_hat: Tensor) -> tuple[Tensor, Tensor]:
    """Targets `(B, C, H, W)` and samples `(n, B, C, H, W)` as pictures `(..., 3, H, W)` in [0, 1]; images stay as they
    are.

    The colours of maps are their three principal channels, or their own if they have at most three. The first and the
    last percent of the targets' values are dark and bright.
    """
    if are_images(x):
        return x, x_hat
    channels = x.transpose(0, 1).flatten(1)  # (C, places)
    mean = channels.mean(1)
    centred = (channels - mean[:, None]).double()
    _, axes = torch.linalg.eigh(centred @ centred.T)
    main = axes[:, -3:].flip(1).to(x) if len(channels) > 3 else torch.eye(len(channels)).to(x)
    low, high = np.percentile((main.T @ centred.to(x)).cpu().numpy(), (1, 99), axis=1)
    start, width = torch.from_numpy(low).to(x), torch.from_numpy(np.maximum(high - low, 1e-6)).to(x)

    def colours(maps: Tensor) -> Tensor:
        flat = (maps - mean[:, None, None]).movedim(-3, -1) @ main
        shades = ((flat - start) / width).clamp(0, 1).movedim(-1, -3)
        return shades.expand(*shades.shape[:-3], 3, -1, -1) if shades.shape[-3] == 1 else _three(shades)

    return colours(x), colours(x_hat)


def _three(shades: Tensor) -> Tensor:
    """Two channels as red and green."""
    return torch.cat((shades, torch.zeros_like(shades[..., :1, :, :])), -3) if shades.shape[-3] == 2 else shades


class Plot:
    """Plots of targets without places and of their samples, with the same axes for all.

    The axes show at most three times the range of 20 targets or more; the panel of all samples says how many are
    outside.
    Points `(2,)` are scattered, over a cloud of all targets. Numbers `(1,)` have a histogram. Longer vectors are lines
    over their entries, each in units of the targets' deviation, or of that of targets and samples where there are fewer
    than 20 targets. Signals `(C, L)` are lines over their length.

    Args:
        x: targets `(B, *input_shape)`.
        x_hat: samples `(n, B, *input_shape)`.
    """

    def __init__(self, x: Tensor, x_hat: Tensor) -> None:
        self.x, self.x_hat = x.detach().cpu().float(), x_hat.detach().cpu().float()
        if x.ndim == 2 and x.shape[1] > 2:
            known = self.x if len(x) >= ENOUGH else torch.cat((self.x[None], self.x_hat)).flatten(0, 1)
            mean, std = known.mean(0), known.std(0, correction=0).clamp(min=1e-6)
            self.x, self.x_hat = (self.x - mean) / std, (self.x_hat - mean) / std
        everyone = torch.cat((self.x[None], self.x_hat)).flatten(0, 1)
        self.kind = "points" if x.ndim == 2 and x.shape[1] == 2 else "lines"
        values = everyone.T if self.kind == "points" else everyone.reshape(1, -1)
        low, high = np.percentile(values.numpy(), (0.2, 99.8), axis=1)
        if len(x) >= ENOUGH:  # a few samples that left the data must not make the others a dot
            own = self.x.T if self.kind == "points" else self.x.reshape(1, -1)
            least, most = own.amin(1).numpy(), own.amax(1).numpy()
            low, high = np.maximum(low, 2 * least - most), np.minimum(high, 2 * most - least)
        room = 0.1 * np.maximum(high - low, 1e-6)
        self.limits = list(zip((low - room).tolist(), (high + room).tolist(), strict=True))

    def panel(self, axes: Axes, target: int, samples: int | None = None) -> None:
        """Draws a target and its first samples."""
        x, own = self.x[target].numpy(), self.x_hat[:samples, target].numpy()
        if self.kind == "points":
            self._cloud(axes, self.x, "0.85")
            axes.scatter(own[:, 0], own[:, 1], s=5, color=SAMPLE, alpha=0.7, linewidths=0)
            axes.plot(x[0], x[1], "+", color=INK, ms=9, mew=1.6)
        elif x.size == 1:
            axes.hist(own[:, 0], bins=20, color=SAMPLE)
            axes.axvline(float(x[0]), color=INK)
            axes.set_xlim(*self.limits[0])
        else:
            for line, style in (*((each, _THIN) for each in own), (x, _BOLD)):
                axes.plot(line.T if line.ndim == 2 else line, **style)
            axes.set_ylim(*self.limits[0])
        self._bare(axes)

    def density(self, axes: Axes, of_samples: bool) -> None:
        """Draws all targets, or all samples, as points."""
        points = self.x_hat.flatten(0, 1) if of_samples else self.x
        self._cloud(axes, points, SAMPLE if of_samples else INK)
        self._bare(axes)
        low, high = torch.tensor(self.limits).T
        if outside := int(((points < low) | (points > high)).any(1).sum()):
            axes.text(
                0.97, 0.03, f"{outside / len(points):.1%} outside", transform=axes.transAxes, ha="right", fontsize=6
            )

    def _cloud(self, axes: Axes, points: Tensor, colour: str) -> None:
        step = max(1, len(points) // CLOUD)
        shown = points[::step].numpy()
        axes.scatter(shown[:, 0], shown[:, 1], s=2.5, color=colour, alpha=min(1.0, 600 / len(shown)), linewidths=0)

    def _bare(self, axes: Axes) -> None:
        axes.set_facecolor(PAPER)
        axes.tick_params(labelsize=5, length=2)
        if self.kind == "points":
            axes.set_xlim(*self.limits[0])
            axes.set_ylim(*self.limits[1])

    def figure(self, targets: int = 16, samples: int | None = None) -> Figure:
        """All points in two panels if they are of the plane, and a panel for each of the first targets; if there is one
        sample of each, the points are in the first two panels alone."""
        plane = self.kind == "points"
        shown = min(targets, len(self.x)) if not plane or len(self.x_hat) > 1 else 0
        count = shown + 2 * plane
        across = min(ACROSS, count)
        figure = new_figure(across, math.ceil(count / across))
        grid = list(figure.subplots(math.ceil(count / across), across, squeeze=False).flat)
        for axes, of_samples in zip(grid[: 2 * plane], (False, True), strict=False):
            self.density(axes, of_samples)
            axes.set_title("all samples" if of_samples else "all targets", fontsize=7)
        for target, axes in enumerate(grid[2 * plane : count]):
            self.panel(axes, target, samples)
            axes.set_title(f"target {target}", fontsize=7)
        for axes in grid[count:]:
            axes.remove()
        return figure

    def one(self, target: int, samples: int | None = None) -> Tensor:
        """The panel of one target as a picture `(3, H, W)`."""
        figure = new_figure(1, 1, None)
        self.panel(figure.add_axes((0.13, 0.1, 0.85, 0.87)), target, samples)
        return as_tensor(figure)


_THIN: dict[str, Any] = {"color": SAMPLE, "alpha": 0.5, "lw": 0.7}
_BOLD: dict[str, Any] = {"color": INK, "lw": 1.2}


def new_figure(across: int, down: int, layout: Literal["constrained"] | None = "constrained") -> Figure:
    """An empty figure for so many panels."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    size = (INCHES * across + 0.3, INCHES * down + 0.1)
    figure = Figure(figsize=size, dpi=DOTS, layout=layout, facecolor=PAPER)
    FigureCanvasAgg(figure)
    return figure


def as_tensor(figure: Figure) -> Tensor:
    """A figure as a picture `(3, H, W)` in [0, 1]."""
    canvas: Any = figure.canvas
    canvas.draw()
    levels = np.asarray(canvas.buffer_rgba())[..., :3].copy()
    return torch.from_numpy(levels).permute(2, 0, 1).float() / 255
