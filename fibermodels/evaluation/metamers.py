"""The figure of metamers: samples that please the subject, and nobody else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from fibermodels.evaluation.panels import apart, canvas, draw_curves, looks_of, named_curves
from fibermodels.evaluation.rows import Row, titles, worlds

if TYPE_CHECKING:
    from matplotlib.figure import Figure

OWN, UNSEEN = "top1_match", "unseen_match_mean"
"""Agreement of the subject's own classifier, and of judges that took no part."""


def plot_metamers(rows: Sequence[Row], words: Mapping[str, str] | None = None, named: Sequence[str] = ()) -> Figure:
    """Plots how often judges that took no part recognise the samples, against the subject's own classifier.

    Each panel has one data set and subject. Samples that please the subject alone are its metamers (Feather et al.,
    2023): they lie on the right, below the others.
    """
    panels = worlds(rows)
    chosen = {key: named_curves(own, named) for key, own in panels.items()}
    figure, grid = canvas(len(panels))
    looks = looks_of([own for each in chosen.values() for own in each])
    drawn = []
    for axes, (key, own), title in zip(grid, panels.items(), titles(rows, words or {}).values(), strict=True):
        labels = draw_curves(axes, own, lambda row: (float(row[OWN]), float(row[UNSEEN])), looks, chosen[key])
        axes.plot([0, 1], [0, 1], color="0.4", lw=0.8, ls=":", zorder=1, transform=axes.transAxes)
        axes.set(xlim=(-0.05, 1.05), ylim=(-0.05, 1.05))
        axes.tick_params(labelsize=8)
        axes.grid(alpha=0.25, lw=0.5)
        axes.set_title(title if len(panels) > 1 else "", fontsize=10)
        drawn.append((axes, labels))
    figure.supxlabel("share of samples that the subject's own classifier gives the class of their target", fontsize=9)
    figure.supylabel("the same by classifiers that took no part, mean", fontsize=9)
    apart(figure, drawn)
    return figure
