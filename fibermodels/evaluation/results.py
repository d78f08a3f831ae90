"""A result on disk: what was drawn, what it is worth, and where it comes from.

`DIR/samples.safetensors` holds the samples, `DIR/samples.png` shows targets beside them,
`DIR/metrics.json` has the scores; they can be computed again from the samples without the model.
"""

import json
import subprocess
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

from safetensors.torch import load_file, save_file

from fibermodels.core import FiberSamples
from fibermodels.evaluation.figures import Row, curve, sample_grid, several_subjects, strength, subject_of

Metrics = Row


def commit() -> str:
    """The commit of the code, with `+` where files differ from it, results and pages made of them aside;
    `unknown` outside a checkout."""
    git = ["git", "-C", str(Path(__file__).parent)]
    try:
        head = subprocess.run([*git, "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, check=True)
        status = [*git, "status", "--porcelain", "-uno", "--", ":/", ":/!results", ":/!*.md"]
        changed = subprocess.run(status, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return head.stdout.strip() + ("+" if changed.stdout.strip() else "")


def save(folder: str | Path, samples: FiberSamples, values: Metrics) -> None:
    """Writes a result folder."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {field.name: getattr(samples, field.name).contiguous() for field in fields(samples)}
    save_file(tensors, folder / "samples.safetensors")
    sample_grid(samples, folder / "samples.png")
    (folder / "metrics.json").write_text(json.dumps(values, indent=2) + "\n")


def load_samples(folder: str | Path) -> FiberSamples:
    """Reads the samples of a result folder."""
    return FiberSamples(**load_file(Path(folder) / "samples.safetensors"))


def read_results(folders: Sequence[str | Path], across_subjects: bool = False) -> list[Row]:
    """The metrics of result folders, references first, every curve in the order of its lambdas.

    Args:
        folders: the results.
        across_subjects: they may be of different subjects, whose rows then stand together; each says its own, since
            distances between representations compare within a subject alone.

    Raises:
        FileNotFoundError: a folder without `metrics.json`.
        ValueError: unreadable metrics, or results of different subjects or data: their figures do
            not compare.
    """
    rows: list[Row] = []
    for folder in map(Path, folders):
        file = folder / "metrics.json"
        if not file.is_file():
            raise FileNotFoundError(f"no result in '{folder}': expected a metrics.json there")
        try:
            row = json.loads(file.read_text())
            row["family"], row["fiber_rms"]
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise ValueError(f"'{file}' is not a result: {error!r}") from error
        rows.append(row)
    found = sorted({str(row.get("dataset")) for row in rows})
    if len(found) > 1:
        raise ValueError(f"these results have different datasets, {found}: their figures do not compare")
    if several_subjects(rows) and not across_subjects:
        raise ValueError(
            f"these results have different subjects, {sorted({subject_of(row) for row in rows})}: their figures do not "
            "compare (--across_subjects true compares what does)"
        )
    subjects = sorted({subject_of(row) for row in rows}) if across_subjects else []

    def order(row: Row) -> tuple[int, int, str, float]:
        group = subjects.index(subject_of(row)) if subjects else 0
        return group, _RANK.get(str(row["family"]), 9), curve(row), strength(row)

    return sorted(rows, key=order)


_RANK = {"Oracle": 0, "Reconstruction": 1, "NearestNeighbour": 2, "Augmented": 3, "RandomViews": 3, "DecodedNoise": 4}
"""References come first."""
