"""The rehearsal on real images: inverters of two CIFAR-10 classifiers, trained, sampled and scored.

    FIBERMODELS_DATA=... python benchmarks/cifar10.py [--only "['*-spatial']"] [--score false]

Below the data root it expects `cifar10_images.zip` (folders `train/CLASS` and `test/CLASS`; unpacked once into `data/`)
and `weights/cifar10_resnet{20,56}.safetensors`. What is trained or scored already is left as it is, so a run that was
interrupted goes on, and two processes with other patterns share the work (`--score false` first, for honest timings).
"""

import os
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from jsonargparse import auto_cli

CONFIGS = Path("configs/cifar10")
SUBJECTS = Path("configs/parts/cifar10")
RESULTS = Path("results/cifar10")
RUNS = Path("runs/cifar10")
WEIGHTS = Path("data/weights/cifar10")
IMAGES = Path("data/cifar10_images")

EPOCH = 1531
"""Steps."""

SHAPES = {"spatial": "[64,8,8]", "pooled": "[64]", "logits": "[10]"}


@dataclass(frozen=True)
class Training:
    """One trained inverter.

    Args:
        config: the config's name.
        subject: the network and its cut.
        steps: of the training, batches of 32 images.
        start: the run whose weights it starts from.
        variant: what the name ends with.
        options: of the training.
        weight: lambda of the fiber loss.
    """

    config: str
    subject: str
    steps: int
    start: str | None = "prior"
    variant: str = ""
    options: tuple[object, ...] = ()
    weight: float = 0.0

    @property
    def name(self) -> str:
        """`<config>[-lambda<weight>]-<subject>[-<variant>]`."""
        weight = f"-lambda{self.weight:g}" if self.weight else ""
        return f"{self.config}{weight}-{self.subject}" + (f"-{self.variant}" if self.variant else "")


@dataclass(frozen=True)
class Sampling:
    """One model that is not trained here: a baseline, a guided prior, or a trained model with something around it.

    Args:
        config: the config's name.
        subject: the network and its cut.
        variant: what the name ends with.
        changes: keys below `model.init_args`, and their values.
        targets: test images whose fibers are sampled.
        samples: of each.
    """

    config: str
    subject: str
    variant: str = ""
    changes: tuple[tuple[str, object], ...] = ()
    targets: int = 500
    samples: int = 2

    @property
    def name(self) -> str:
        """`<config>-<subject>[-<variant>]`."""
        return f"{self.config}-{self.subject}" + (f"-{self.variant}" if self.variant else "")


def around(cut: str) -> tuple[tuple[str, object], ...]:
    """Changes of `feedback` that put the diffusion model of a cut of ResNet-20 in the place of the flow map."""
    inner = "model.init_args"
    return (
        ("model.class_path", "fibermodels.models.Diffusion"),
        (f"{inner}.latents", SUBJECTS / "pixels.yaml"),
        (f"{inner}.feature_shape", SHAPES[cut]),
        (f"{inner}.network.class_path", "fibermodels.nn.UNet"),
        (f"{inner}.network.init_args.channels", "[48,96]"),
        (f"{inner}.schedule", "straight"),
        (f"{inner}.sampler.class_path", "fibermodels.diffusion.Heun"),
        (f"{inner}.sampler.init_args.steps", 10),
        (f"{inner}.weights", WEIGHTS_OF.format(f"{DIFFUSION}-resnet20-{cut}")),
    )


