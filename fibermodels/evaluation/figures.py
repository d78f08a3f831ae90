"""Pictures and tables of results; nothing here samples or scores."""

import csv
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torchvision.utils import make_grid, save_image

from fibermodels.core import FiberSamples

Row = dict[str, float | int | str]

COLUMNS = {
    "name": "model",
    "fiber_weight": "lambda",
    "fiber_rms": "fiber RMS",
    "fiber_rms_shuffled": "shuffled",
    "colour_kl": "colour KL",
    "colour_kl_floor": "floor",
    "colour_w1": "colour W1",
    "contrast_error": "contrast error",
    "pairwise_distance": "diversity",
    "mean_reciprocal_rank": "MRR",
    "network_calls_per_sample": "calls",
    "seconds_per_sample": "s / sample",
    "num_parameters": "parameters",
    "training_seconds": "training, min",
}
"""The table's columns: the metric's name and its heading."""


def sample_grid(samples: FiberSamples, path: str | Path, targets: int = 16, rows: int = 8) -> None:
    """Targets in the first row, their samples below, a white line between: one column per target."""
    x, x_hat = samples.x[:targets], samples.x_hat[:rows, :targets]
    cells = torch.cat((x[None], x_hat)).flatten(0, 1)
    grid = make_grid(cells, nrow=len(x), padding=1, pad_value=1.0)
    line = x.shape[-2] + 1  # below the targets
    grid = torch.cat((grid[:, :line], torch.ones(3, 3, grid.shape[2]), grid[:, line:]), 1)
    save_image(torch.nn.functional.interpolate(grid[None], scale_factor=2), path)


def cells(rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    """Headings and lines of the table, as text; a metric that does not apply stays empty."""
    used = [key for key in COLUMNS if any(key in row for row in rows)]
    return [COLUMNS[key] for key in used], [[_cell(key, row.get(key, "")) for key in used] for row in rows]


def markdown_table(rows: Sequence[Row]) -> str:
    """The same as a Markdown table."""
    titles, lines = cells(rows)
    parts = [titles, ["---"] * len(titles), *lines]
    return "".join("| " + " | ".join(part) + " |\n" for part in parts)


def _cell(key: str, value: float | int | str) -> str:
    if isinstance(value, str):
        return value
    if key == "seconds_per_sample":
        return f"{value:.1e}"
    if key == "num_parameters":
        return f"{value / 1e6:.2f} M"
    if key == "training_seconds":
        return f"{value / 60:.0f}"
    if key in ("fiber_weight", "network_calls_per_sample"):
        return f"{value:g}"
    return f"{value:.3f}" if key in ("fiber_rms_shuffled", "mean_reciprocal_rank") else f"{value:.4f}"


def write_comparison(rows: Sequence[Row], out: str | Path) -> None:
    """Writes `comparison.csv`, `comparison.md` and `comparison.png` of several results into `out`."""
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    names = list(dict.fromkeys(key for row in rows for key in row))
    with (out / "comparison.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, names, restval="")
        writer.writeheader()
        writer.writerows(rows)
    (out / "comparison.md").write_text(markdown_table(rows))
    _plot(rows, out / "comparison.png")


def curve(row: Row) -> str:
    """A result's name without its lambda."""
    return re.sub(r"-lambda[\d.]+", "", str(row.get("name", row["family"])))


def _plot(rows: Sequence[Row], path: Path) -> None:
    """Fidelity against consistency: one point per result, one line for all lambdas of a model."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    other = "colour_kl" if any("colour_kl" in row for row in rows) else "fid"
    figure, axes = plt.subplots(figsize=(10, 6), layout="constrained")
    small: dict[str, Any] = {"textcoords": "offset points", "fontsize": 8}
    palette = plt.get_cmap("tab20").colors  # type: ignore[attr-defined]
    side = ({**small, "ha": "left"}, {**small, "ha": "right"})  # neighbours' labels keep out of each other's way
    curves = list(dict.fromkeys(curve(row) for row in rows))
    for i, (label, marker) in enumerate(zip(curves, "o*sDv^<>PXhd" * 9, strict=False)):
        own = [row for row in rows if curve(row) == label and other in row]
        points = [(float(row["fiber_rms"]), float(row[other])) for row in own]
        if not points:
            continue
        axes.plot(*zip(*points, strict=True), marker=marker, markersize=7, color=palette[i % 20], label=label)
        for row, point in zip(own, points, strict=True):
            if float(row["fiber_weight"]) or len(own) > 1:
                axes.annotate(f"λ {row['fiber_weight']:g}", point, (8 - 16 * (i % 2), -3), **side[i % 2])
    axes.set_xlim(-0.002, 1.4 * max(float(row["fiber_rms"]) for row in rows) + 0.002)
    floors = [float(row[f"{other}_floor"]) for row in rows if f"{other}_floor" in row]
    if floors:
        axes.axhline(min(floors), color="grey", linestyle=":", label="floor: exact samples")
    axes.set_xscale("symlog", linthresh=0.02)
    axes.set_yscale("log")
    axes.set_xlabel("fidelity: fiber RMS (lower is better)")
    axes.set_ylabel(f"consistency: {other.replace('_', ' ')} (lower is better)")
    figure.legend(fontsize=8, loc="outside right upper")
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=120)
    plt.close(figure)
