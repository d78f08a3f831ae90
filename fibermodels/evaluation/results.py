"""A result on disk.

`DIR/samples.safetensors` contains the samples, `DIR/samples.png` shows them below their targets, and `DIR/ranks.png`
shows their calibration. `DIR/metrics.json` contains the scores, which can be recomputed from the samples without the
model.
"""

import json
import math
import subprocess
from collections.abc import Sequence
from dataclasses import fields
from functools import partial
from pathlib import Path

from fibermodels.core import FiberSamples
from fibermodels.evaluation.calibration import rank_figure
from fibermodels.evaluation.figures import sample_grid
from fibermodels.evaluation.rows import Row, curve, several_subjects, strength, subject_of
from fibermodels.files import read_tensors, replace_file, save_tensors, write_text

Metrics = Row


def commit() -> str:
    """The commit of the code, with `+` if files other than results and pages were changed; `unknown` outside a
    checkout."""
    git = ["git", "-C", str(Path(__file__).parent)]
    try:
        head = subprocess.run([*git, "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, check=True)
        status = [*git, "status", "--porcelain", "-uno", "--", ":/", ":/!results", ":/!*.md"]
        changed = subprocess.run(status, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return head.stdout.strip() + ("+" if changed.stdout.strip() else "")


def save(folder: str | Path, samples: FiberSamples, values: Metrics) -> None:
    """Writes a result folder, the metrics last."""
    folder = Path(folder)
    save_tensors(
        {field.name: getattr(samples, field.name) for field in fields(samples)}, folder / "samples.safetensors"
    )
    replace_file(folder / "samples.png", partial(sample_grid, samples))
    replace_file(folder / "ranks.png", partial(rank_figure, samples))
    write_text(folder / "metrics.json", json.dumps(values, indent=2) + "\n")


def load_samples(folder: str | Path) -> FiberSamples:
    """Reads the samples of a result folder.

    Raises:
        FileNotFoundError: it has no stored samples.
    """
    file = Path(folder) / "samples.safetensors"
    if not file.is_file():
        raise FileNotFoundError(
            f"'{folder}': expected the folder of a result with its samples.safetensors, which evaluate writes, got "
            f"{'a folder without it' if Path(folder).is_dir() else 'no folder'}"
        )
    content, _ = read_tensors(file)
    return FiberSamples(**content)


COMPARISON = ("comparison.csv", "comparison.md", "comparison.png", "metamers.png", "report.html")
"""The files that a comparison writes."""


EVENTS = "tensorboard"
"""The folder of the events that `--tensorboard` writes, in that of a result or a comparison."""


def result_folders(paths: Sequence[str]) -> list[str]:
    """The paths without the files of an earlier comparison, so `--compare DIR/* --out DIR` can be repeated.

    All other paths stay: a mistyped folder, or a file that no comparison writes, is refused by who reads it.

    Raises:
        ValueError: nothing is left.
    """
    kept = [path for path in paths if not (_is_of_comparison(Path(path)) or _has_events(Path(path)))]
    if not kept:
        raise ValueError(f"expected folders of results, got only the files of a comparison: {list(paths)}")
    return kept


def _is_of_comparison(path: Path) -> bool:
    return path.name in COMPARISON and path.is_file()


def _has_events(path: Path) -> bool:
    return path.name == EVENTS and path.is_dir() and not (path / "metrics.json").exists()


def read_metrics(folder: str | Path) -> Row:
    """The metrics of a result folder.

    Raises:
        FileNotFoundError: the folder has no `metrics.json`, or is a file.
        ValueError: the metrics cannot be read.
    """
    file = Path(folder) / "metrics.json"
    if Path(folder).is_file():
        raise FileNotFoundError(f"no result in '{folder}', which is a file: expected a folder with a metrics.json")
    if not file.is_file():
        raise FileNotFoundError(f"no result in '{folder}': expected a metrics.json there")
    try:
        row = json.loads(file.read_text())
        row["family"], row["fiber_rms"]
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise ValueError(f"'{file}' is not a result: {error!r}") from error
    bad = sorted(key for key, value in row.items() if not _sound(key, value))
    if bad:
        raise ValueError(f"'{file}' is not a result: expected finite numbers, got {row[bad[0]]!r} for '{bad[0]}'")
    return row


def read_results(folders: Sequence[str | Path], across_subjects: bool = False) -> list[Row]:
    """The metrics of result folders, references first, each curve in the order of its lambdas.

    Arguments and errors are those of `located_results`.
    """
    return [row for _, row in located_results(folders, across_subjects)]


def located_results(folders: Sequence[str | Path], across_subjects: bool = False) -> list[tuple[Path, Row]]:
    """Result folders with their metrics, in the order of `read_results`.

    Args:
        folders: the results.
        across_subjects: whether results of several subjects are allowed. Their rows are grouped by subject, because
            distances between representations can only be compared within one subject.

    Raises:
        FileNotFoundError: a folder has no `metrics.json`.
        ValueError: metrics cannot be read, or results have different data or subjects and cannot be compared.
    """
    if len({Path(folder).resolve() for folder in folders}) < len(folders):
        raise ValueError(f"--compare: expected different folders, got {[str(folder) for folder in folders]}")
    located = [(folder, read_metrics(folder)) for folder in map(Path, folders)]
    rows = [row for _, row in located]
    found = sorted({str(row.get("dataset")) for row in rows})
    if len(found) > 1:
        raise ValueError(f"--compare: expected results on the same data, got {found}")
    splits = sorted({str(row.get("split", "test")) for row in rows})
    if len(splits) > 1:
        raise ValueError(f"--compare: expected results on the same split, got {splits}")
    if several_subjects(rows) and not across_subjects:
        raise ValueError(
            f"--compare: expected results of one subject, got {sorted({subject_of(row) for row in rows})}; "
            "--across_subjects true allows several"
        )
    subjects = sorted({subject_of(row) for row in rows}) if across_subjects else []

    def order(each: tuple[Path, Row]) -> tuple[int, int, str, float]:
        _, row = each
        group = subjects.index(subject_of(row)) if subjects else 0
        return group, _RANK.get(str(row["family"]), 9), curve(row), strength(row)

    return sorted(located, key=order)


def _sound(key: str, value: object) -> bool:
    """Whether an entry of a result is text, or a finite number where tables need one."""
    if isinstance(value, (int, float)):
        return math.isfinite(value)
    return isinstance(value, str) and key not in ("fiber_rms", "fiber_weight", "num_targets")


_RANK = {"Oracle": 0, "Reconstruction": 1, "NearestNeighbour": 2, "Augmented": 3, "RandomViews": 3, "DecodedNoise": 4}
"""References come first."""
