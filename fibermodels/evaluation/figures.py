"""Figures and tables of results."""

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torchvision.utils import make_grid, save_image

from fibermodels.core import FiberSamples

Row = dict[str, float | int | str]

COLUMNS = {
    "name": "model",
    "subject_name": "subject",
    "fiber_weight": "lambda",
    "fiber_rms": "fiber RMS",
    "fiber_rms_shuffled": "shuffled",
    "cosine": "cosine",
    "cosine_per_location": "cosine per location",
    "top1_match": "top-1",
    "top5_match": "top-5",
    "decision_match": "decisions",
    "top1_accuracy": "accuracy",
    "top1_accuracy_targets": "of targets",
    "shape_preference": "shape preference",
    "fid": "FID",
    "sfid": "sFID",
    "kid": "KID",
    "colour_kl": "colour KL",
    "colour_kl_floor": "floor",
    "colour_w1": "colour W1",
    "contrast_error": "contrast error",
    "pixel_error": "pixel error",
    "pairwise_distance": "diversity",
    "mean_reciprocal_rank": "MRR",
    "num_targets": "targets",
    "network_calls_per_sample": "calls",
    "seconds_per_sample": "s / sample",
    "num_parameters": "parameters",
    "training_seconds": "training, min",
}
"""The table's columns: the metric's name and its heading."""

JUDGED = ("top1_match", "top5_match", "decision_match", "fid", "sfid", "kid")
"""Columns that are repeated for each judge with its name: `top1_match_NAME`, `fid_NAME`."""

FLOORED = ("fid", "sfid", "kid")
"""Columns of judges that have a floor."""

LAW_UNKNOWN = ("cosine", "cosine_per_location", "num_targets")
"""Columns that are shown only if the law of the data is unknown."""


def sample_grid(samples: FiberSamples, path: str | Path, targets: int = 16, rows: int = 8) -> None:
    """Writes a picture with one column per target: the target in the first row, and its samples below a white line."""
    x, x_hat = samples.x[:targets], samples.x_hat[:rows, :targets]
    cells = torch.cat((x[None], x_hat)).flatten(0, 1)
    grid = make_grid(cells, nrow=len(x), padding=1, pad_value=1.0)
    line = x.shape[-2] + 1  # below the targets
    grid = torch.cat((grid[:, :line], torch.ones(3, 3, grid.shape[2]), grid[:, line:]), 1)
    save_image(torch.nn.functional.interpolate(grid[None], scale_factor=2), path)


def columns(rows: Sequence[Row]) -> dict[str, str]:
    """The columns that at least one row fills, with their headings."""
    found = set().union(*rows)
    hidden = set() if several_subjects(rows) else {"subject_name"}
    if "colour_kl" in found:
        hidden |= set(LAW_UNKNOWN)
    own: dict[str, str] = {}
    for key, heading in COLUMNS.items():
        if key not in hidden:
            own[key] = heading
        if key in JUDGED:
            own |= {f"{key}_{name}": f"{heading} ({name})" for name in judges(key, found)}
    with_floors = {}
    for key, heading in own.items():
        with_floors[key] = heading
        if key.split("_")[0] in FLOORED:
            with_floors[f"{key}_floor"] = "floor"
    return {key: heading for key, heading in with_floors.items() if key in found}


def judges(metric: str, keys: Iterable[str]) -> list[str]:
    """The names of judges that scored a metric, from the keys of results."""
    endings = ("_floor", "_std", "_targets")
    own = (key.removeprefix(f"{metric}_") for key in keys if key.startswith(f"{metric}_"))
    return sorted(name for name in own if not f"_{name}".endswith(endings))


def several_subjects(rows: Sequence[Row]) -> bool:
    """Whether the results have different subjects, that is different weights or layers."""
    weights = {row.get("subject") for row in rows}
    names = {row["subject_name"] for row in rows if "subject_name" in row}
    return len(weights) > 1 or len(names) > 1


def subject_of(row: Row) -> str:
    """The subject of a result: its name and the first digits of its fingerprint."""
    return f"{row.get('subject_name', '')} {str(row.get('subject'))[:4]}".strip()


