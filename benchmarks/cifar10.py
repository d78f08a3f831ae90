"""The rehearsal on real images: it trains judges, and trains, samples and scores inverters of two CIFAR-10 classifiers.

    FIBERMODELS_DATA=... python benchmarks/cifar10.py [--only "['*-spatial']"] [--score_too false]

Below the data root it expects `cifar10_images.zip` (folders `train/CLASS` and `test/CLASS`; unpacked once into `data/`)
and `weights/cifar10_resnet{20,56}.safetensors`. It skips finished work and resumes interrupted work, and two processes
can share the work by different patterns. For reliable timings, train with `--score_too false` first.
"""

import os
import sys
import zipfile
from pathlib import Path

from cifar10_figures import plot_minutes, plot_stages
from cifar10_judges import UNSEEN, train_judges, unseen
from cifar10_rows import (
    BALANCED,
    BASE,
    CALIBRATED,
    CONFIGS,
    CURVES,
    CUTS,
    EPOCH,
    FAITHFUL,
    LEVELS,
    MAP,
    METHODS,
    MUON,
    PARTS,
    PRIOR,
    PUBLISHED_AS,
    RESULTS,
    SAMPLINGS,
    SCORED,
    STAGED,
    STAGES,
    STRAIGHT,
    SUBJECTS,
    TRAININGS,
    WORDS,
    Training,
    published,
    subject,
)
from jsonargparse import auto_cli
from runner import RUNS, Row, compare, publish, score, score_run, scored, train, wanted

IMAGES = Path("data/cifar10_images")


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


def train_priors(only: list[str] | None) -> None:
    """Trains the priors whose published weights are missing; the straight one at first in batches of 128."""
    if wanted("prior", only) and not PRIOR.exists():
        publish(train(CONFIGS / "prior.yaml", "cifar10/prior"), PRIOR.with_suffix(""), "--half", "true")
    if wanted("prior_straight", only) and not STRAIGHT.exists():
        config = CONFIGS / "prior_straight.yaml"
        first = train(config, "cifar10/prior_straight")
        small = ("--data", PARTS / "data.yaml", "--trainer.max_epochs", 2, "--ema_decay", 0.998)
        last = train(config, "cifar10/prior_straight-continued", *small, "--adapt_from", first)
        publish(last, STRAIGHT.with_suffix(""), "--half", "true")


def train_stages(only: list[str] | None, precision: str) -> None:
    """Trains the densities over maps and over pooled vectors, unless their exported weights are there."""
    for stage in STAGED:
        if wanted(stage.name, only) and not stage.weights.exists():
            options: tuple[object, ...] = ("--trainer.precision", precision, *stage.options)
            last = train(CONFIGS / f"{stage.config}.yaml", f"cifar10/{stage.name}", *options)
            publish(last, stage.weights.with_suffix(""), "--half", "true")


def judged(name: str) -> list[object]:
    """The options of the judges: the subject's own classifier, those that took no part, and the features."""
    own, _, _ = name.partition("-")
    if own in UNSEEN:
        classifier, others = PARTS / f"judges/{own}.yaml", ("resnet20", "resnet56")
    else:
        classifier, others = PARTS / f"{own}.yaml", tuple(each for each in ("resnet20", "resnet56") if each != own)
    judges = [part for other in others for part in (f"--judges.{other}", PARTS / f"{other}.yaml")]
    eyes = {"resnet56", others[0]}
    features = [part for eye in sorted(eyes) for part in (f"--features.{eye}", PARTS / f"{eye}-pooled.yaml")]
    return ["--classifier", classifier, *judges, *unseen(own), *features]


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
    train_priors(only)
    train_stages(only, precision)
    for training in TRAININGS:
        if not wanted(training.name, only):
            continue
        checkpoint = train_inverter(training, precision)
        if training.name in PUBLISHED_AS:
            publish(checkpoint, published(training.name).with_suffix(""), "--half", "true")
        if score_too and not scored(RESULTS / training.name):
            leading = (f"{SCORED}-lambda1-", CALIBRATED, FAITHFUL, BALANCED, MUON)
            leads = training.name.startswith(leading) and "-seed" not in training.name
            many = leads and training.subject.endswith("spatial")
            targets, samples = (2000, 9) if many else (500, 2)
            if not training.subject.startswith("resnet20"):
                targets //= 2
            row = Row(training.name, series=training.series, targets=targets, samples=samples, seed=seed)
            score_run(row, checkpoint, RESULTS, *judged(training.subject))
    for each in SAMPLINGS if score_too else []:
        if wanted(each.row.name, only) and not scored(RESULTS / each.row.name):
            options = (*subject(each.subject), *judged(each.subject), "--seed", seed + each.row.seed)
            score(each.row, CONFIGS, RESULTS, *options)
    if score_too:
        compare_all()


def compare_all() -> None:
    """A table and a figure of each subject's results, and one table across subjects."""
    for own in dict.fromkeys(SUBJECTS.values()):
        compare([RESULTS / name for name in sorted(SUBJECTS) if SUBJECTS[name] == own], RESULTS / own, WORDS)
    residual = [f"{network}-{cut}" for network in ("resnet20", "resnet56") for cut in CUTS]
    done = [RESULTS / name for name in sorted(SUBJECTS) if SUBJECTS[name] in residual]
    aside = (f"{BASE}-continued", MAP, "feedback-resnet20-spatial", "prior_samples-resnet20-spatial")  # near others
    curves = [training.series for training in TRAININGS] + [each.row.series or each.row.name for each in SAMPLINGS]
    compare(done, RESULTS, WORDS, [name for name in curves if name not in aside], across_subjects=True)
    plot_stages(RESULTS, STAGES, METHODS, RESULTS / "stages.png")
    plot_minutes(RESULTS, CURVES, LEVELS, RESULTS / "minutes.png")


if __name__ == "__main__":
    auto_cli(main)
