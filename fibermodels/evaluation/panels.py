"""The panels of a figure of results: their curves, and the labels of those that are named."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from fibermodels.evaluation.labels import separated
from fibermodels.evaluation.rows import Row, curve, curves, knobs, leading, short_names

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.text import Text

Looks = dict[str, tuple[Any, str]]

MOST_NAMED, PANELS_IN_A_ROW = 10, 4

GREY = "0.5"

MARKERS = "o^sDvP*Xhd"

SYMBOLS = {"lambda": "λ", "gamma": "γ"}
"""Labels of settings in figures."""


def canvas(count: int) -> tuple[Figure, list[Axes]]:
    """A figure with so many panels."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    down = math.ceil(count / PANELS_IN_A_ROW)
    across = math.ceil(count / down)
    figure = Figure(figsize=(8.5, 6) if count == 1 else (4.8 * across, 4.2 * down + 0.4), layout="constrained")
    FigureCanvasAgg(figure)
    grid: list[Axes] = list(figure.subplots(down, across, squeeze=False).flat)
    for axes in grid[count:]:
        axes.remove()
    return figure, grid[:count]


def named_curves(rows: Sequence[Row], wanted: Sequence[str]) -> list[list[Row]]:
    """The curves that get a name: the wanted ones, else those of the leading rows."""
    found = curves(rows)
    if wanted:
        return [own for own in found if curve(own[0]) in wanted][:MOST_NAMED]
    for most in range(len(rows), 0, -1):
        lead = {id(row) for row in leading(rows, most)}
        if len(kept := [own for own in found if any(id(row) in lead for row in own)]) <= MOST_NAMED:
            return kept
    return []


def looks_of(named: Sequence[Sequence[Row]]) -> Looks:
    """Colour and marker of each family of which a curve is named, at most ten."""
    import matplotlib

    families = dict.fromkeys(str(own[0]["family"]) for own in named)
    palette = ["black", *(matplotlib.colormaps["tab10"](i) for i in range(10) if i != 7)]  # without its grey
    return dict(zip(families, zip(palette, MARKERS, strict=True), strict=False))


def draw_curves(
    axes: Axes,
    rows: Sequence[Row],
    place: Callable[[Row], tuple[float, float]],
    looks: Looks,
    named: Sequence[Sequence[Row]],
) -> list[Text]:
    """Draws the curves of one panel, and returns the labels at the last points of the named ones."""
    names = dict(zip((id(row) for row in rows), short_names(rows), strict=True))
    first = {id(own[0]) for own in named}
    labels = []
    for own in curves(rows):
        places = [place(row) for row in own]
        colour, marker = looks.get(str(own[0]["family"]), (GREY, "."))
        front = id(own[0]) in first
        style: dict[str, Any] = {"alpha": 0.9, "zorder": 3} if front else {"alpha": 0.35, "zorder": 2}
        axes.plot(*zip(*places, strict=True), color=colour, marker=marker, ms=6, lw=1, **style)
        if front:
            text = _label(own, [names[id(row)] for row in own])
            labels.append(axes.text(*places[-1], text, color=colour, fontsize=8, zorder=4))
    return labels


def _label(rows: Sequence[Row], names: Sequence[str]) -> str:
    """A curve's name in words, and the settings at its ends: `feedback flow map, steps 1→6`."""
    words = [name.split("-") for name in names]
    shared = [part for part in words[0] if all(part in each for each in words)] or words[0]
    text = " ".join(shared).replace("_", " ")
    if len(rows) == 1:
        return text
    ends = knobs(rows[0]), knobs(rows[-1])
    name = next((name for name in ends[0] if ends[0][name] != ends[1][name]), next(iter(ends[0])))
    return f"{text}, {SYMBOLS.get(name, name.replace('_', ' '))} {ends[0][name]:g}→{ends[1][name]:g}"


def apart(figure: Figure, drawn: Sequence[tuple[Axes, list[Text]]]) -> list[Text]:
    """Fixes the places of the panels, and moves their labels apart."""
    figure.canvas.draw()
    figure.set_layout_engine("none")
    return [label for axes, labels in drawn for label in separated(axes, labels)]
