"""The command line of `evaluate.py`."""

import sys
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from jsonargparse import Namespace

from fibermodels.commands import Parser, check_files, explained
from fibermodels.evaluation.building import check_model_file, guard_imports
from fibermodels.evaluation.drawing import Choice
from fibermodels.evaluation.report.page import REPORT
from fibermodels.files import check_folder, claim, release


def accelerator() -> str:
    """The kind of accelerator of this machine, as training takes it; `cpu` without one."""
    found = torch.accelerator.current_accelerator(check_available=True)
    return found.type if found else "cpu"


USAGE = """python evaluate.py (--checkpoint FILE.ckpt | --model FILE.yaml) --out DIR [options]
                          [--model.ARGUMENT VALUE ...]  of the trained model of a checkpoint
                          [--subject FILE.yaml]  for a checkpoint that does not describe its subject
                          [--model.KEY VALUE | --subject FILE.yaml | --data.KEY VALUE ...]  of the --model file
                          [--classifier FILE.yaml] [--judges.NAME FILE.yaml ...] [--features.NAME FILE.yaml ...]
       python evaluate.py --compare DIR [DIR ...] --out DIR
       python evaluate.py --report DIR [DIR ...]
       python evaluate.py --config FILE.yaml [options]"""


def parser() -> Parser:
    """The options of `evaluate.py`."""
    own = Parser(prog="evaluate.py", description="Draws samples once and scores them.", usage=USAGE)
    own.add_argument("--config", action="config", help="a YAML file of any of these options")
    own.add_argument(
        "--checkpoint",
        type=str | None,
        default=None,
        help="runs/NAME/checkpoints/best.ckpt, exported weights, or user/name on the hub",
    )
    own.add_argument("--model", type=str | None, default=None, help="a YAML file of a model that needs no training")
    own.add_argument("--compare", type=str, nargs="+", help="result folders to put into one table and figure")
    own.add_argument(
        "--across_subjects", type=bool, default=False, help="compare results of different subjects on the same data"
    )
    own.add_argument("--report", type=str, nargs="+", help="result folders whose report.html to write again")
    own.add_argument("--out", type=str | None, default=None, help="folder for the result")
    own.add_argument("--name", type=str | None, default=None, help="the result's name; default: the run's")
    own.add_argument("--series", type=str | None, default=None, help="the curve of the result in figures")
    own.add_argument(
        "--knobs",
        type=dict[str, float],
        default={},
        metavar="{NAME: NUMBER}",
        help="settings that distinguish the result from others of its curve, --knobs.NAME NUMBER for each",
    )
    own.add_argument("--num_targets", type=int, default=1000, help="number of images whose fibers are sampled")
    own.add_argument("--split", type=Literal["test", "val"], default="test", help="split; val to choose settings")
    own.add_argument("--samples_per_target", type=int, default=10, help="samples of each fiber")
    own.add_argument("--seed", type=int, default=0, help="seed of the samples")
    own.add_argument(
        "--device",
        type=str,
        default=accelerator(),
        help="such as cpu or cuda; default: the accelerator, if there is one",
    )
    own.add_argument(
        "--batch_size", type=int | None, default=None, help="targets per batch; default: 500, for long samplers 100"
    )
    own.add_argument(
        "--processes",
        type=int,
        default=1,
        help="processes that share the batches: with --device cuda one GPU each, else the CPU's cores",
    )
    own.add_argument(
        "--classifier",
        type=str | None,
        default=None,
        help="the subject's own classifier, a Subject that returns logits: top1_match, and accuracy if labels exist",
    )
    own.add_argument(
        "--judges",
        type=dict[str, str],
        default={},
        metavar="{NAME: FILE.yaml}",
        help="other classifiers, --judges.NAME FILE.yaml for each: top1_match_NAME, ...",
    )
    own.add_argument(
        "--features",
        type=dict[str, str],
        default={},
        metavar="{NAME: FILE.yaml}",
        help="networks for distances in their features, --features.NAME FILE.yaml for each: fid_NAME, ...",
    )
    own.add_argument(
        "--thresholds",
        type=list[float] | None,
        default=None,
        help="thresholds of the probabilities of a classifier with several labels: one for each, or one for all; "
        "default: the classifier's own, else 0.5",
    )
    own.add_argument("--overwrite", type=bool, default=False, help="replace an earlier result")
    return own


def main() -> None:
    """Runs `evaluate.py`. Errors of the user give one message and exit status 2."""
    with explained():
        guard_imports()
        for path in check_files(sys.argv[1:]):
            check_model_file(str(path))
        arguments, overrides = split_overrides(sys.argv[1:])
        options = parser().parse_args(arguments)
        try:
            run(options, overrides)
        except KeyboardInterrupt:
            left = f"no result in '{options.out}' yet" if options.out else "not all reports are written"
            print(f"interrupted: {left}; repeat the command to continue", file=sys.stderr)
            sys.exit(130)


OVERRIDES = ("model", "subject", "data")
"""Keys of a `--model` file that the command line may change: `--model.KEY VALUE`, `--subject FILE.yaml`, ..."""


def split_overrides(arguments: list[str]) -> tuple[list[str], list[str]]:
    """The command's own arguments, and those that change keys of a `--model` file or of the model in a checkpoint."""
    own, overrides, words = [], [], iter(arguments)
    for word in words:
        key, _, part = word.partition("=")[0].removeprefix("--").partition(".")
        if word.startswith("--") and key in OVERRIDES and (part or key != "model"):
            overrides += [word] if "=" in word else [word, *[value for value in [next(words, None)] if value]]
        else:
            own.append(word)
    return own, overrides


