"""The rehearsal on real images: it trains judges, and trains, samples and scores inverters of two CIFAR-10 classifiers.

    FIBERMODELS_DATA=... python benchmarks/cifar10.py [--only "['*-spatial']"] [--score_too false]

Below the data root it expects `cifar10_images.zip` (folders `train/CLASS` and `test/CLASS`; unpacked once into `data/`)
and `weights/cifar10_resnet{20,56}.safetensors`. It skips finished work and resumes interrupted work, and two processes
can share the work by different patterns. For reliable timings, train with `--score_too false` first.
"""

import os
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

from cifar10_judges import train_judges, unseen
from jsonargparse import auto_cli
from runner import RUNS, Row, compare, publish, score, score_run, scored, train, wanted

CONFIGS = Path("configs/cifar10")
PARTS = Path("configs/parts/cifar10")
RESULTS = Path("results/cifar10")
WEIGHTS = Path("data/weights/cifar10")
IMAGES = Path("data/cifar10_images")

EPOCH = 1531
"""Training steps with 32 images."""

SHAPES = {"spatial": "[64,8,8]", "pooled": "[64]", "logits": "[10]"}
"""Of the representations of each cut."""

CUTS = tuple(SHAPES)

DIFFUSION, FLOW_MAP, CONTROLNET, SCORED = "diffusion", "flow_map", "controlnet_inverter", "energy_score"
BASE, MAP = f"{DIFFUSION}-resnet20-spatial", f"{FLOW_MAP}-resnet20-spatial"
PRIOR = WEIGHTS / "prior.safetensors"

WORDS = {"CifarResNet, blocks=3": "ResNet-20", "CifarResNet, blocks=9": "ResNet-56"}
"""The networks in tables and figures."""


def subject(name: str) -> list[object]:
    """The options that name the subject `<network>-<cut>`."""
    network, _, cut = name.partition("-")
    return ["--subject", PARTS / f"{network}.yaml", "--subject.init_args.layer", cut]


@dataclass(frozen=True)
class Training:
    """One trained inverter.

    Args:
        config: the config's name.
        subject: the network and its cut.
        steps: of the training.
        start: the run whose weights it starts from, or a file of weights; None starts at random.
        variant: what the name ends with.
        options: of the training.
        weight: lambda of the fiber loss.
        batch: images of a step.
    """

    config: str
    subject: str
    steps: int
    start: str | Path | None = PRIOR
    variant: str = ""
    options: tuple[object, ...] = ()
    weight: float = 0.0
    batch: int = 32

    @property
    def series(self) -> str:
        """`<config>-<subject>[-<variant>]`."""
        return f"{self.config}-{self.subject}" + (f"-{self.variant}" if self.variant else "")

    @property
    def name(self) -> str:
        """`<config>[-lambda<weight>]-<subject>[-<variant>]`."""
        weight = f"-lambda{self.weight:g}" if self.weight else ""
        return self.series.replace(self.config, self.config + weight, 1)


MAP_ON_FIBER = f"{FLOW_MAP}-lambda1-resnet20-spatial-continued"
GENERATOR, CONTINUED = f"{SCORED}-lambda1-resnet20-spatial", "continued"
START = WEIGHTS / f"{SCORED}-spatial.safetensors"
MAP_ALONE = ("--model.fiber.init_args.later", "[]")
"""The first training asked for the last map alone."""


def scored_training(cut: str, steps: int, start: Path | None = None, *own: object) -> Training:
    """A generator that is trained by the energy score, at a cut of ResNet-20."""
    return Training(SCORED, f"resnet20-{cut}", steps, start, *own, weight=1, batch=64)  # type: ignore[arg-type]


