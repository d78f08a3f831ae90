"""Figures of results."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.utils import make_grid, save_image

from fibermodels.core import FiberSamples
from fibermodels.evaluation.labels import points
from fibermodels.evaluation.metamers import OWN, UNSEEN, plot_metamers
from fibermodels.evaluation.panels import Looks, apart, canvas, draw_curves, looks_of, named_curves
from fibermodels.evaluation.rows import FLOOR, Row, consistency, distance, excess, fidelity, titles, worlds
from fibermodels.evaluation.tables import summary, write_csv
from fibermodels.files import replace_file, write_text
from fibermodels.pictures import Plot, as_tensor, coloured, has_places

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.text import Text

NEAR = {
    "fiber_rms": "fiber RMS: distance of sample and target in units of the representation",
    "cosine": "1 - cosine of the representations of sample and target",
}
"""The metrics of fidelity in words."""

LIKE = {
    "colour_kl": "KL divergence of colours from their law, nats",
    "arc_kl": "KL divergence of positions on the level curve from their law, nats",
    "factor_ks": "Kolmogorov-Smirnov distance of factors from their law",
    "column_w1": "Wasserstein distance of columns from the targets', in deviations",
    "fid": "Frechet distance to real images",
}
"""The metrics of consistency in words."""


COLUMNS, ROWS, LINE, ZOOM = 16, 8, 3, 2
"""The picture of samples: targets, samples of each, the height of the line between them, and the size of a pixel."""


def sample_grid(samples: FiberSamples, path: str | Path, targets: int = COLUMNS, rows: int = ROWS) -> None:
    """Writes a picture of targets and samples.

    Images and maps have one column per target: the target in the first row, and its samples below a white line. Other
    inputs are plotted (`pictures.Plot`).
    """
    if not has_places(samples.x):
        save_image(as_tensor(Plot(samples.x, samples.x_hat).figure(targets)), path)
        return
    x, x_hat = coloured(samples.x[:targets], samples.x_hat[:rows, :targets])
    cells = torch.cat((x[None], x_hat)).flatten(0, 1)
    grid = make_grid(cells, nrow=len(x), padding=1, pad_value=1.0)
    line = x.shape[-2] + 1  # below the targets
    grid = torch.cat((grid[:, :line], torch.ones(3, LINE, grid.shape[2]), grid[:, line:]), 1)
    save_image(torch.nn.functional.interpolate(grid[None], scale_factor=ZOOM), path)


def read_grid(path: str | Path, targets: int, samples: int) -> tuple[Tensor, Tensor] | None:
    """The images in a picture of `sample_grid`, with 256 levels: targets `(B, 3, H, W)`, samples `(n, B, 3, H, W)`.

    Args:
        path: the picture.
        targets: the number of targets of the result, which may be more than the picture shows.
        samples: the number of samples of each.

    Returns:
        None if the picture has another number of images: its size does not fit, or the lines between are not white.
    """
    across, down = min(targets, COLUMNS), 1 + min(samples, ROWS)
    with Image.open(path) as file:
        levels = np.array(file.convert("RGB"))
    grid = torch.from_numpy(levels).permute(2, 0, 1)[:, ::ZOOM, ::ZOOM] / 255
    width, apart = divmod(grid.shape[2] - 1, across)
    height, off = divmod(grid.shape[1] - 1 - LINE, down)
    if apart or off or width < 2 or height < 2:
        return None
    grid = torch.cat((grid[:, :height], grid[:, height + LINE :]), 1)[:, 1:, 1:]
    cells = grid.reshape(3, down, height, across, width).permute(1, 3, 0, 2, 4)
    if (cells[..., -1] < 1).any() or (cells[..., -1, :] < 1).any():
        return None
    return cells[0, ..., :-1, :-1], cells[1:, ..., :-1, :-1]


def write_comparison(
    rows: Sequence[Row], out: str | Path, words: Mapping[str, str] | None = None, named: Sequence[str] = ()
) -> None:
    """Writes `comparison.csv`, `comparison.md` and `comparison.png` of several results into `out`; without a metric of
    consistency there is no figure.

    If at least two results have judges that took no part, it writes `metamers.png`, too. The CSV has all rows and all
    metrics; the Markdown has the leading dozen rows and eight columns; a figure names at most ten curves in each panel.

    Args:
        rows: the results.
        out: the folder.
        words: parts of subjects' names, and what the table and the figure show instead.
        named: the curves that the figure names; by default the leading ones.
    """
    out = Path(out)
    write_csv(rows, out / "comparison.csv")
    write_text(out / "comparison.md", summary(rows, words))
    if consistency(rows) in set().union(*rows):
        _save(plot(rows, words or {}, named)[0], out / "comparison.png")
    if len(judged := [row for row in rows if {OWN, UNSEEN} <= set(row)]) > 1:
        _save(plot_metamers(judged, words or {}, named), out / "metamers.png")


def _save(figure: Figure, path: Path) -> None:
    replace_file(path, lambda file: figure.savefig(file, dpi=100, pil_kwargs={"optimize": True}))


def plot(
    rows: Sequence[Row], words: Mapping[str, str] | None = None, named: Sequence[str] = ()
) -> tuple[Figure, list[Text]]:
    """Plots fidelity against consistency, with one panel for each data set and subject; returns the labels, too."""

    panels, like, near = worlds(rows), consistency(rows), fidelity(rows)
    above = any(floors_differ(own, like) for own in panels.values())
    scored = {key: [row for row in own if like in row] for key, own in panels.items()}
    chosen = {key: named_curves(own, named) for key, own in scored.items()}
    figure, grid = canvas(len(panels))
    looks = looks_of([own for each in chosen.values() for own in each])
    drawn = [
        (axes, _panel(axes, own, (near, like), above, looks, chosen[key]))
        for axes, (key, own) in zip(grid, scored.items(), strict=True)
    ]
    if len(panels) > 1:
        for axes, title in zip(grid, titles(rows, words or {}).values(), strict=True):
            axes.set_title(title, fontsize=10)
    figure.supxlabel(f"fidelity\n{NEAR[near]}", fontsize=9)
    floor = f"{', above its floor' * above}\n(dotted: exact samples)"
    figure.supylabel(f"consistency\n{consistency_in_words(like)}{floor}", fontsize=9, multialignment="center")
    return figure, apart(figure, drawn)


def consistency_in_words(like: str) -> str:
    """A metric of consistency in words."""
    network = like.removeprefix("fid_")
    return LIKE.get(like) or f"Frechet distance to real images, features of {network}"


def floors_differ(rows: Sequence[Row], like: str) -> bool:
    """Whether samples of different sizes have different floors; the figure then shows excesses."""
    floors = [float(row[like + FLOOR]) for row in rows if like + FLOOR in row]
    return bool(floors) and max(floors) > 1.1 * min(floors)


def _panel(
    axes: Axes, rows: Sequence[Row], metrics: tuple[str, str], above: bool, looks: Looks, named: Sequence[Sequence[Row]]
) -> list[Text]:
    """Draws the curves of one data set and subject, and returns the labels at their last points."""
    near, like = metrics

    def place(row: Row) -> tuple[float, float]:
        return distance(row, near), excess(row, like) if above else float(row[like])

    labels = draw_curves(axes, rows, place, looks, named)
    floors = [float(row[like + FLOOR]) for row in rows if like + FLOOR in row]
    if rows:
        _scales(axes, min(floors, default=0.0))
    _corner(axes, floors, above)
    return labels


def _scales(axes: Axes, floor: float) -> None:
    """Logarithmic axes where values span more than a factor of ten, linear near zero; room for the better corner."""
    from matplotlib.ticker import SymmetricalLogLocator

    xs, ys = zip(*points(axes), strict=True)
    for values, least, rescale, axis in (
        (xs, 0.0, axes.set_xscale, axes.xaxis),
        (ys, floor, axes.set_yscale, axes.yaxis),
    ):
        start = linear_below(values, least)
        if start is not None:
            rescale("symlog", linthresh=start, linscale=0.4, subs=range(2, 10))
            if max(values) < 100 * start:  # few powers of ten
                axis.set_major_locator(SymmetricalLogLocator(base=10, linthresh=start, subs=[1, 2, 5]))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}" if value >= 0 else "")
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.tick_params(labelsize=8)
    axes.margins(x=0.2, y=0.16)
    axes.grid(alpha=0.25, lw=0.5)


def linear_below(values: Sequence[float], least: float) -> float | None:
    """The power of ten at which a logarithmic axis starts, not far below `least`; None for a linear axis."""
    positive = [value for value in values if value > 1e-3 * max(values)]
    if not positive or max(values) < 10 * min(positive):
        return None
    return float(10 ** math.floor(math.log10(max(min(positive), least))))


def _corner(axes: Axes, floors: Sequence[float], above: bool) -> None:
    """Marks the floor and the better corner."""
    if floors:
        level = 0 if above else min(floors)
        axes.axhline(level, color="0.4", lw=0.8, ls=":", zorder=1)
        pixels = axes.transData.transform((axes.get_xlim()[0], level))
        if axes.transAxes.inverted().transform(pixels)[1] < 0.1:  # at the edge
            below = axes.transAxes.transform((0, -0.12))
            axes.set_ylim(bottom=axes.transData.inverted().transform(below)[1])
    axes.annotate(
        "better",
        (0.015, 0.015),
        (0.07, 0.07),
        xycoords="axes fraction",
        textcoords="axes fraction",
        fontsize=8,
        color="0.3",
        arrowprops={"arrowstyle": "->", "color": "0.3"},
    )