def run(options: Namespace, overrides: list[str]) -> None:
    """Scores, compares or reports, and prints the path of the result."""
    chosen = [key for key in ("checkpoint", "model", "compare", "report") if options[key]]
    if len(chosen) != 1:
        raise ValueError(f"expected one of --checkpoint, --model, --compare and --report, got {chosen or 'none'}")
    if overrides and chosen[0] in ("compare", "report"):
        raise ValueError(f"{overrides[0]}: expected only with --model or --checkpoint, got it with --{chosen[0]}")
    for name in ("out", "name", "series", "checkpoint"):
        if options[name] == "":
            raise ValueError(f"{name}: expected text, got ''")
    if options.across_subjects and not options.compare:
        raise ValueError("across_subjects: expected only with --compare")
    if options.report:
        _report(options.report, options.out, options.overwrite)
        return
    if options.out is None:
        raise ValueError("out: expected the folder for the result, --out DIR, got none")
    out = Path(options.out)
    for mark in ("comparison.csv" if options.compare else "metrics.json", REPORT):
        if (out / mark).exists() and not options.overwrite:
            raise FileExistsError(f"'{out / mark}' exists: choose another --out, or give --overwrite true")
    check_folder(out)
    if options.compare:
        _compare(options.compare, out, options.across_subjects)
        return
    _evaluate(options, overrides, out)


def check_device(device: str) -> None:
    """Refuses a device that torch does not know, or that this machine does not have.

    Raises:
        ValueError: naming the device.
    """
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:  # torch has no type of its own for this
        raise ValueError(f"device: '{device}' cannot be used here: {str(error).splitlines()[0]}") from error


def _evaluate(options: Namespace, overrides: list[str], out: Path) -> None:
    from fibermodels.evaluation import building
    from fibermodels.evaluation.report.result import write_result_report
    from fibermodels.evaluation.results import save
    from fibermodels.evaluation.scoring import evaluate

    check_device(options.device)
    if options.processes < 1:
        raise ValueError(f"processes: expected at least 1, got {options.processes}")
    choice, kept = Choice(**{each.name: options[each.name] for each in fields(Choice)}), out / "partial"
    judges = building.judges(options.classifier, options.judges, options.features, options.thresholds)
    source = options.checkpoint, options.model, overrides
    model, subject, data, about = building.build(*source)
    if options.name:
        about["name"] = options.name
    if options.split != "test":
        about["split"] = options.split
    if options.series:
        about["series"] = options.series
    about |= {f"knob_{name}": value for name, value in options.knobs.items()}
    work = partial(_share, source, choice, options.device, kept, options.processes)
    lock = claim(out)
    try:
        samples, values = evaluate(
            model, subject, data, choice, options.device, kept, options.processes, work, judges, about
        )
        save(out, samples, values)
        report = write_result_report(out, values, samples)
    finally:
        release(lock)
    _print_table([values])
    print(f"{out}/metrics.json\n{out}/samples.png\n{report}")


def _share(source: Any, choice: Choice, device: str, kept: Path, processes: int, rank: int) -> None:
    """The work of another process: it builds the same objects and draws its batches."""
    from fibermodels.evaluation import building
    from fibermodels.evaluation.processes import device_of
    from fibermodels.evaluation.scoring import plan

    building.guard_imports()
    model, subject, data, _ = building.build(*source)
    plan(model, subject, data, choice, device_of(device, rank), kept).share(rank, processes)


def _compare(folders: list[str], out: Path, across_subjects: bool) -> None:
    from fibermodels.evaluation.figures import write_comparison
    from fibermodels.evaluation.report.comparison import write_comparison_report
    from fibermodels.evaluation.results import located_results
    from fibermodels.evaluation.tables import unequal_targets

    found = located_results(folders, across_subjects)
    rows = [row for _, row in found]
    write_comparison(rows, out)
    report = write_comparison_report(found, out)
    _print_table(rows)
    if unequal := unequal_targets(rows):
        print(unequal, file=sys.stderr)
    print(f"{out}/comparison.md")
    if (out / "comparison.png").is_file():
        print(f"{out}/comparison.png")
    else:
        print("no figure: no result has a metric of consistency (a known law, or --features)", file=sys.stderr)
    print(report)


def _report(folders: list[str], out: str | None, overwrite: bool) -> None:
    """Writes the reports of results again, from what is in their folders."""
    from fibermodels.evaluation.report.result import write_result_report
    from fibermodels.evaluation.results import load_samples, read_metrics

    if out is not None:
        raise ValueError(f"out: expected none with --report, which writes into the folder of each result, got '{out}'")
    rows = {folder: read_metrics(folder) for folder in map(Path, folders)}
    for folder in rows:
        if (folder / REPORT).exists() and not overwrite:
            raise FileExistsError(f"'{folder / REPORT}' exists: give --overwrite true")
        check_folder(folder)
    for folder, row in rows.items():
        lock = claim(folder)
        try:
            samples = load_samples(folder) if (folder / "samples.safetensors").exists() else None
            print(write_result_report(folder, row, samples))
        finally:
            release(lock)


def _print_table(rows: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    from fibermodels.evaluation.tables import cells, columns, headings

    keys = headings(rows) if len(rows) == 1 else columns(rows)
    titles, lines = list(keys.values()), cells(rows, keys)
    if len(lines) == 1:  # a list is more readable than one row with many columns
        titles, lines = [titles[0], lines[0][0]], [list(pair) for pair in zip(titles[1:], lines[0][1:], strict=True)]
    table = Table(*titles)
    for line in lines:
        table.add_row(*line)
    console = Console()
    (console if console.is_terminal else Console(width=200)).print(table)
