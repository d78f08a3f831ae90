"""The colour-MNIST benchmark: trains, scores and compares every model, skipping what is done.

    python benchmarks/colour_mnist.py [--num_targets 10000] [--only flow_matching]

A training that was interrupted resumes; a result that exists is kept. What is published goes to
`results/colour_mnist/`.
"""

import subprocess
import sys
from pathlib import Path

from jsonargparse import auto_cli

CONFIGS = Path("configs/colour_mnist")
RESULTS = Path("results/colour_mnist")

UNTRAINED = ("oracle", "reconstruction", "nearest_neighbour", "augmented")
LAMBDAS = {"flow_matching": (0, 1, 10), "normalizing_flow": (0, 1, 10, 100)}
CONTINUE = ("--trainer.max_epochs", 12, "--model.lr", 5e-4)
"""How every point of a curve goes on from its family's common start."""


MORE_DRAWS = ("--cache_draws", 24, "--trainer.max_epochs", 50)
"""How `flow_matching-draws24` goes on from the same start: longer, on three times the colour draws."""


def call(*arguments: object) -> None:
    """Runs one of the project's scripts; its output and its failure are ours."""
    command = [sys.executable, *map(str, arguments)]
    print("$ python " + " ".join(command[1:]), flush=True)
    subprocess.run(command, check=True)


def scored(name: str) -> bool:
    """Whether the result is there."""
    return (RESULTS / name / "metrics.json").exists()


def train(family: str, name: str, *own: object) -> Path:
    """Trains one model, or resumes it, or finds it done; returns its checkpoints' folder."""
    folder = Path("runs/colour_mnist") / name
    if not (folder / "done").exists():
        resume = ["--ckpt_path", "last"] if (folder / "checkpoints" / "last.ckpt").exists() else ["--overwrite", "true"]
        call("train.py", "--config", CONFIGS / f"{family}.yaml", "--name", f"colour_mnist/{name}", *own, *resume)
        (folder / "done").touch()
    return folder / "checkpoints"


def train_curve(family: str, weight: int, name: str) -> Path:
    """A point of a family's curve: the model trained without fiber loss and chosen on validation, then
    for `CONTINUE` with every weight, 0 included. So all points of a curve have seen the same data and
    schedule; they are scored where it ends, because a choice by a loss that contains the weight would
    stop each point elsewhere."""
    base = train(family, f"{family}-base") / "best.ckpt"
    own = ("--start_from", base, "--model.fiber.weight", weight, *CONTINUE)
    return train(family, name, *own) / "last.ckpt"


def main(
    num_targets: int = 10_000,
    samples_per_target: int = 10,
    seed: int = 0,
    only: str | None = None,
    score: bool = True,
) -> None:
    """Trains, scores and compares.

    Args:
        num_targets: test digits whose fibers are sampled.
        samples_per_target: samples of each fiber.
        seed: of the samples.
        only: train and score this family alone.
        score: False trains only: several families can then train at once, and be timed later, alone.
    """
    size = ("--num_targets", num_targets, "--samples_per_target", samples_per_target, "--seed", seed)
    trained = {
        family + (f"-lambda{weight}" if weight else ""): (family, weight)
        for family, weights in LAMBDAS.items()
        for weight in weights
        if only in (None, family)
    }
    checkpoints = {name: train_curve(*how, name) for name, how in trained.items() if not scored(name)}
    more = "flow_matching-draws24"
    if only in (None, "flow_matching") and not scored(more):
        base = train("flow_matching", "flow_matching-base") / "best.ckpt"
        checkpoints[more] = train("flow_matching", more, "--start_from", base, *MORE_DRAWS) / "last.ckpt"
    if not score:
        return
    for name in UNTRAINED:
        if only in (None, name) and not scored(name):
            call("evaluate.py", "--model", CONFIGS / f"{name}.yaml", *size, "--out", RESULTS / name)
    for name, checkpoint in checkpoints.items():
        call("evaluate.py", "--checkpoint", checkpoint, *size, "--out", RESULTS / name, "--name", name)
    done = sorted(path.parent for path in RESULTS.glob("*/metrics.json"))
    call("evaluate.py", "--compare", *done, "--out", RESULTS, "--overwrite", "true")


if __name__ == "__main__":
    auto_cli(main)
