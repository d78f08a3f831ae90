"""The command `evaluate`."""

import sys
from collections.abc import Sequence
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from jsonargparse import Namespace

from fibermodels.commands import Parser, check_files, explained
from fibermodels.evaluation.building import check_model_file, guard_imports, split_overrides
from fibermodels.evaluation.comparing import compare, print_rows
from fibermodels.evaluation.devices import accelerator, check_device
from fibermodels.evaluation.drawing import Choice
from fibermodels.evaluation.report.page import REPORT
from fibermodels.evaluation.reporting import rewrite
from fibermodels.files import check_new, claim, release
from fibermodels.programs import called

TARGETS = 1000
"""Inputs whose fibers are sampled, unless the user says otherwise or the split has fewer."""

USAGE = """%(prog)s (--checkpoint FILE.ckpt | --model FILE.yaml) --out DIR [options]
           [--model.ARGUMENT VALUE ...]  of the trained model of a checkpoint
           [--subject FILE.yaml]  for a checkpoint that does not describe its subject
           [--model.KEY VALUE | --subject FILE.yaml | --data.KEY VALUE ...]  of the --model file
           [--classifier FILE.yaml] [--judges.NAME FILE.yaml ...] [--features.NAME FILE.yaml ...]
       %(prog)s --compare DIR [DIR ...] --out DIR
       %(prog)s --report DIR [DIR ...]
       %(prog)s --config FILE.yaml [options]"""


def parser() -> Parser:
    """The options of the command."""
    own = Parser(prog=called("evaluate"), description="Draws samples once and scores them.", usage=USAGE)
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
    own.add_argument(
        "--num_targets",
        type=int | None,
        default=None,
        help=f"number of inputs whose fibers are sampled; default: {TARGETS}, or all of the split if it has fewer",
    )
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
        "--reference",
        type=str | None,
        default=None,
        help="the folder of another result, such as that of the unguided prior: --features measure the distances "
        "between samples of the two, fid_NAME_reference, kid_NAME_reference",
    )
    own.add_argument(
        "--thresholds",
        type=list[float] | None,
        default=None,
        help="thresholds of the probabilities of a classifier with several labels: one for each, or one for all; "
        "default: the classifier's own, else 0.5",
    )
    own.add_argument("--overwrite", type=bool, default=False, help="replace an earlier result")
    own.add_argument(
        "--tensorboard",
        type=bool,
        default=False,
        help="also write the metrics and the figures as TensorBoard events into OUT/tensorboard",
    )
    return own


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command. Errors of the user give one message and exit status 2.

    Args:
        arguments: None takes those of this process.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    with explained():
        guard_imports()
        for path in check_files(words):
            check_model_file(str(path))
        own, overrides = split_overrides(words)
        options = parser().parse_args(own)
        try:
            run(options, overrides)
        except KeyboardInterrupt:
            left = f"no result in '{options.out}' yet" if options.out else "not all reports are written"
            print(f"interrupted: {left}; repeat the command to continue", file=sys.stderr)
            sys.exit(130)


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
    if options.report and options.tensorboard:
        raise ValueError("tensorboard: expected none with --report, which writes report.html alone")
    if options.report:
        rewrite(options.report, options.out, options.overwrite)
        return
    if options.out is None:
        raise ValueError("out: expected the folder for the result, --out DIR, got none")
    out = Path(options.out)
    for mark in ("comparison.csv" if options.compare else "metrics.json", REPORT):
        check_new(out / mark, options.overwrite)
    if options.compare:
        from fibermodels.evaluation.events import write_events

        compare(options.compare, out, options.across_subjects)
        if options.tensorboard:
            print(write_events(out, {}))
        return
    _evaluate(options, overrides, out)


def _evaluate(options: Namespace, overrides: list[str], out: Path) -> None:
    from fibermodels.evaluation import building
    from fibermodels.evaluation.events import write_events
    from fibermodels.evaluation.report.result import write_result_report
    from fibermodels.evaluation.results import read_metrics, save
    from fibermodels.evaluation.scoring import evaluate

    check_device(options.device)
    if options.processes < 1:
        raise ValueError(f"processes: expected at least 1, got {options.processes}")
    given, kept = {each.name: options[each.name] for each in fields(Choice)}, out / "partial"
    choice = Choice(**given | ({"num_targets": TARGETS} if options.num_targets is None else {}))
    judges = building.judges(
        options.classifier, options.judges, options.features, options.thresholds, options.reference
    )
    source = options.checkpoint, options.model, overrides
    model, subject, data, about = building.build(*source)
    if options.num_targets is None:
        choice = replace(choice, num_targets=min(TARGETS, len(data.split(choice.split))))
    judges.check_reference(subject.input_space.shape, choice.num_targets)
    if options.reference:
        about["reference"] = str(read_metrics(options.reference).get("name", options.reference))
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
        events = [write_events(out, values)] if options.tensorboard else []
    finally:
        release(lock)
    print_rows([values])
    print(f"{out}/metrics.json", f"{out}/samples.png", report, *events, sep="\n")


def _share(source: Any, choice: Choice, device: str, kept: Path, processes: int, rank: int) -> None:
    """The work of another process: it builds the same objects and draws its batches."""
    from fibermodels.evaluation import building
    from fibermodels.evaluation.processes import device_of
    from fibermodels.evaluation.scoring import plan

    building.guard_imports()
    model, subject, data, _ = building.build(*source)
    plan(model, subject, data, choice, device_of(device, rank), kept).share(rank, processes)
