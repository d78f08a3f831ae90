"""The colour-MNIST benchmark: trains, scores and compares every model, skipping what is done.

    python benchmarks/colour_mnist.py [--num_targets 10000] [--only '[flow_map*, diffusion]'] [--score false]

For each family, the same budget:

1. a search of the learning rate, `SEARCH`: the lowest energy score on validation digits wins
   (`results/colour_mnist/search.csv`);
2. a training without fiber loss at that rate, `BASE`;
3. from its weights, for every lambda, 0 included, a continuation, `CURVE`, scored where it ends.

So all points of a curve have seen the same data, optimiser and schedule. A training that was interrupted
resumes; a result that exists is kept.
"""

import csv
import subprocess
import sys
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from jsonargparse import auto_cli

CONFIGS = Path("configs/colour_mnist")
RESULTS = Path("results/colour_mnist")
RUNS = Path("runs/colour_mnist")

UNTRAINED = ("oracle", "reconstruction", "reconstruction-vae", "nearest_neighbour", "augmented", "decoded_noise")
FAMILIES = (
    "flow_map",
    "flow_matching",
    "diffusion",
    "normalizing_flow",
    "free_form_flow",
    "free_form_injective_flow",
    "denoising_flow",
    "multilevel_flow",
)
LAMBDAS = (0, 1, 10, 100)
RATES = (5e-4, 1e-3, 2e-3)
SEARCH = ("--trainer.max_epochs", 3, "--model.preview", 5000, "--ema_decay", 0)
BASE = ("--trainer.max_epochs", 10)
CURVE = ("--trainer.max_epochs", 3, "--ema_decay", 0.99)
CURVE_RATE = 0.5
"""Of the rate that the search found: a continuation starts from trained weights."""

TEACHER = RUNS / "flow_matching-base" / "teacher.safetensors"


@dataclass(frozen=True)
class Point:
    """One result: a model at a lambda, and what differs from its family's curve.

    Args:
        family: the config's name.
        weight: lambda.
        variant: what the name ends with, besides lambda.
        whole: options of its search's winner, its base and its continuation.
        last: options of its continuation alone.
    """

    family: str
    weight: int = 0
    variant: str = ""
    whole: tuple[object, ...] = ()
    last: tuple[object, ...] = ()

    @property
    def name(self) -> str:
        """`<family>[-lambda<weight>][-<variant>]`."""
        weight = f"-lambda{self.weight}" if self.weight else ""
        return self.family + weight + (f"-{self.variant}" if self.variant else "")

    @property
    def base(self) -> str:
        """The run whose weights it starts from."""
        return f"{self.family}-base" + (f"-{self.variant}" if self.whole else "")


LATENTS = "--model.learner.init_args.latents"
VAE = (LATENTS, "configs/parts/vae.yaml")
DISTILLED = (
    "--model.learner.init_args.teacher.class_path",
    "fibermodels.models.FlowMatching",
    "--model.learner.init_args.teacher.init_args.latents",
    "configs/parts/fiber_autoencoder.yaml",
    "--model.learner.init_args.teacher.init_args.feature_shape",
    "[48]",
    "--model.learner.init_args.teacher.init_args.network",
    "fibermodels.nn.MLP",
    "--model.learner.init_args.teacher.init_args.weights",
    TEACHER,
)
POINTS = [Point(family, weight) for family in FAMILIES for weight in LAMBDAS] + [
    *(Point("flow_map", weight, "distilled", whole=DISTILLED) for weight in LAMBDAS),
    *(
        Point(family, weight, "vae", whole=VAE)
        for family in ("flow_matching", "normalizing_flow")
        for weight in (0, 10)
    ),
    *(Point(family, 10, "last1", last=("--model.fiber.last_steps", 1)) for family in ("flow_matching", "diffusion")),
    *(
        Point(family, 10, "estimate", last=("--model.fiber.estimate_below", 0.3))
        for family in ("flow_matching", "diffusion")
    ),
]

SUMMARY = (
    "oracle",
    "reconstruction",
    "reconstruction-vae",
    "nearest_neighbour",
    "decoded_noise",
    *FAMILIES,
    "flow_map-distilled",
    "flow_matching-vae",
    "flow_matching-lambda10-vae",
    "normalizing_flow-vae",
    "normalizing_flow-lambda10-vae",
)
"""What the README shows."""


def call(*arguments: object) -> None:
    """Runs one of the project's scripts; its output and its failure are ours."""
    command = [sys.executable, *map(str, arguments)]
    print("$ python " + " ".join(command[1:]), flush=True)
    subprocess.run(command, check=True)


