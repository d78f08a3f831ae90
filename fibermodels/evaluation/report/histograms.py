"""Histograms of ranks as bars of a page."""

from dataclasses import dataclass

from fibermodels.core import FiberSamples
from fibermodels.evaluation.calibration import LEVEL, rank_histograms

WIDTH, HEIGHT = 220, 96
"""Of a histogram, in its own pixels."""


@dataclass(frozen=True)
class Bar:
    """One bar: its place, its size and what it says."""

    x: float
    y: float
    width: float
    height: float
    label: str


@dataclass(frozen=True)
class Histogram:
    """The ranks of one scalar."""

    name: str
    pvalue: str
    rejected: bool
    bars: list[Bar]
    band: tuple[float, float]
    """Top and height of the band that contains 99 % of a right model's bars."""


def histograms(samples: FiberSamples) -> list[Histogram]:
    """The histograms of `ranks.png`."""
    found, (low, high) = rank_histograms(samples)
    drawn = []
    for own in found:
        scale = HEIGHT / max(*own.counts, 1.15 * high)
        step = WIDTH / len(own.counts)
        bars = [
            Bar(
                round(step * (i + 0.06), 2),
                round(HEIGHT - scale * count, 2),
                round(0.88 * step, 2),
                round(scale * count, 2),
                f"rank {i}: {count} targets",
            )
            for i, count in enumerate(own.counts)
        ]
        band = round(HEIGHT - scale * high, 2), round(scale * (high - low), 2)
        drawn.append(Histogram(own.name, f"{own.pvalue:.2g}", own.pvalue < LEVEL, bars, band))
    return drawn
