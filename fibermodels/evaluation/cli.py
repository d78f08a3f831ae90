"""The command line of `evaluate.py`."""

import sys
from itertools import takewhile
from pathlib import Path
from typing import Any, Literal

import torch
from jsonargparse import ArgumentParser, Namespace, set_parsing_settings

from fibermodels.config import allowed_imports

USAGE = """python evaluate.py (--checkpoint FILE.ckpt [--model.ARGUMENT VALUE ...]
                           | --model FILE.yaml [--model.KEY VALUE ...]) --out DIR [options]
       python evaluate.py --compare DIR [DIR ...] --out DIR"""


def parser() -> ArgumentParser:
    """The options of `evaluate.py`."""
    own = ArgumentParser(prog="evaluate.py", description="Draws samples once and scores them.", usage=USAGE)
    own.add_argument("--checkpoint", type=str | None, default=None, help="runs/NAME/checkpoints/best.ckpt")
    own.add_argument("--model", type=str | None, default=None, help="a YAML file of a model that needs no training")
    own.add_argument("--compare", type=str, nargs="+", help="result folders to put into one table and figure")
    own.add_argument("--out", type=str, required=True, help="folder for the result")
    own.add_argument("--name", type=str | None, default=None, help="the result's name; default: the run's")
    own.add_argument("--num_targets", type=int, default=1000, help="images to sample the fibers of")
    own.add_argument("--split", type=Literal["test", "val"], default="test", help="of the images; val to choose by")
    own.add_argument("--samples_per_target", type=int, default=10, help="samples of each fiber")
    own.add_argument("--seed", type=int, default=0, help="of the samples")
    own.add_argument("--device", type=str, default="cuda" if torch.cuda.is_available() else "cpu", help="cpu or cuda")
    own.add_argument("--overwrite", type=bool, default=False, help="replace an earlier result")
    return own


def model_parser() -> ArgumentParser:
    """What a `--model` file says: name, subject, data, model."""
    from lightning.pytorch import LightningDataModule

    from fibermodels.core import FiberModel, Subject

    own = ArgumentParser(prog="evaluate.py --model", exit_on_error=False)
    own.add_argument("--config", action="config")
    own.add_argument("--name", type=str, required=True)
    own.add_subclass_arguments(Subject, "subject", required=True)
    own.add_subclass_arguments(LightningDataModule, "data", required=True)
    own.add_subclass_arguments(FiberModel, "model", required=True)
    own.link_arguments("subject", "model.init_args.subject", apply_on="instantiate")
    return own


def main() -> None:
    """Runs `evaluate.py`. Errors that a user can mend are one message and exit status 2."""
    set_parsing_settings(import_path_denylist=["*"], import_path_allowlist=list(allowed_imports()))
    arguments, overrides = split_overrides(sys.argv[1:])
    options = parser().parse_args(arguments)
    try:
        run(options, overrides)
    except (ValueError, FileNotFoundError, FileExistsError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print(f"interrupted: no result in '{options.out}' yet; the same command goes on", file=sys.stderr)
        sys.exit(130)


def split_overrides(arguments: list[str]) -> tuple[list[str], list[str]]:
    """The command's own arguments, and those that override a `--model` file's keys, or what the trained model of a
    `--checkpoint` was built with (`--model.KEY VALUE`)."""
    own, overrides, words = [], [], iter(arguments)
    for word in words:
        if word.startswith("--model."):
            overrides += [word] if "=" in word else [word, *[value for value in [next(words, None)] if value]]
        else:
            own.append(word)
    return own, overrides


def run(options: Namespace, overrides: list[str]) -> None:
    """Scores or compares, and prints where the result is."""
    chosen = [key for key in ("checkpoint", "model", "compare") if options[key]]
    if len(chosen) != 1:
        raise ValueError(f"give one of --checkpoint, --model and --compare; got {chosen or 'none'}")
    if overrides and options.compare:
        raise ValueError(f"{overrides[0]}: such options go with a --model file or a --checkpoint")
    out = Path(options.out)
    mark = "comparison.csv" if options.compare else "metrics.json"
    if (out / mark).exists() and not options.overwrite:
        raise FileExistsError(f"'{out / mark}' exists: choose another --out, or say --overwrite true")
    if options.compare:
        _compare(options.compare, out)
        return
    from fibermodels.evaluation.overrides import changes
    from fibermodels.evaluation.results import save
    from fibermodels.evaluation.scoring import evaluate

    model, subject, data, about = (
        _from_checkpoint(options.checkpoint, changes(overrides))
        if options.checkpoint
        else _from_yaml(options.model, overrides)
    )
    if options.name:
        about["name"] = options.name
    if options.split != "test":
        about["split"] = options.split
    size = options.num_targets, options.samples_per_target
    samples, values = evaluate(
        model, subject, data, *size, options.seed, options.device, about, options.split, out / "partial"
    )
    save(out, samples, values)
    _print_table([values])
    print(f"{out}/metrics.json\n{out}/samples.png")


def _from_checkpoint(path: str, changed: dict[str, Any]) -> tuple[Any, Any, Any, dict[str, Any]]:
    from fibermodels.core import FiberModel, TrainableFiberModel
    from fibermodels.training import load

    run = load(path, changed)
    if not isinstance(run.model, FiberModel):
        raise ValueError(f"'{path}' holds a {type(run.model).__name__}, which samples no fibers")
    if run.data is None:
        raise ValueError(f"'{path}' does not say on which data it was trained")
    about = {
        "name": Path(path).resolve().parents[1].name,
        "fiber_weight": float(run.training.fiber.weight),
        "training_seconds": round(run.training.seconds, 1),
        **{f"model_{name}": v for name, v in changed.items() if isinstance(v, (int, float, str))},
    }
    model = run.model.product(()) if isinstance(run.model, TrainableFiberModel) else run.model  # no teacher
    return model.eval(), run.subject, run.data, about


def _from_yaml(path: str, overrides: list[str]) -> tuple[Any, Any, Any, dict[str, Any]]:
    from jsonargparse import ArgumentError

    if not Path(path).is_file():
        raise FileNotFoundError(f"no model file at '{path}' (from {Path.cwd()})")
    own = model_parser()
    try:
        built = own.instantiate_classes(own.parse_args(["--config", path, *overrides]))
    except (ArgumentError, ValueError) as error:
        raise ValueError(f"'{path}': {_reason(str(error))}") from error
    return built.model.eval(), built.subject, built.data, {"name": built.name}


def _reason(report: str) -> str:
    """What is wrong, of jsonargparse's report: without the alternatives that it tried and the values it was given."""
    _, _, tried = report.rpartition("Errors:\n")
    lines = takewhile(lambda line: "Expected a <class 'NoneType'>" not in line, (tried or report).splitlines())
    return "\n".join(lines).strip().removeprefix("- ")


def _compare(folders: list[str], out: Path) -> None:
    from fibermodels.evaluation.figures import write_comparison
    from fibermodels.evaluation.results import read_results

    rows = read_results(folders)
    write_comparison(rows, out)
    _print_table(rows)
    print(f"{out}/comparison.md\n{out}/comparison.png")


def _print_table(rows: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    from fibermodels.evaluation.figures import cells

    titles, lines = cells(rows)
    table = Table(*titles)
    for line in lines:
        table.add_row(*line)
    console = Console()
    (console if console.is_terminal else Console(width=160)).print(table)
