"""Two figures of the rehearsal on real images: agreement at every stage of a network, and quality against minutes."""

import json
from collections.abc import Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

from runner import scored

TICKS = (3, 10, 30, 100, 300)
"""Of minutes."""

COLOURS = ("black", "tab:blue", "tab:orange", "tab:green", "tab:red", "tab:purple")


def metrics(folder: Path) -> dict[str, Any]:
    """The metrics of a result; empty if it does not exist."""
    return json.loads((folder / "metrics.json").read_text()) if scored(folder) else {}


def plot_stages(results: Path, stages: Mapping[str, str], methods: Mapping[str, Mapping[str, str]], out: Path) -> None:
    """Draws who recognises the samples from every stage: the subject's own classifier, and networks that took no part.

    Where both agree, samples look like their target to any network. Where only the subject agrees, they are its
    metamers (Feather et al., 2023).

    Args:
        results: the folder of the results.
        stages: a cut and its title, from the first to the last.
        methods: a title, and the name of its result at each cut; those that are missing are left out.
        out: the picture.
    """
    from matplotlib.figure import Figure

    columns = {
        "top1_match": "the subject's own classifier",
        "unseen_match_mean": "networks that took no part, mean",
        "unseen_match_min": "the one of them that agrees least",
    }
    figure = Figure(figsize=(11, 4), layout="constrained")
    for axes, (column, title) in zip(figure.subplots(1, 3, sharey=True), columns.items(), strict=True):
        for colour, (name, rows) in zip(COLOURS, methods.items(), strict=False):
            found = {i: metrics(results / rows[cut]).get(column) for i, cut in enumerate(stages) if cut in rows}
            shown = {i: 100 * value for i, value in found.items() if value is not None}
            axes.plot(list(shown), list(shown.values()), "o-", color=colour, label=name, lw=1.5, ms=5)
        axes.set_xticks(range(len(stages)), list(stages.values()), fontsize=8)
        axes.set(title=title, ylim=(0, 103))
        axes.title.set_fontsize(10)
        axes.grid(alpha=0.25, lw=0.5)
    figure.axes[0].set_ylabel("samples that get the class of their target (%)")
    figure.axes[0].legend(fontsize=8, loc="lower left")
    figure.supxlabel("layer of ResNet-20 whose fibers are sampled", fontsize=10)
    figure.savefig(out, dpi=110)


def plot_minutes(results: Path, curves: Mapping[str, Sequence[str]], levels: Mapping[str, str], out: Path) -> None:
    """Draws quality against the minutes of training.

    Args:
        results: the folder of the results.
        curves: a title and the names of its results, each of which starts from the one before; those that are missing
            are left out.
        levels: a title and the name of a result without training, drawn as a dotted line.
        out: the picture.
    """
    from matplotlib.figure import Figure

    columns = {
        "cosine": "cosine (higher is better)",
        "unseen_match_mean": "agreement of networks that took no part (higher is better)",
        "fid_resnet56": "Frechet distance by ResNet-56 (lower is better)",
    }
    figure = Figure(figsize=(12, 4), layout="constrained")
    for axes, (column, title) in zip(figure.subplots(1, 3), columns.items(), strict=True):
        for colour, (name, rows) in zip(COLOURS[1:], curves.items(), strict=False):
            found = [each for row in rows if (each := metrics(results / row))]
            minutes = accumulate(each["training_seconds"] / 60 for each in found)
            points = [(spent, each[column]) for spent, each in zip(minutes, found, strict=True) if column in each]
            if points:
                axes.plot(*zip(*points, strict=True), "o-", color=colour, label=name, lw=1.5, ms=5)
        for style, (name, row) in zip((":", "--", "-."), levels.items(), strict=False):
            if column in (own := metrics(results / row)):
                axes.axhline(own[column], color="black", ls=style, lw=1, label=name)
        axes.set(title=title, xscale="log", xlim=(3, 400), xlabel="minutes of training on a CPU")
        axes.set_xticks(TICKS, [str(minutes) for minutes in TICKS])
        axes.minorticks_off()
        if column.startswith("fid"):
            axes.set_yscale("log")
            axes.minorticks_off()
        axes.title.set_fontsize(10)
        axes.grid(alpha=0.25, lw=0.5)
    figure.legend(*figure.axes[0].get_legend_handles_labels(), fontsize=8, ncols=3, loc="outside lower center")
    figure.savefig(out, dpi=110)
