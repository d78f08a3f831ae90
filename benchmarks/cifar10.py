"""The rehearsal on real images: inverters of two CIFAR-10 classifiers, trained, sampled and scored.

    FIBERMODELS_DATA=... python benchmarks/cifar10.py [--only '[*-spatial]'] [--score false]

Below the data root it expects `cifar10_images.zip` (folders `train/CLASS` and `test/CLASS`; unpacked once into `data/`)
and `weights/cifar10_resnet{20,56}.safetensors`. What is trained or scored already is left as it is, so a run that was
interrupted goes on, and two processes with other patterns share the work (`--score false` first, for honest timings).
"""

import os
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

CONFIGS = Path("configs/cifar10")
SUBJECTS = Path("configs/parts/cifar10")
RESULTS = Path("results/cifar10")
RUNS = Path("runs/cifar10")
WEIGHTS = Path("data/weights/cifar10")
IMAGES = Path("data/cifar10_images")

SHAPES = {"spatial": "[64,8,8]", "pooled": "[64]", "logits": "[10]"}
FIBER = ("--model.fiber.init_args.weight",)


@dataclass(frozen=True)
class Training:
    """One trained inverter.

    Args:
        config: the config's name.
        subject: the network and its cut.
        epochs: of the training.
        start: the run whose weights it starts from.
        variant: what the name ends with.
        options: of the training.
        weight: lambda of the fiber loss.
    """

    config: str
    subject: str
    epochs: int
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
    targets: int = 1000
    samples: int = 2

    @property
    def name(self) -> str:
        """`<config>-<subject>[-<variant>]`."""
        return f"{self.config}-{self.subject}" + (f"-{self.variant}" if self.variant else "")


DIFFUSION, FLOW_MAP, CONTROLNET = "representation_diffusion", "representation_flow_map", "controlnet_inverter"
SPATIAL = f"{DIFFUSION}-resnet20-spatial"
ENCODER = "--train_only=[network.places,network.context]"
TRAININGS = [
    *(Training(DIFFUSION, f"resnet20-{cut}", epochs) for cut, epochs in (("spatial", 3), ("pooled", 2), ("logits", 2))),
    *(Training(DIFFUSION, f"resnet56-{cut}", epochs) for cut, epochs in (("spatial", 2), ("pooled", 1), ("logits", 1))),
]
SAMPLINGS: list[Sampling] = []


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
