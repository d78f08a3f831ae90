"""Common functions of the benchmarks: they run the project's scripts, skip finished work, and write tables."""

import csv
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path

from PIL import Image
from rich.console import Console
from rich.table import Table

RUNS = Path("runs")


def call(*arguments: object) -> None:
    """Runs one of the project's scripts, which may import the networks in `examples`.

    Raises:
        subprocess.CalledProcessError: the script failed.
    """
    command = [sys.executable, *map(str, arguments)]
    print("$ python " + " ".join(command[1:]), flush=True)
    subprocess.run(command, check=True, env={**os.environ, "FIBERMODELS_IMPORTS": "examples"})


@dataclass(frozen=True)
class Row:
    """One result: a config with some changed keys.

    Args:
        name: name of the result's folder.
        config: the config's name; empty for a trained run.
        series: the curve of the result; empty for a result without a curve.
        knobs: settings that distinguish the result from others of its curve, by name.
        changes: keys of the model's arguments, such as `sampler.init_args.steps`, and their values.
        targets: number of test images whose fibers are sampled.
        samples: samples per target.
        seed: seed of the samples.
    """

    name: str
    config: str = ""
    series: str = ""
    knobs: Mapping[str, float] = field(default_factory=dict)
    changes: Mapping[str, object] = field(default_factory=dict)
    targets: int = 1000
    samples: int = 1
    seed: int = 0

    def options(self, scale: float = 1.0) -> list[object]:
        """The options of `evaluate.py` for this result, with a share of the targets."""
        size = ["--num_targets", max(2, int(scale * self.targets)), "--samples_per_target", self.samples]
        curve = ["--series", self.series] if self.series else []
        knobs = [part for key, value in self.knobs.items() for part in (f"--knobs.{key}", value)]
        return ["--name", self.name, *size, "--seed", self.seed, *curve, *knobs]


def wanted(name: str, only: Sequence[str] | None) -> bool:
    """Whether a name matches one of the patterns (`flow_map*`); without patterns, every name does."""
    return not only or any(fnmatch(name, pattern) for pattern in only)


def scored(folder: Path) -> bool:
    """Whether a result exists."""
    return (folder / "metrics.json").exists()


def shrink(path: Path) -> None:
    """Keeps 256 colours of a picture, so that it is a small file."""
    with Image.open(path) as file:
        small = file.convert("RGB").quantize(256)
    small.save(path, optimize=True)


def score(row: Row, configs: Path, results: Path, *options: object, scale: float = 1.0) -> None:
    """Samples and scores a model that needs no training."""
    changes = [part for key, value in row.changes.items() for part in (f"--model.init_args.{key}", value)]
    model = ("--model", configs / f"{row.config}.yaml", *changes)
    call("evaluate.py", *model, *row.options(scale), *options, "--out", results / row.name)


def score_run(row: Row, checkpoint: Path, results: Path, *options: object) -> None:
    """Samples and scores a trained model."""
    call("evaluate.py", "--checkpoint", checkpoint, *row.options(), *options, "--out", results / row.name)


def train(config: Path, name: str, *options: object) -> Path:
    """Trains one model, unless it is finished, and returns its last checkpoint."""
    folder = RUNS / name
    last = folder / "checkpoints" / "last.ckpt"
    if not (folder / "done").exists():
        resume = ["--ckpt_path", "last"] if last.exists() else ["--overwrite", "true"]
        call("train.py", "--config", config, "--name", name, *options, *resume)
        (folder / "done").touch()
    return last


def publish(checkpoint: Path, out: Path, *options: object) -> None:
    """Exports the weights of a checkpoint, if the file is missing."""
    if not out.with_suffix(".safetensors").exists():
        call("export.py", "--checkpoint", checkpoint, "--out", out, "--frozen", "false", *options)


def compare(
    folders: Iterable[Path],
    out: Path,
    words: Mapping[str, str] | None = None,
    named: Sequence[str] = (),
    across_subjects: bool = False,
) -> None:
    """Writes the table and the figure of all results that exist.

    Args:
        folders: the results.
        out: folder of the comparison.
        words: parts of subjects' names, and what the table and the figure show instead.
        named: the curves that the figure names; by default the leading ones.
        across_subjects: whether results of several subjects are allowed.
    """
    from fibermodels.evaluation.figures import write_comparison
    from fibermodels.evaluation.results import read_results

    if done := [folder for folder in folders if scored(folder)]:
        write_comparison(read_results(done, across_subjects), out, words, named)
        if (out / "comparison.png").exists():  # there is none without a metric of consistency
            shrink(out / "comparison.png")


def read_table(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file; empty if the file does not exist."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def write_table(rows: Sequence[Mapping[str, object]], path: Path, note: str = "") -> None:
    """Writes rows with the same keys as `path.csv` and, as a Markdown table with a note below, as `path.md`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_suffix(".csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    lines = [list(rows[0]), ["---"] * len(rows[0]), *(list(row.values()) for row in rows)]
    text = "".join("| " + " | ".join(map(str, line)) + " |\n" for line in lines)
    path.with_suffix(".md").write_text(text + (f"\n{note}\n" if note else ""))


def show(titles: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Prints a table."""
    table = Table(*titles)
    for row in rows:
        table.add_row(*map(str, row))
    console = Console()
    (console if console.is_terminal else Console(width=140)).print(table)