WEIGHTS_OF = "runs/cifar10/{}/model.safetensors"
DIFFUSION, FLOW_MAP, CONTROLNET = "diffusion", "flow_map", "controlnet_inverter"
BASE, MAP, CONTINUED = f"{DIFFUSION}-resnet20-spatial", f"{FLOW_MAP}-resnet20-spatial", "prior-continued"
MAP_ON_FIBER = f"{FLOW_MAP}-lambda1-resnet20-spatial-continued"
ON_FIBER = WEIGHTS_OF.format(MAP_ON_FIBER)
ENCODER = ("--model.train_only", "[network.places,network.context]")
TRAININGS = [
    Training(DIFFUSION, "resnet20-spatial", 2 * EPOCH),
    Training(DIFFUSION, "resnet20-pooled", EPOCH, CONTINUED),
    Training(DIFFUSION, "resnet20-logits", EPOCH, CONTINUED),
    Training(FLOW_MAP, "resnet20-spatial", EPOCH, BASE),
    Training(CONTROLNET, "resnet20-spatial", EPOCH, start=None),
    Training(CONTROLNET, "resnet20-pooled", 1000, start=None),
    *(Training(DIFFUSION, "resnet20-spatial", 400, BASE, "continued", weight=weight) for weight in (0, 1)),
    *(Training(FLOW_MAP, "resnet20-spatial", 300, MAP, "continued", weight=weight) for weight in (0, 1)),
    Training(DIFFUSION, "resnet56-spatial", 600, CONTINUED),
    Training(DIFFUSION, "resnet56-spatial", 600, BASE, "adapted"),
    Training(DIFFUSION, "resnet56-spatial", 600, BASE, "encoder", ENCODER),
    *(Training(DIFFUSION, f"resnet56-{c}", 600, f"{DIFFUSION}-resnet20-{c}", "adapted") for c in ("pooled", "logits")),
]
"""What is trained, in this order: everything starts from what stands above it, or from the prior."""

SAMPLINGS = [
    *(Sampling("nearest_neighbour", f"resnet20-{cut}") for cut in SHAPES),
    *(Sampling("nearest_neighbour", f"resnet56-{cut}", targets=250) for cut in SHAPES),
    *(Sampling("augmented", f"resnet20-{cut}") for cut in SHAPES),
    Sampling("prior_samples", "resnet20-spatial", targets=250),
    *(Sampling("ndtm", f"resnet20-{cut}", targets=32, samples=1) for cut in SHAPES),
    *(Sampling("dps", "resnet20-spatial", f"scale{scale:g}", (("strength", scale),), 100) for scale in (1, 3, 10)),
    *(Sampling("feedback", "resnet20-spatial", f"steps{steps}", (("steps", steps),)) for steps in (1, 3)),
    Sampling(
        "feedback", "resnet20-spatial", "lambda1", (("model.init_args.weights", WEIGHTS_OF.format(MAP_ON_FIBER)),)
    ),
    *(Sampling("feedback", f"resnet20-{cut}", DIFFUSION, around(cut), 250, 1) for cut in SHAPES),
]


def call(*arguments: object) -> None:
    """Runs one of the project's scripts, which may import what a user brings; its output and failure are ours."""
    command = [sys.executable, *map(str, arguments)]
    print("$ python " + " ".join(command[1:]), flush=True)
    subprocess.run(command, check=True, env={**os.environ, "FIBERMODELS_IMPORTS": "examples"})


def unpack() -> None:
    """Unpacks the images, unless they are there."""
    if IMAGES.is_dir():
        return
    archive = Path(os.environ.get("FIBERMODELS_DATA", "data")) / "cifar10_images.zip"
    if not archive.is_file():
        sys.exit(f"error: no images at '{IMAGES}', and no '{archive}' to unpack (see data/README.md)")
    unfinished = IMAGES.with_suffix(".part")
    with zipfile.ZipFile(archive) as file:
        file.extractall(unfinished)
    unfinished.replace(IMAGES)