def cells(rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    """Headings and rows of the table, as text; a metric that does not apply is empty."""
    used = columns(rows)
    return list(used.values()), [[_cell(row, key) for key in used] for row in rows]


def markdown_table(rows: Sequence[Row]) -> str:
    """The table in Markdown."""
    titles, lines = cells(rows)
    parts = [titles, ["---"] * len(titles), *lines]
    return "".join("| " + " | ".join(part) + " |\n" for part in parts)


def _cell(row: Row, key: str) -> str:
    value = subject_of(row) if key == "subject_name" else row.get(key, "")
    if isinstance(value, str):
        return value
    if key == "seconds_per_sample":
        return f"{value:.1e}"
    if key == "num_parameters":
        return f"{value / 1e6:.2f} M"
    if key == "training_seconds":
        return f"{value / 60:.0f}"
    if key in ("fiber_weight", "network_calls_per_sample", "num_targets"):
        return f"{value:g}"
    if key.startswith(("top", "decision", "shape")):
        return f"{100 * value:.1f} %"
    return f"{value:.3f}" if key in THREE_DIGITS or key.startswith(("fid", "sfid")) else f"{value:.4f}"


THREE_DIGITS = ("fiber_rms_shuffled", "mean_reciprocal_rank", "cosine", "cosine_per_location")


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


SYMBOLS = {"lambda": "λ", "gamma": "γ", "scale": "ζ", "steps": "k ="}
"""Labels of settings in figures."""


def curve(row: Row) -> str:
    """The curve of a result in figures: the `series` in its metrics, else its own name."""
    return str(row.get("series", row.get("name", row["family"])))


def knobs(row: Row) -> dict[str, float]:
    """The settings that distinguish a result from others of its curve: its metrics `knob_*`, else lambda."""
    own = {key.removeprefix("knob_"): float(value) for key, value in row.items() if key.startswith("knob_")}
    return own or {"lambda": float(row["fiber_weight"])}


def _plot(rows: Sequence[Row], path: Path) -> None:
    """Plots fidelity against consistency and against cost: one point per result, one line per curve.

    Representations of different subjects have no common unit; fidelity is then `1 - cosine`.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    across = several_subjects(rows)
    other = _consistency(rows)
    floors = [float(row[f"{other}_floor"]) for row in rows if f"{other}_floor" in row]
    excess = bool(floors) and max(floors) > 1.1 * min(floors)  # sample sizes differ, so floors differ
    curves = list(dict.fromkeys(_curve(row, across) for row in rows))
    size = (16, max(6.5, 0.21 * len(curves)))  # one line of the legend for each
    figure, (plane, cost) = plt.subplots(1, 2, figsize=size, layout="constrained", sharex=True)
    small: dict[str, Any] = {"textcoords": "offset points", "fontsize": 8}
    palette = plt.get_cmap("tab20").colors  # type: ignore[attr-defined]
    side = ({**small, "ha": "left"}, {**small, "ha": "right"})  # labels of neighbours must not overlap
    for i, (label, marker) in enumerate(zip(curves, "o*sDv^<>PXhd" * 9, strict=False)):
        own = [row for row in rows if _curve(row, across) == label and other in row]
        style: dict[str, Any] = {"marker": marker, "markersize": 7, "color": palette[i % 20]}
        for axes, values in (
            (plane, [_height(row, other, excess) for row in own]),
            (cost, [max(float(row.get("seconds_per_sample", 0)), 1e-7) for row in own]),
        ):
            points = [(_distance(row, across), value) for row, value in zip(own, values, strict=True)]
            if not points:
                continue
            axes.plot(*zip(*points, strict=True), **style, label=label if axes is plane else None)
            for row, point in zip(own, points, strict=True):
                if axes is plane and len(own) > 1:
                    axes.annotate(_knob(row), point, (8 - 16 * (i % 2), -3), **side[i % 2])
    if floors and not excess:
        plane.axhline(min(floors), color="grey", linestyle=":", label="floor: exact samples")
    plane.set_xscale("symlog", linthresh=0.02)
    plane.set_xlim(-0.002, 1.4 * max(_distance(row, across) for row in rows) + 0.002)
    plane.set_ylabel(f"consistency: {other.replace('_', ' ')}{' above its floor' if excess else ''} (lower is better)")
    cost.set_ylabel("cost: seconds per sample")
    for axes in (plane, cost):
        axes.set_xlabel(f"fidelity: {'1 - cosine' if across else 'fiber RMS'} (lower is better)")
        axes.set_yscale("log")
        axes.grid(alpha=0.3)
    figure.legend(fontsize=8, loc="outside right upper")
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _consistency(rows: Sequence[Row]) -> str:
    """The metric of consistency in figures: the KL of colours, else the published FID, else another FID."""
    found = set().union(*rows)
    others = [f"fid_{name}" for name in judges("fid", found)]
    known = [key for key in ("colour_kl", "fid") if key in found]
    return (known + sorted(others, key=lambda key: -sum(key in row for row in rows)) + ["fid"])[0]


def _curve(row: Row, across: bool) -> str:
    return f"{curve(row)}, {subject_of(row)}" if across else curve(row)


def _distance(row: Row, across: bool) -> float:
    return 1 - float(row["cosine"]) if across else float(row["fiber_rms"])


def _height(row: Row, metric: str, excess: bool) -> float:
    """The metric, or its excess over the floor; at least 0.001, because the axis is logarithmic."""
    value = float(row[metric])
    return max(value - float(row.get(f"{metric}_floor", 0)), 1e-3) if excess else value


def strength(row: Row) -> float:
    """The value of the first setting: the position of a result on its curve."""
    return next(iter(knobs(row).values()))


def _knob(row: Row) -> str:
    return ", ".join(f"{SYMBOLS.get(name, name)} {value:g}" for name, value in knobs(row).items())