def scored(name: str) -> bool:
    """Whether the result is there."""
    return (RESULTS / name / "metrics.json").exists()


def train(family: str, name: str, *own: object) -> Path:
    """Trains one model, or resumes it, or finds it done; returns its folder."""
    folder = RUNS / name
    if not (folder / "done").exists():
        resume = ["--ckpt_path", "last"] if (folder / "checkpoints" / "last.ckpt").exists() else ["--overwrite", "true"]
        call("train.py", "--config", CONFIGS / f"{family}.yaml", "--name", f"colour_mnist/{name}", *own, *resume)
        (folder / "done").touch()
    return folder


def found_rate(family: str) -> float:
    """The learning rate with the lowest energy score on validation digits after a short training."""
    energies = {}
    for rate in RATES:
        folder = train(family, f"search/{family}-{rate:g}", "--model.learning_rate", rate, *SEARCH)
        with (folder / "metrics.csv").open(newline="") as file:
            energies[rate] = float(list(csv.DictReader(file))[-1]["val/energy_score"])
    best = min(energies, key=lambda rate: energies[rate])
    _note(family, energies, best)
    return best


def _note(family: str, energies: dict[float, float], best: float) -> None:
    path = RESULTS / "search.csv"
    rows = []
    if path.exists():
        with path.open(newline="") as file:
            rows = [row for row in csv.DictReader(file) if row["family"] != family]
    scores = {f"energy score at {rate:g}": f"{energy:.5f}" for rate, energy in energies.items()}
    rows.append({"family": family, **scores, "chosen": f"{best:g}"})
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[-1]))
        writer.writeheader()
        rows.sort(key=lambda row: FAMILIES.index(row["family"]))
        writer.writerows(rows)
    lines = [list(rows[0]), ["---"] * len(rows[0]), *(list(row.values()) for row in rows)]
    path.with_suffix(".md").write_text("".join("| " + " | ".join(line) + " |\n" for line in lines))


def train_point(point: Point) -> Path:
    """Trains what the point needs, and returns its checkpoint."""
    if point.whole == DISTILLED and not TEACHER.exists():
        train_point(Point("flow_matching"))
        own = RUNS / "flow_matching-base" / "checkpoints" / "last.ckpt"
        call("export.py", "--checkpoint", own, "--out", TEACHER.with_suffix(""))
    rate = found_rate(point.family)
    base = train(point.family, point.base, "--model.learning_rate", rate, *BASE, *point.whole)
    start = ("--start_from", base / "checkpoints" / "last.ckpt", "--model.learning_rate", CURVE_RATE * rate)
    options = ("--model.fiber.weight", point.weight, *CURVE, *point.whole, *point.last)
    return train(point.family, point.name, *start, *options) / "checkpoints" / "last.ckpt"


def main(
    num_targets: int = 10_000,
    samples_per_target: int = 4,
    seed: int = 0,
    only: list[str] | None = None,
    score: bool = True,
) -> None:
    """Trains, scores and compares.

    Args:
        num_targets: test digits whose fibers are sampled.
        samples_per_target: samples of each fiber.
        seed: of the samples.
        only: patterns of results' names (`flow_map*`), to do alone.
        score: False trains only: several families can then train at once, and be timed later, alone.
    """

    def wanted(name: str) -> bool:
        return not only or any(fnmatch(name, pattern) for pattern in only)

    RESULTS.mkdir(parents=True, exist_ok=True)
    size = ("--num_targets", num_targets, "--samples_per_target", samples_per_target, "--seed", seed)
    for name in UNTRAINED:
        if score and wanted(name) and not scored(name):
            call("evaluate.py", "--model", CONFIGS / f"{name}.yaml", *size, "--out", RESULTS / name)
    for point in POINTS:
        if wanted(point.name) and not scored(point.name):
            checkpoint, own = train_point(point), ("--out", RESULTS / point.name, "--name", point.name)
            if score:
                call("evaluate.py", "--checkpoint", checkpoint, *size, *own)
    if not score:
        return
    done = [RESULTS / name for name in (*UNTRAINED, *(point.name for point in POINTS)) if scored(name)]
    call("evaluate.py", "--compare", *done, "--out", RESULTS, "--overwrite", "true")
    summary = [RESULTS / name for name in SUMMARY if scored(name)]
    call("evaluate.py", "--compare", *summary, "--out", RESULTS / "summary", "--overwrite", "true")


if __name__ == "__main__":
    auto_cli(main)