ENCODER = ("--model.train_only", "[network.places,network.context]")
TRAININGS = [
    Training(DIFFUSION, "resnet20-spatial", 2 * EPOCH),
    *(Training(DIFFUSION, f"resnet20-{cut}", EPOCH // 2) for cut in ("pooled", "logits")),
    Training(FLOW_MAP, "resnet20-spatial", EPOCH, BASE),
    scored_training("spatial", 2 * (EPOCH // 2), None, "", MAP_ALONE),
    scored_training("spatial", 1148, START, CONTINUED, ("--model.learning_rate", 0.001)),
    scored_training(
        "spatial", 5 * (EPOCH // 2), None, "wide", ("--model.learner.init_args.network.init_args.width", 192)
    ),
    scored_training("pooled", 612),
    Training(CONTROLNET, "resnet20-spatial", EPOCH, start=None),
    Training(CONTROLNET, "resnet20-pooled", 1000, start=None),
    *(Training(DIFFUSION, "resnet20-spatial", 400, BASE, "continued", weight=weight) for weight in (0, 1)),
    *(Training(FLOW_MAP, "resnet20-spatial", 300, MAP, "continued", weight=weight) for weight in (0, 1)),
    Training(DIFFUSION, "resnet56-spatial", 600),
    Training(DIFFUSION, "resnet56-spatial", 600, BASE, "adapted"),
    Training(DIFFUSION, "resnet56-spatial", 600, BASE, "encoder", ENCODER),
    *(Training(DIFFUSION, f"resnet56-{c}", 600, f"{DIFFUSION}-resnet20-{c}", "adapted") for c in ("pooled", "logits")),
]
"""The trainings in their order: each starts from an earlier one or from the prior."""


PUBLISHED_AS = {
    BASE: WEIGHTS / DIFFUSION,
    MAP: WEIGHTS / FLOW_MAP,
    GENERATOR: START.with_suffix(""),
    f"{GENERATOR}-{CONTINUED}": WEIGHTS / f"{SCORED}-spatial-{CONTINUED}",
    **{
        name: RUNS / "cifar10" / name / "model"
        for name in (MAP_ON_FIBER, *(f"{DIFFUSION}-resnet20-{cut}" for cut in CUTS if cut != "spatial"))
    },
}
"""The runs whose weights other rows use, and the files of these weights; those in `data` are committed."""


def published(name: str) -> Path:
    """The exported weights of a run, which other rows use."""
    return PUBLISHED_AS[name].with_suffix(".safetensors")


def inner(config: str, cut: str, name: str | None = None) -> dict[str, object]:
    """Changes of `feedback` that replace the flow map by another trained model, the run `name`."""
    weights = published(name or f"{config}-resnet20-{cut}")
    own = {"model.init_args.feature_shape": SHAPES[cut], "model.init_args.weights": weights}
    return {"model": PARTS / f"{config}.yaml", **own}


@dataclass(frozen=True)
class Sampling:
    """One model without training of its own: a baseline, a guided prior, or a wrapper of a trained model.

    Args:
        subject: the network and its cut.
        row: the result.
    """

    subject: str
    row: Row


def sampling(
    config: str,
    cut: str,
    variant: str = "",
    targets: int = 500,
    samples: int = 2,
    network: str = "resnet20",
    **own: object,
) -> Sampling:
    """`<config>-<network>-<cut>[-<variant>]`, with `Row`'s other arguments."""
    name = f"{config}-{network}-{cut}" + (f"-{variant}" if variant else "")
    return Sampling(f"{network}-{cut}", Row(name, config, targets=targets, samples=samples, **own))  # type: ignore[arg-type]


BEST = Sampling("resnet20-spatial", Row("best-spatial", "best", targets=2000, samples=9))
"""The winner at the last map of ResNet-20, from its committed weights."""

MIRROR = {"scale": "[1.0, 1.0]", "flip": 1.0}
"""The target's mirror image: how far judges agree with themselves."""

SAMPLINGS = [
    sampling("nearest_neighbour", "spatial", targets=2000, samples=9),
    *(sampling("nearest_neighbour", cut) for cut in CUTS if cut != "spatial"),
    *(sampling("nearest_neighbour", cut, targets=250, network="resnet56") for cut in CUTS),
    *(sampling("augmented", cut) for cut in CUTS),
    sampling("augmented", "spatial", "mirror", 2000, 1, changes=MIRROR),
    BEST,
    sampling("feedback", "spatial", SCORED, 2000, 9, changes={**inner(SCORED, "spatial", GENERATOR), "steps": 1}),
    sampling("prior_samples", "spatial", targets=250),
    *(sampling("ndtm", cut, targets=32, samples=1) for cut in CUTS),
    *(
        sampling(
            "dps",
            "spatial",
            f"scale{scale}",
            100,
            series="dps-resnet20-spatial",
            knobs={"scale": scale},
            changes={"strength": scale},
        )
        for scale in (1, 3, 10)
    ),
    *(
        sampling(
            "feedback",
            "spatial",
            f"steps{steps}",
            series="feedback-resnet20-spatial",
            knobs={"steps": steps},
            changes={"steps": steps},
        )
        for steps in (1, 3)
    ),
    sampling("feedback", "spatial", "lambda1", changes={"model.init_args.weights": published(MAP_ON_FIBER)}),
    *(sampling("feedback", cut, DIFFUSION, 250, 1, changes=inner(DIFFUSION, cut)) for cut in CUTS),
]


SUBJECTS = {each.name: each.subject for each in TRAININGS} | {each.row.name: each.subject for each in SAMPLINGS}
"""The subject of each result."""


def unpack() -> None:
    """Unpacks the images, if they are missing."""
    if IMAGES.is_dir():
        return
    archive = Path(os.environ.get("FIBERMODELS_DATA", "data")) / "cifar10_images.zip"
    if not archive.is_file():
        sys.exit(f"error: no images at '{IMAGES}', and no '{archive}' to unpack (see data/README.md)")
    unfinished = IMAGES.with_suffix(".part")
    with zipfile.ZipFile(archive) as file:
        file.extractall(unfinished)
    unfinished.replace(IMAGES)


def train_inverter(training: Training, precision: str) -> Path:
    """Trains one inverter, or resumes it, or finds it done; returns its checkpoint."""
    epochs = -(-training.steps * training.batch // (32 * EPOCH))
    own: list[object] = [
        *subject(training.subject),
        "--trainer.max_epochs",
        epochs,
        "--trainer.limit_train_batches",
        training.steps // epochs,
        "--data.init_args.batch_size",
        training.batch,
        "--model.fiber.weight",
        training.weight,
        "--ema_decay",
        0.998 if training.steps >= 1000 else 0.99,
        "--trainer.precision",
        precision,
        *training.options,
    ]
    if isinstance(training.start, Path):
        own += ["--adapt_from", training.start]
    elif training.start:
        same = training.start.endswith(training.subject) and training.start.startswith(training.config)
        start = RUNS / "cifar10" / training.start / "checkpoints" / "last.ckpt"
        own += ["--start_from" if same else "--adapt_from", start]
    return train(CONFIGS / f"{training.config}.yaml", f"cifar10/{training.name}", *own)


def train_prior() -> None:
    """Trains the unconditional prior, at first in batches of 128, unless its published weights are there."""
    if not PRIOR.exists():
        config = CONFIGS / "prior.yaml"
        first = train(config, "cifar10/prior")
        small = ("--data", PARTS / "data.yaml", "--trainer.max_epochs", 2, "--ema_decay", 0.998)
        last = train(config, "cifar10/prior-continued", *small, "--adapt_from", first)
        publish(last, WEIGHTS / "prior", "--half", "true")


def judged(name: str) -> list[object]:
    """The options of the judges: the subject's own classifier, those that took no part, and the features."""
    own, _, _ = name.partition("-")
    other = {"resnet20": "resnet56", "resnet56": "resnet20"}[own]
    classifiers = ("--classifier", PARTS / f"{own}.yaml", f"--judges.{other}", PARTS / f"{other}.yaml")
    return [*classifiers, *unseen(), "--features.resnet56", PARTS / "resnet56-pooled.yaml"]


def main(only: list[str] | None = None, score_too: bool = True, seed: int = 0, precision: str = "bf16-mixed") -> None:
    """Trains, samples, scores and compares.

    Args:
        only: patterns of names; others are skipped.
        score_too: False trains only.
        seed: of the samples.
        precision: of trainings; `32-true` is faster on a CPU without bfloat16.
    """
    unpack()
    train_judges(only)
    train_prior()
    for training in TRAININGS:
        if not wanted(training.name, only):
            continue
        checkpoint = train_inverter(training, precision)
        if training.name in PUBLISHED_AS:
            publish(checkpoint, published(training.name).with_suffix(""), "--half", "true")
        if score_too and not scored(RESULTS / training.name):
            targets, samples = (2000, 9) if training.name.startswith(GENERATOR) else (500, 2)
            if not training.subject.startswith("resnet20"):
                targets //= 2
            row = Row(training.name, series=training.series, targets=targets, samples=samples, seed=seed)
            score_run(row, checkpoint, RESULTS, *judged(training.subject))
    for each in SAMPLINGS if score_too else []:
        if wanted(each.row.name, only) and not scored(RESULTS / each.row.name):
            options = (*subject(each.subject), *judged(each.subject), "--seed", seed)
            score(each.row, CONFIGS, RESULTS, *options)
    if score_too:
        compare_all()


def compare_all() -> None:
    """A table and a figure of each subject's results, and one table across subjects."""
    for own in dict.fromkeys(SUBJECTS.values()):
        compare([RESULTS / name for name in sorted(SUBJECTS) if SUBJECTS[name] == own], RESULTS / own, WORDS)
    done = [RESULTS / name for name in sorted(SUBJECTS)]
    aside = (f"{BASE}-continued", MAP, "feedback-resnet20-spatial", "prior_samples-resnet20-spatial")  # near others
    curves = [training.series for training in TRAININGS] + [each.row.series or each.row.name for each in SAMPLINGS]
    compare(done, RESULTS, WORDS, [name for name in curves if name not in aside], across_subjects=True)


if __name__ == "__main__":
    auto_cli(main)
