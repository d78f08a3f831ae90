"""The figure of EquiDiff's grids: the loss by learning rate, and by cut-off."""

from pathlib import Path

from fibermodels.files import replace_file
from fibermodels.pictures import as_tensor, new_figure

Rows = dict[str, dict[str, float]]


def series(rows: Rows, kind: str, key: str) -> tuple[list[float], list[float]]:
    """The settings of a kind and an entry of each; rows with a third part in their names are no part of a series."""
    own = {
        name.split("-")[1]: row[key]
        for name, row in rows.items()
        if name.split("-")[0] == kind and name.count("-") == 1
    }
    return [float(name) for name in own], list(own.values())


def draw(optimisers: Rows, filters: Rows, path: Path) -> None:
    """Writes two panels: the loss of each optimiser over the rates, and the losses of each filter over its cut-offs, of
    the samples (lines) and of the samples below half of the frequencies (dashed)."""
    from torchvision.utils import save_image

    figure = new_figure(4, 2)
    left, right = figure.subplots(1, 2)
    for i, kind in enumerate(("sgd", "adam", "adagrad")):
        left.plot(*series(optimisers, kind, "loss"), "o-", color=f"C{i}", ms=3, lw=1, label=kind)
    left.axhline(optimisers["prior"]["loss"], color="grey", lw=0.8, ls=":", label="prior")
    left.set_xscale("log")
    left.set_xlabel("learning rate", fontsize=7)
    for i, kind in enumerate(("ideal", "gaussian", "butterworth")):
        right.plot(*series(filters, kind, "loss"), "o-", color=f"C{i}", ms=3, lw=1, label=kind)
        right.plot(*series(filters, kind, "loss_filtered"), "o--", color=f"C{i}", ms=3, lw=0.8)
    right.axhline(filters["none"]["loss"], color="grey", lw=0.8, label="no filter")
    right.axhline(filters["none"]["loss_filtered"], color="grey", lw=0.8, ls="--")
    right.set_xlabel("cut-off, shares of Nyquist (dashed: of low-passed samples)", fontsize=7)
    right.margins(y=0.25)
    left.legend(fontsize=6, loc="upper left", bbox_to_anchor=(0, 0.9))
    right.legend(fontsize=6)
    for axes in (left, right):
        axes.set_ylabel("sum of squares of probabilities", fontsize=7)
        axes.tick_params(labelsize=6)
    replace_file(path, lambda file: save_image(as_tensor(figure), file, format="png"))
