"""Labels of a figure that do not overlap."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D
    from matplotlib.text import Text
    from matplotlib.transforms import Bbox

APART: dict[str, Any] = {
    "expand": (1.2, 1.8),
    "force_text": (0.3, 0.5),
    "force_static": (0.2, 0.3),
    "force_explode": (0.5, 1.0),
}
"""How strongly `adjustText` moves labels apart and away from points."""


def points(axes: Axes) -> list[tuple[float, float]]:
    """The results in a panel."""
    return [point for line in axes.lines if line.get_transform() == axes.transData for point in _ends(line)]


def _ends(line: Line2D) -> list[tuple[float, float]]:
    return list(zip(*(np.asarray(line.get_data()[i], float).tolist() for i in (0, 1)), strict=True))


RADIUS = 4
"""Of a result's marker, in pixels."""


def _along(axes: Axes) -> list[tuple[float, float]]:
    """Points around the results and along the lines, in pixels: labels must not hide them."""
    around = [(x + dx, y + dy) for x, y in axes.transData.transform(points(axes)) for dx, dy in _SIDES]
    for line in axes.lines:
        for start, end in pairwise(line.get_transform().transform(_ends(line))):
            steps = int(math.dist(start, end) / 15) + 1
            around += [tuple(start + (end - start) * i / steps) for i in range(1, steps)]
    return around


_SIDES = ((0, 0), (RADIUS, 0), (-RADIUS, 0), (0, RADIUS), (0, -RADIUS))


def separated(axes: Axes, labels: list[Text]) -> list[Text]:
    """Moves labels apart, and removes those that still overlap an earlier one; returns the others."""
    from adjustText import adjust_text

    if not labels:
        return []
    others = [text for text in axes.texts if text not in labels]
    taken = [text.get_window_extent() for text in others]
    marks = _along(axes)
    x, y = zip(*axes.transData.inverted().transform(marks), strict=True)
    places = [label.get_position() for label in labels]
    adjust_text(labels, x=x, y=y, objects=others or None, ax=axes, iter_lim=400, **APART)
    kept: list[Text] = []
    for label, place in zip(labels, places, strict=True):
        box = _free(axes, label, taken, marks)
        if box is None:
            label.remove()
        else:
            kept.append(label)
            taken.append(box)
            _leader(axes, box, place, label.get_color())
    return kept


def _free(axes: Axes, label: Text, taken: list[Bbox], marks: list[tuple[float, float]]) -> Bbox | None:
    """Moves a label into the panel, to the nearest place that is free; returns its box, or None without such a place.

    A place on a line is taken only if there is no other.
    """
    box, frame = label.get_window_extent(), axes.bbox
    dx = min(frame.x1 - 2 - box.x1, 0) or max(frame.x0 + 2 - box.x0, 0)
    dy = min(frame.y1 - 2 - box.y1, 0) or max(frame.y0 + 2 - box.y0, 0)
    second = None
    for shift in _SHIFTS:
        moved = box.translated(dx + shift[0], dy + shift[1])
        inside = frame.x0 <= moved.x0 and moved.x1 <= frame.x1 and frame.y0 <= moved.y0 and moved.y1 <= frame.y1
        if not inside or any(moved.overlaps(other) for other in taken):
            continue
        if not any(moved.contains(*mark) for mark in marks):
            return _moved(axes, label, moved.x0 - box.x0, moved.y0 - box.y0)
        second = second or moved
    return _moved(axes, label, second.x0 - box.x0, second.y0 - box.y0) if second else None


_SHIFTS = sorted(
    ((x, y) for x in range(-120, 121, 12) for y in range(-72, 73, 8)), key=lambda place: math.hypot(*place)
)
"""Shifts of a label in pixels, the nearest first."""


def _moved(axes: Axes, label: Text, dx: float, dy: float) -> Bbox:
    x, y = axes.transData.transform(label.get_position())
    label.set_position(tuple(axes.transData.inverted().transform((x + dx, y + dy))))
    return label.get_window_extent()


def _leader(axes: Axes, box: Bbox, place: tuple[float, float], colour: object) -> None:
    """A thin line from a label's box to its point, if they are apart."""
    x, y = axes.transData.transform(place)
    end = min(max(x, box.x0), box.x1), min(max(y, box.y0), box.y1)
    if math.dist(end, (x, y)) > 8:
        line = {"arrowstyle": "-", "color": colour, "lw": 0.5, "shrinkA": 0, "shrinkB": 3}
        corner = axes.transAxes.inverted().transform(end)
        axes.annotate("", place, tuple(corner), textcoords="axes fraction", arrowprops=line, zorder=1)
