"""The colour-MNIST benchmark: it trains, scores and compares every model, and skips finished work.

    python benchmarks/colour_mnist.py [--num_targets 10000] [--only '[flow_map*, diffusion]'] [--score false]

Each family has the same budget:

1. A search of the learning rate, `SEARCH`: the lowest energy score on validation digits wins
   (`results/colour_mnist/search.csv`).
2. A training without fiber loss at that rate, `BASE`.
3. From its weights, for every lambda including 0, a continuation, `CURVE`, which is scored where it ends.

All points of a curve therefore have the same data, optimiser and schedule.
"""

from dataclasses import dataclass
from pathlib import Path

from jsonargparse import auto_cli
from runner import RUNS, Row, compare, publish, read_table, score, score_run, scored, train, wanted, write_table

CONFIGS = Path("configs/colour_mnist")
PARTS = Path("configs/parts/colour_mnist")
RESULTS = Path("results/colour_mnist")

VAE_SPACE = {"latents": PARTS / "vae.yaml"}
UNTRAINED = {
    "oracle": Row("oracle", "oracle"),
    "reconstruction": Row("reconstruction", "reconstruction"),
    "reconstruction-vae": Row("reconstruction-vae", "reconstruction", changes=VAE_SPACE),
    "nearest_neighbour": Row("nearest_neighbour", "nearest_neighbour"),
    "augmented": Row("augmented", "augmented"),
    "decoded_noise": Row("decoded_noise", "decoded_noise"),
}
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
"""Learning rate of a continuation, relative to the rate that the search found."""

TEACHER = Path("colour_mnist/flow_matching-base/teacher.safetensors")
LEARNER = "--model.learner.init_args"


@dataclass(frozen=True)
class Point:
    """One result: a model at a lambda, perhaps a variant of its family.

    Args:
        family: the config's name.
        weight: lambda.
        variant: the ending of the name.
        whole: options of both trainings.
        last: options of the continuation only.
    """

    family: str
    weight: int = 0
    variant: str = ""
    whole: tuple[object, ...] = ()
    last: tuple[object, ...] = ()

    @property
    def series(self) -> str:
        """The curve of the result: `<family>[-<variant>]`."""
        return self.family + (f"-{self.variant}" if self.variant else "")

    @property
    def name(self) -> str:
        """`<family>[-lambda<weight>][-<variant>]`."""
        weight = f"-lambda{self.weight}" if self.weight else ""
        return self.family + weight + (f"-{self.variant}" if self.variant else "")

    @property
    def base(self) -> str:
        """The run whose weights it starts from."""
        return f"{self.family}-base" + (f"-{self.variant}" if self.whole else "")


VAE = (f"{LEARNER}.latents", PARTS / "vae.yaml")
SPLINE = (f"{LEARNER}.flow", PARTS / "spline.yaml")
DISTILLED = (
    f"{LEARNER}.teacher",
    PARTS / "flow_matching.yaml",
    f"{LEARNER}.teacher.init_args.weights",
    RUNS / TEACHER,
)
STEPPED = ("flow_matching", "diffusion")
POINTS = [Point(family, weight) for family in FAMILIES for weight in LAMBDAS] + [
    *(Point("flow_map", weight, "distilled", whole=DISTILLED) for weight in LAMBDAS),
    Point("normalizing_flow", variant="spline", whole=SPLINE),
    *(
        Point(family, weight, "vae", whole=VAE)
        for family in ("flow_matching", "normalizing_flow")
        for weight in (0, 10)
    ),
    *(Point(family, 10, "last1", last=("--model.fiber.last_steps", 1)) for family in STEPPED),
    *(Point(family, 10, "estimate", last=("--model.fiber.estimate_below", 0.3)) for family in STEPPED),
]

SUMMARY = (
    "oracle",
    "reconstruction",
    "reconstruction-vae",
    "nearest_neighbour",
    "decoded_noise",
    *FAMILIES,
    "normalizing_flow-spline",
    "flow_map-distilled",
    "flow_matching-vae",
    "flow_matching-lambda10-vae",
    "normalizing_flow-vae",
    "normalizing_flow-lambda10-vae",
)
"""The results without fiber loss, and those in the plain VAE."""

NAMED = (
    *("oracle", "reconstruction", "reconstruction-vae", "nearest_neighbour", "decoded_noise"),
    *("flow_map", "multilevel_flow", "normalizing_flow", "flow_matching-vae", "normalizing_flow-vae"),
)
"""The curves that the figure names."""


def found_rate(family: str) -> float:
    """The learning rate with the lowest energy score on validation digits after a short training."""
    rows = read_table(RESULTS / "search.csv")
    if known := [row for row in rows if row["family"] == family]:
        return float(known[0]["chosen"])
    energies = {}
    for rate in RATES:
        name = f"colour_mnist/search/{family}-{rate:g}"
        train(CONFIGS / f"{family}.yaml", name, "--model.learning_rate", rate, *SEARCH)
        energies[rate] = float(read_table(RUNS / name / "metrics.csv")[-1]["val/energy_score"])
    best = min(energies, key=lambda rate: energies[rate])
    scores = {f"energy score at {rate:g}": f"{energy:.5f}" for rate, energy in energies.items()}
    rows.append({"family": family, **scores, "chosen": f"{best:g}"})
    write_table(sorted(rows, key=lambda row: FAMILIES.index(row["family"])), RESULTS / "search")
    return best


def train_point(point: Point) -> Path:
    """Runs the trainings of a result, and returns its checkpoint."""
    config = CONFIGS / f"{point.family}.yaml"
    if point.whole == DISTILLED:
        train_point(Point("flow_matching"))
        own = RUNS / "colour_mnist/flow_matching-base/checkpoints/last.ckpt"
        publish(own, (RUNS / TEACHER).with_suffix(""))
    rate = found_rate(point.family)
    base = train(config, f"colour_mnist/{point.base}", "--model.learning_rate", rate, *BASE, *point.whole)
    start = ("--start_from", base, "--model.learning_rate", CURVE_RATE * rate)
    options = ("--model.fiber.weight", point.weight, *CURVE, *point.whole, *point.last)
    return train(config, f"colour_mnist/{point.name}", *start, *options)


def main(
    num_targets: int = 10_000,
    samples_per_target: int = 4,
    seed: int = 0,
    only: list[str] | None = None,
    score_too: bool = True,
) -> None:
    """Trains, scores and compares.

    Args:
        num_targets: test digits whose fibers are sampled.
        samples_per_target: samples of each fiber.
        seed: seed of the samples.
        only: patterns of results' names (`flow_map*`); others are skipped.
        score_too: False trains only, so that several families can train at once and be timed alone later.
    """
    size = ("--num_targets", num_targets, "--samples_per_target", samples_per_target, "--seed", seed)
    for name, row in UNTRAINED.items():
        if score_too and wanted(name, only) and not scored(RESULTS / name):
            score(row, CONFIGS, RESULTS, *size)
    for point in POINTS:
        if wanted(point.name, only) and not scored(RESULTS / point.name):
            checkpoint = train_point(point)
            if score_too:
                score_run(Row(point.name, series=point.series), checkpoint, RESULTS, *size)
    if score_too:
        compare_all()


def compare_all() -> None:
    """A table and a figure of all results, and of those without fiber loss."""
    compare([RESULTS / name for name in (*UNTRAINED, *(point.name for point in POINTS))], RESULTS, named=NAMED)
    compare([RESULTS / name for name in SUMMARY], RESULTS / "summary")


if __name__ == "__main__":
    auto_cli(main)
