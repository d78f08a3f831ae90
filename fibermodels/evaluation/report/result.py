"""The report of one result."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fibermodels.core import FiberSamples
from fibermodels.evaluation.figures import read_grid
from fibermodels.evaluation.report import fibers, pictures
from fibermodels.evaluation.report.fibers import Fibers
from fibermodels.evaluation.report.histograms import histograms
from fibermodels.evaluation.report.meanings import GROUPS, Meaning, meaning
from fibermodels.evaluation.report.page import REPORT, render
from fibermodels.evaluation.rows import FLOOR, Row, consistency, fidelity, subject_of
from fibermodels.evaluation.tables import headings, text
from fibermodels.files import write_text

TARGETS, EXTREMES, MAPS = 16, 4, 8
"""Targets of each section: with their samples, worst and best ones, and with invariance maps."""

SAMPLES_SHARE, EXTREMES_SHARE, MAPS_SHARE, FILE_SHARE = 1_200_000, 300_000, 300_000, 400_000
"""Characters that the pictures of a section take: the extremes' share is taken twice, that of files for `ranks.png` and
for `samples.png`. All together are below 3 MB."""


def write_result_report(folder: str | Path, row: Row, samples: FiberSamples | None = None) -> Path:
    """Writes `report.html` into a result's folder.

    Args:
        folder: the folder, from whose pictures the report is made if there are no samples.
        row: the result's metrics.
        samples: its samples; None if they are not there any more.

    Returns:
        The file.
    """
    path = Path(folder) / REPORT
    write_text(path, result_page(Path(folder), row, samples))
    return path


def result_page(folder: Path, row: Row, samples: FiberSamples | None) -> str:
    """The report of a result as HTML; arguments as in `write_result_report`."""
    found = fibers.of_samples(samples) if samples else _of_picture(folder / "samples.png", row)
    first = range(min(TARGETS, len(found.x))) if found else range(0)
    worst, best = fibers.extremes(found.rms, EXTREMES) if found and found.rms is not None else ([], [])
    return render(
        "result.html",
        row=row,
        name=str(row.get("name", row["family"])),
        subject=subject_of(row),
        tiles=list(_tiles(row)),
        cell=pictures.side(*_shown_size(found)) if found else pictures.SMALLEST,
        shown=fibers.shown(found, first, SAMPLES_SHARE) if found else [],
        plotted=bool(found and found.plot),
        picture=None if found else _file(folder / "samples.png", "targets in the first row, samples below"),
        kept=samples is not None,
        worst=fibers.shown(found, worst, EXTREMES_SHARE) if found and worst else [],
        best=fibers.shown(found, best, EXTREMES_SHARE) if found and best else [],
        invariance=fibers.invariance(found, first[:MAPS], MAPS_SHARE) if found else None,
        groups=_groups(row),
        questions=GROUPS,
        histograms=histograms(samples) if samples else [],
        ranks=None if samples else _file(folder / "ranks.png", "histograms of ranks"),
        origin=list(_origin(row)),
    )


def _of_picture(path: Path, row: Row) -> Fibers | None:
    """The targets and samples in the picture of a result whose samples are not there any more."""
    sizes = row.get("num_targets"), row.get("samples_per_target")
    if not path.is_file() or not all(isinstance(size, int) for size in sizes):
        return None
    images = read_grid(path, *map(int, sizes))  # type: ignore[arg-type]
    return Fibers(*images) if images else None


def _shown_size(found: Fibers) -> tuple[int, int]:
    """Width and height of a shown target in pixels."""
    if found.plot:
        return pictures.LARGEST, pictures.LARGEST
    height, width = found.x.shape[-2:]
    scale = min(1.0, pictures.LARGEST / max(height, width))
    return math.ceil(scale * width), math.ceil(scale * height)


def _file(path: Path, label: str) -> pictures.Picture | None:
    return pictures.of_file(path, label, FILE_SHARE) if path.is_file() else None


@dataclass(frozen=True)
class Entry:
    """A metric of a result in words."""

    key: str
    title: str
    value: str
    floor: str
    meaning: Meaning


def entry(row: Row, key: str, title: str, means: Meaning) -> Entry:
    """A metric with its floor, the value of exact samples, if it is known."""
    floor = next((row[name] for name in (f"{key}{FLOOR}", f"{key}_truth") if name in row), None)
    own = "" if floor is None else text(key, float(floor))
    return Entry(key, title.removesuffix(" (floor)"), text(key, float(row[key])), own, means)


def _groups(row: Row) -> dict[str, list[Entry]]:
    """The known metrics of a result by group."""
    found: dict[str, list[Entry]] = {group: [] for group in GROUPS}
    for key, title in headings([row]).items():
        if means := meaning(key):
            found[means.group].append(entry(row, key, title, means))
    return {group: own for group, own in found.items() if own}


@dataclass(frozen=True)
class Tile:
    """A leading figure."""

    title: str
    value: str
    note: str


def _tiles(row: Row) -> Iterator[Tile]:
    """The leading figures: fidelity, consistency, calibration and cost."""
    found = {each.key: each for own in _groups(row).values() for each in own}

    def value(key: str, words: str = "{}") -> str:
        return words.format(found[key].value) if key in found else ""

    notes = {
        fidelity([row]): value("fiber_rms_shuffled", "to other targets {}") if fidelity([row]) == "fiber_rms" else "",
        consistency([row]): "",
        "rank_rejected": value("rank_scalars", "of {} histograms"),
        "network_calls_per_sample": "for one sample",
        "seconds_per_sample": str(row.get("device", "")),
    }
    for key, note in notes.items():
        if own := found.get(key):
            yield Tile(own.title, own.value, f"floor {own.floor}" if own.floor else note)


_ORIGIN = {
    "family": "model",
    "fiber_weight": "weight of the fiber loss, lambda",
    "dataset": "data",
    "split": "split",
    "subject_name": "subject",
    "subject": "fingerprint of the subject",
    "samples_per_target": "samples of each target",
    "seed": "seed",
    "device": "device of the evaluation",
    "processes": "processes of the evaluation",
    "training_device": "device of the training",
    "training_steps": "steps of the training",
    "untimed": "weights with an unknown time of training",
    "commit": "commit",
}
"""Where a result comes from, in words."""


def _origin(row: Row) -> Iterator[tuple[str, str]]:
    for key, words in _ORIGIN.items():
        if row.get(key, "") != "":
            value = row[key]
            yield words, value if isinstance(value, str) else f"{value:g}"
    for key, value in row.items():
        if key.startswith(("knob_", "model_")):
            yield key.replace("_", " ", 1), value if isinstance(value, str) else f"{value:g}"
