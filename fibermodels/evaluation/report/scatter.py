"""The plot of fidelity against consistency as points of a page."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from fibermodels.evaluation.figures import NEAR, consistency_in_words, floors_differ, linear_below
from fibermodels.evaluation.report.meanings import meaning
from fibermodels.evaluation.rows import (
    FLOOR,
    Row,
    consistency,
    curves,
    distance,
    excess,
    fidelity,
    leading,
    short_names,
    titles,
    worlds,
)
from fibermodels.evaluation.tables import headings, text

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 640, 430, 64, 16, 16, 34
"""Size of a panel, and the room around its frame, in its own pixels."""

COLOURS = 8
"""Families with a colour of their own; the others are grey."""

LETTER, LINE = 7.2, 14
"""About the width of a letter and the height of a line of a label."""


class Tick(NamedTuple):
    """A labelled line of the grid."""

    at: float
    label: str


@dataclass(frozen=True)
class Point:
    """A result in the plot."""

    index: int
    """Its number among the rows."""
    x: float
    y: float
    colour: str
    name: str
    words: str
    """What the page shows while the pointer is on it."""


@dataclass(frozen=True)
class Label:
    """A name beside its point."""

    x: float
    y: float
    anchor: str
    name: str


@dataclass(frozen=True)
class Panel:
    """The results of one data set and subject."""

    title: str
    points: list[Point]
    joins: list[tuple[str, str]]
    """The lines of curves: colour, and points of the line."""
    labels: list[Label]
    across: list[Tick]
    up: list[Tick]
    floor: float | None


@dataclass(frozen=True)
class Plot:
    """All panels, and what their axes and colours mean."""

    panels: list[Panel]
    near: str
    """What lies across, in words."""
    like: str
    """What lies up, in words."""
    across: str
    up: str
    """The same as the headings of the table."""
    legend: list[tuple[str, str]]
    """Colour and family."""


def plot(rows: Sequence[Row]) -> Plot | None:
    """Places every result by its metrics of fidelity and consistency, as `comparison.png` does; None if no result has a
    metric of consistency."""
    near, like = fidelity(rows), consistency(rows)
    scored = [row for row in rows if like in row]
    if not scored:
        return None
    found = worlds(scored)
    above = any(floors_differ(own, like) for own in found.values())
    families = list(dict.fromkeys(str(row["family"]) for row in (*leading(scored, 12), *scored)))
    colours = {family: f"--c{i}" if i < COLOURS else "--rest" for i, family in enumerate(families)}
    numbers = {id(row): i for i, row in enumerate(rows)}
    names = dict(zip(numbers.values(), short_names(rows), strict=True))
    named = titles(scored, {}) if len(found) > 1 else {}
    frame = _Frame(near, like, above, colours, numbers, names)
    panels = [frame.panel(own, named.get(key, "")) for key, own in found.items()]
    legend = [(colours[family], family) for family in families[:COLOURS]]
    legend += [("--rest", "other families")] if len(families) > COLOURS else []
    excessive = ", above its floor" * above
    heads = {key: title.removesuffix(" (floor)") for key, title in headings(scored).items()}
    across = "1 - cosine" if near == "cosine" else heads[near]
    return Plot(panels, NEAR[near], consistency_in_words(like) + excessive, across, heads[like] + excessive, legend)


@dataclass(frozen=True)
class _Frame:
    """What all panels share."""

    near: str
    like: str
    above: bool
    colours: dict[str, str]
    numbers: dict[int, int]
    names: dict[int, str]

    def panel(self, rows: Sequence[Row], title: str) -> Panel:
        floors = [float(row[self.like + FLOOR]) for row in rows if self.like + FLOOR in row]
        level = (0.0 if self.above else min(floors)) if floors else None
        places = {id(row): (distance(row, self.near), self._height(row)) for row in rows}
        xs, ys = zip(*places.values(), strict=True)
        across = _Axis(xs, linear_below(xs, 0.0), LEFT, WIDTH - RIGHT)
        up = _Axis([*ys, *([] if level is None else [level])], linear_below(ys, level or 0.0), HEIGHT - BOTTOM, TOP)
        points = [self._point(row, across.place(places[id(row)][0]), up.place(places[id(row)][1])) for row in rows]
        by_row = {id(row): point for row, point in zip(rows, points, strict=True)}
        joins = [
            (by_row[id(own[0])].colour, " ".join(f"{by_row[id(row)].x},{by_row[id(row)].y}" for row in own))
            for own in curves(rows)
            if len(own) > 1
        ]
        first = [by_row[id(row)] for row in leading(rows, 12)]
        floor = None if level is None else up.place(level)
        return Panel(title, points, joins, list(_labels(first, points)), across.ticks(), up.ticks(), floor)

    def _height(self, row: Row) -> float:
        return excess(row, self.like) if self.above else float(row[self.like])

    def _point(self, row: Row, x: float, y: float) -> Point:
        number = self.numbers[id(row)]
        shown = headings([row])
        values = [
            f"{shown[key].removesuffix(' (floor)')} {text(key, float(row[key]))}"
            for key in (self.near, self.like)
            if meaning(key)
        ]
        words = f"{row.get('name', row['family'])}: {', '.join(values)}"
        return Point(number, x, y, self.colours[str(row["family"])], self.names[number], words)


class _Axis:
    """An axis with some room at its ends: linear, or logarithmic above `start` and linear below."""

    def __init__(self, values: Sequence[float], start: float | None, first: float, last: float) -> None:
        self.start, self.first, self.last = start, first, last
        low, high = self._scaled(min(values)), self._scaled(max(values))
        room = 0.08 * (high - low) or 0.1 * abs(high) or 1.0
        self.low, self.high = low - room, high + room

    def _scaled(self, value: float) -> float:
        if self.start is None:
            return value
        size = abs(value) / self.start
        return math.copysign(0.4 * size if size < 1 else 0.4 + math.log10(size), value)

    def place(self, value: float) -> float:
        """Where a value is, in pixels of the panel."""
        share = (self._scaled(value) - self.low) / (self.high - self.low)
        return round(self.first + share * (self.last - self.first), 1)

    def ticks(self) -> list[Tick]:
        """About five round numbers, and 1, 2 and 5 times powers of ten if the axis is logarithmic."""
        values = self._linear() if self.start is None else self._powers(self.start)
        return [
            Tick(self.place(value), f"{value:g}") for value in values if self.low <= self._scaled(value) <= self.high
        ]

    def _linear(self) -> list[float]:
        rough = (self.high - self.low) / 5
        power = 10 ** math.floor(math.log10(rough))
        step = next(power * each for each in (1, 2, 5, 10) if power * each >= rough)
        values = [round(i * step, 12) for i in range(math.ceil(self.low / step), math.floor(self.high / step) + 1)]
        return [value for value in values if value >= 0 or self.low < -step]

    def _powers(self, start: float) -> list[float]:
        decades = self.high - 0.4
        digits = (1, 2, 5) if decades < 2.2 else (1,)
        exponent = round(math.log10(start))
        powers = range(exponent, exponent + math.ceil(decades) + 1)
        return [0.0, *(float(f"{digit}e{power}") for power in powers for digit in digits)]


def _labels(named: Sequence[Point], points: Sequence[Point]) -> Iterator[Label]:
    """Names beside their points, where neither another name nor a point is in the way; the others have none."""
    taken = [(point.x - 5, point.y - 5, point.x + 5, point.y + 5) for point in points]
    for point in named:
        width = LETTER * len(point.name)
        for anchor, dx, dy in (("start", 9, 4), ("end", -9, 4), ("middle", 0, -10), ("middle", 0, 18)):
            x, y = round(point.x + dx, 1), round(point.y + dy, 1)
            left = x - {"start": 0.0, "middle": width / 2, "end": width}[anchor]
            box = left, y - LINE + 3, left + width, y + 3
            inside = box[0] > LEFT and box[2] < WIDTH - RIGHT and box[1] > TOP and box[3] < HEIGHT - BOTTOM
            if inside and not any(_overlap(box, other) for other in taken):
                taken.append(box)
                yield Label(x, y, anchor, point.name)
                break


def _overlap(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
