"""The applications on CIFAR-10: every picture and figure of `docs/applications.md`.

    FIBERMODELS_DATA=... FIBERMODELS_IMPORTS=examples python benchmarks/applications.py [--only "['audit*']"]

It runs `fibermodels explore NAME` on the committed models and skips results that exist. The classifiers of the audits
are trained if their weights are missing (`audit_classifiers.py`).
"""

import json
import os
import sys
from pathlib import Path

from audit_classifiers import CLASSES, KINDS, train_classifier
from cifar10 import unpack
from cifar10_judges import PARTS, unseen
from cifar10_rows import CONFIGS
from jsonargparse import auto_cli
from runner import scored, shrink, wanted

from fibermodels import cli

RESULTS = Path("results/applications")
AUDITS = Path("configs/parts/cifar10/audit")
OTHERS = tuple(f"other-{seed}" for seed in range(1, 11))
"""Clean classifiers: the null of the audits."""

AUDITED = ("corner-7", "corner-6", "marked", "fresh", "clean")
"""Classifiers that are audited."""

BEST = CONFIGS / "best.yaml"
FIRST, SECOND = "configs/parts/cifar10/resnet20.yaml", "configs/parts/cifar10/resnet56.yaml"
VGG = PARTS / "vgg.yaml"
MOVED = ("--steps", 15, "--near", 1)
CAT = ("--label", 3, "--classifier", FIRST, *unseen())
STEERED = ("--checkpoint", BEST, "--targets", 1200, "--k", 128, "--n", 2, *CAT)


def audited(kind: str) -> tuple[object, ...]:
    """The options of the audit of a classifier."""
    return (
        *("--checkpoint", CONFIGS / "same_decision.yaml", "--data.init_args.subset", 4000, "--targets", 2500),
        *("--subject", AUDITS / f"{kind}.yaml", "--classes", json.dumps(CLASSES)),
        *(part for name in OTHERS for part in (f"--others.{name}", AUDITS / f"{name}.yaml")),
    )


COMMANDS: dict[str, tuple[object, ...]] = {
    "invariance_map": ("--checkpoint", BEST, "--targets", 6, "--n", 32),
    "select": ("--checkpoint", BEST, "--targets", 5, "--n", 40, "--judge", VGG),
    "compare": ("--checkpoint", BEST, "--other", CONFIGS / "best_resnet56.yaml", "--targets", 32, "--n", 4),
    "interpolate": ("--checkpoint", BEST, "--targets", 256),
    "compose": ("--checkpoint", BEST, "--targets", 256),
    "counterfactual": ("--checkpoint", BEST, "--targets", 64, *CAT),
    "counterfactual-cam": ("--checkpoint", BEST, "--targets", 64, "--mask", "cam", *CAT),
    "counterfactual-half": ("--checkpoint", BEST, "--targets", 64, "--mask", "[0,0,32,16]", *CAT),
    "steer": (*STEERED, "--method", "contrast"),
    "steer-nmf": (*STEERED, "--method", "nmf"),
    "steer-clusters": (*STEERED, "--method", "clusters"),
    "disagree": (
        *("--checkpoint", BEST, "--targets", 100, "--first", FIRST, "--second", SECOND, "--judge", VGG, "--k", 6),
        *MOVED,
    ),
    "maximise": ("--checkpoint", BEST, "--targets", 100, "--unit", 10, "--k", 6, "--steps", 15),
    "maximise-npca": ("--checkpoint", BEST, "--targets", 100, "--label", 3, "--k", 6, "--steps", 15),
    **{f"audit-{kind}": audited(kind) for kind in AUDITED},
}
"""Results by name, and the options of their commands."""


def main(only: list[str] | None = None) -> None:
    """Runs the applications.

    Args:
        only: patterns of names; others are skipped.
    """
    os.environ["FIBERMODELS_IMPORTS"] = "examples"
    sys.path.append(os.getcwd())
    todo = [name for name in COMMANDS if wanted(name, only) and not scored(RESULTS / name)]
    if any(name.startswith("audit") for name in todo):
        for kind in KINDS:
            train_classifier(kind)
    if todo:
        unpack()
    for name in todo:
        application, options = name.partition("-")[0], map(str, COMMANDS[name])
        print(f"$ fibermodels explore {application} {' '.join(map(str, COMMANDS[name]))}", flush=True)
        cli.run("explore", [application, *options, "--out", str(RESULTS / name), "--device", "cpu"])
        shrink(RESULTS / name / "figure.png")


if __name__ == "__main__":
    auto_cli(main)