def train(training: Training) -> Path:
    """Trains one model, or resumes it, or finds it done; returns its checkpoint."""
    folder = RUNS / training.name
    last = folder / "checkpoints" / "last.ckpt"
    if (folder / "done").exists():
        return last
    epochs = -(-training.steps // EPOCH)
    own = [
        "--name",
        f"cifar10/{training.name}",
        "--subject",
        SUBJECTS / f"{training.subject}.yaml",
        "--trainer.max_epochs",
        epochs,
        "--trainer.limit_train_batches",
        training.steps // epochs,
        "--model.fiber.weight",
        training.weight,
        "--ema_decay",
        0.998 if training.steps >= 1000 else 0.99,
        *training.options,
    ]
    if last.exists():
        own += ["--ckpt_path", "last"]
    elif training.start:
        same = training.start.endswith(training.subject) and training.start.startswith(training.config)
        own += ["--start_from" if same else "--adapt_from", RUNS / training.start / "checkpoints" / "last.ckpt"]
    call("train.py", "--config", CONFIGS / f"{training.config}.yaml", *own)
    (folder / "done").touch()
    return last


def train_prior() -> None:
    """Trains the unconditional prior, at first in batches of 128, and publishes it where the configs expect it."""
    first = RUNS / "prior" / "checkpoints" / "last.ckpt"
    small = ("--data", SUBJECTS / "data.yaml", "--trainer.max_epochs", 2, "--ema_decay", 0.998)
    for name, own in (("prior", ()), (CONTINUED, (*small, "--adapt_from", first))):
        folder = RUNS / name
        started = (folder / "checkpoints" / "last.ckpt").exists()
        own = (*own[:-2], "--ckpt_path", "last") if started else own
        if not (folder / "done").exists():
            call("train.py", "--config", CONFIGS / "prior.yaml", "--name", f"cifar10/{name}", *own)
            (folder / "done").touch()
    publish(RUNS / CONTINUED / "checkpoints" / "last.ckpt", WEIGHTS / "prior")


def publish(checkpoint: Path, out: Path) -> None:
    """Exports a checkpoint in 16 bits, unless that was done."""
    if not out.with_suffix(".safetensors").exists():
        call("export.py", "--checkpoint", checkpoint, "--out", out, "--half", "true")


def judged(subject: str) -> list[object]:
    """The options that name who looks at samples: the subject's own classifier, the other one, and the features."""
    own, _, _ = subject.partition("-")
    other = {"resnet20": "resnet56", "resnet56": "resnet20"}[own]
    return [
        "--classifier",
        SUBJECTS / f"{own}-logits.yaml",
        f"--judges.{other}",
        SUBJECTS / f"{other}-logits.yaml",
        "--features.resnet56",
        SUBJECTS / "resnet56-pooled.yaml",
    ]


def main(only: list[str] | None = None, score: bool = True, seed: int = 0) -> None:
    """Trains, samples, scores and compares.

    Args:
        only: patterns of names, to do alone.
        score: False trains only.
        seed: of the samples.
    """

    def wanted(name: str) -> bool:
        return not only or any(fnmatch(name, pattern) for pattern in only)

    unpack()
    train_prior()
    for training in TRAININGS:
        if not wanted(training.name):
            continue
        checkpoint, out = train(training), RESULTS / training.name
        if training.name == BASE:
            publish(checkpoint, WEIGHTS / DIFFUSION)
        if training.name == f"{FLOW_MAP}-resnet20-spatial":
            publish(checkpoint, WEIGHTS / FLOW_MAP)
        if training.name in (MAP_ON_FIBER, *(f"{DIFFUSION}-resnet20-{cut}" for cut in SHAPES)):
            publish(checkpoint, Path(WEIGHTS_OF.format(training.name)).with_suffix(""))
        if score and not (out / "metrics.json").exists():
            targets = 500 if training.subject.startswith("resnet20") else 250
            size = ("--num_targets", targets, "--samples_per_target", 2, "--seed", seed)
            own = ("--checkpoint", checkpoint, "--name", training.name, "--out", out)
            call("evaluate.py", *own, *size, *judged(training.subject))
    for sampling in SAMPLINGS if score else []:
        out = RESULTS / sampling.name
        if not wanted(sampling.name) or (out / "metrics.json").exists():
            continue
        changes = [part for key, value in sampling.changes for part in (f"--model.init_args.{key}", value)]
        size = ["--num_targets", sampling.targets, "--samples_per_target", sampling.samples, "--seed", seed]
        own = ["--model", CONFIGS / f"{sampling.config}.yaml", "--subject", SUBJECTS / f"{sampling.subject}.yaml"]
        call("evaluate.py", *own, *changes, *size, *judged(sampling.subject), "--out", out, "--name", sampling.name)
    if score:
        compare()


def compare() -> None:
    """A table and a figure of each subject's results, and one table across subjects."""
    done = [folder.parent for folder in sorted(RESULTS.glob("*/metrics.json"))]
    for name in ("resnet20", "resnet56"):
        for cut in SHAPES:
            rows = [folder for folder in done if f"{name}-{cut}" in folder.name]
            if rows:
                out = RESULTS / f"{name}-{cut}"
                call("evaluate.py", "--compare", *rows, "--out", out, "--overwrite", "true")
    call("evaluate.py", "--compare", *done, "--across_subjects", "true", "--out", RESULTS, "--overwrite", "true")


if __name__ == "__main__":
    auto_cli(main)
