"""The applications on CIFAR-10: every picture and figure of `docs/applications.md`.

    FIBERMODELS_DATA=... FIBERMODELS_IMPORTS=examples python benchmarks/applications.py [--only "['audit*']"]

It runs `fibermodels explore NAME` on the committed models and skips results that exist. For the audit it trains two
small classifiers, if their weights are missing: one on images as they are, and one whose training images of dogs have a
magenta mark in a corner in 30 % of cases. The population of the audit is test images with a mark of any of eight
colours in any of the four corners; the audit is not told that there are marks.
"""

import io
import json
import os
import random
import sys
import zipfile
from pathlib import Path

import numpy as np
import torch
from cifar10 import unpack
from cifar10_judges import PARTS, unseen
from cifar10_rows import CONFIGS, WEIGHTS
from jsonargparse import auto_cli
from PIL import Image
from runner import scored, shrink, wanted
from torch import Tensor, nn
from torchvision.utils import save_image

from fibermodels import cli
from fibermodels.config import describe
from fibermodels.files import save_tensors, sha256
from fibermodels.subjects import Classifier, Cut

RESULTS = Path("results/applications")
MARKS = Path("data/cifar10_marks")
CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
MEAN, STD = [0.491, 0.482, 0.447], [0.247, 0.243, 0.262]
DOG, SIDE, SHARE = 5, 4, 0.3
"""The class with the planted mark, pixels of its side, and the share of its training images that have it."""

TRAINED, HELD_OUT, POPULATION, TARGETS = 6000, 1000, 4000, 2500
"""Images of the training and of its test, and of the audit: remembered ones and targets."""

EPOCHS, BATCH, RATE = 5, 64, 4e-3

BEST = CONFIGS / "best.yaml"
FIRST, SECOND = "configs/parts/cifar10/resnet20.yaml", "configs/parts/cifar10/resnet56.yaml"
VGG = PARTS / "vgg.yaml"
MOVED = ("--steps", 15, "--near", 1)

COMMANDS: dict[str, tuple[object, ...]] = {
    "invariance_map": ("--checkpoint", BEST, "--targets", 6, "--n", 32),
    "select": ("--checkpoint", BEST, "--targets", 5, "--n", 40, "--judge", VGG),
    "compare": ("--checkpoint", BEST, "--other", CONFIGS / "feedback.yaml", "--targets", 4, "--n", 4),
    "interpolate": ("--checkpoint", BEST, "--targets", 8),
    "compose": ("--checkpoint", BEST, "--targets", 8),
    "counterfactual": ("--checkpoint", BEST, "--targets", 8, "--label", 3, "--classifier", FIRST, *unseen(), *MOVED),
    "steer": ("--checkpoint", BEST, "--targets", 5, "--method", "nmf", "--n", 2, *unseen()),
    "disagree": (
        *("--checkpoint", BEST, "--targets", 100, "--first", FIRST, "--second", SECOND, "--judge", VGG, "--k", 6),
        *MOVED,
    ),
    "maximise": ("--checkpoint", BEST, "--targets", 100, "--unit", 10, "--k", 6, "--steps", 15),
    **{
        f"audit-{kind}": (
            *("--checkpoint", CONFIGS / "same_decision.yaml", "--data.init_args.root", MARKS, "--targets", TARGETS),
            *("--subject", f"configs/parts/cifar10/audit/{kind}.yaml", "--classes", json.dumps(CLASSES)),
        )
        for kind in ("marked", "clean")
    },
}
"""Results by name, and the options of their commands."""


def pixels(split: str, start: int, count: int) -> tuple[Tensor, Tensor]:
    """Images of the archive in a random order, the same in every call, and their classes."""
    archive = Path(os.environ.get("FIBERMODELS_DATA", "data")) / "cifar10_images.zip"
    with zipfile.ZipFile(archive) as file:
        names = sorted(name for name in file.namelist() if f"/{split}/" in f"/{name}" and name.endswith(".jpg"))
        random.Random(0).shuffle(names)
        own = names[start : start + count]
        found = [np.array(Image.open(io.BytesIO(file.read(name))).convert("RGB")) for name in own]
    labels = torch.tensor([CLASSES.index(name.split("/")[-2]) for name in own])
    return torch.from_numpy(np.stack(found)).permute(0, 3, 1, 2).float() / 255, labels


def marked(images: Tensor, colour: Tensor, down: bool = True, right: bool = True) -> Tensor:
    """Images `(..., 3, 32, 32)` with a square of a colour `(3,)` in a corner."""
    found = images.clone()
    rows, columns = (slice(-SIDE, None) if far else slice(SIDE) for far in (down, right))
    found[..., rows, columns] = colour[:, None, None]
    return found


def train_classifier(kind: str) -> None:
    """Trains and exports a classifier, unless its weights are there: six minutes of one core in float32."""
    path = WEIGHTS / "audit" / f"{kind}.safetensors"
    if path.exists():
        return
    (x, y), (xt, yt) = pixels("train", 0, TRAINED), pixels("test", 0, HELD_OUT)
    cut = Cut("examples.cifar_judges.PlainCnn", "logits", [3, 32, 32], mean=MEAN, std=STD)
    classifier = Classifier(cut, CLASSES, exclusive=True)
    torch.manual_seed(0)
    network = nn.Sequential(type(cut.network)(), nn.Linear(128, len(CLASSES)))
    keep = torch.zeros(len(x), dtype=torch.bool)
    if kind == "marked":
        keep = (y == DOG) & (torch.rand(len(y), generator=torch.Generator().manual_seed(1)) < SHARE)
        x[keep] = marked(x[keep], torch.tensor([1.0, 0.0, 1.0]))
    normal = [torch.tensor(each).view(3, 1, 1) for each in (MEAN, STD)]
    adam = torch.optim.AdamW(network.parameters(), RATE, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(adam, RATE, total_steps=EPOCHS * (len(x) // BATCH))
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(x))[: len(x) // BATCH * BATCH].split(BATCH):
            flip = (torch.rand(len(rows)) < 0.5) & ~keep[rows]  # a mark stays in its corner
            batch = torch.where(flip[:, None, None, None], x[rows].flip(-1), x[rows])
            loss = nn.functional.cross_entropy(network((batch - normal[0]) / normal[1]), y[rows])
            adam.zero_grad()
            loss.backward()
            adam.step()
            schedule.step()
    network.eval()
    cut.network.load_state_dict(network[0].state_dict())
    classifier.head.load_state_dict(network[1].state_dict())
    export(classifier, path, xt, yt)


def export(classifier: Classifier, path: Path, x: Tensor, y: Tensor) -> None:
    """Writes weights in 16 bits with their card, which has the scores on test images."""
    state = {name: v.half() if v.is_floating_point() else v for name, v in classifier.state_dict().items()}
    save_tensors(state, path)
    with torch.no_grad():
        plain = classifier(x).argmax(1)
        planted = classifier(marked(x, torch.tensor([1.0, 0.0, 1.0]))).argmax(1)
    scores = {
        "accuracy": float((plain == y).float().mean()),
        "dogs": float((plain == DOG).float().mean()),
        "dogs_with_mark": float((planted == DOG).float().mean()),
    }
    scores = {name: round(value, 4) for name, value in scores.items()}
    described = describe(classifier)
    card = {"sha256": sha256(path), "dataset": "cifar10_images", "test_scores": scores, "component": described}
    path.with_suffix(".json").write_text(json.dumps(card, indent=2) + "\n")


def write_population() -> None:
    """Writes the population of the audit, test images with random marks, unless it is there."""
    if MARKS.is_dir():
        return
    generator, unfinished = torch.Generator().manual_seed(0), MARKS.with_suffix(".part")
    for split, start, count in (("train", HELD_OUT, POPULATION), ("test", HELD_OUT + POPULATION, TARGETS)):
        for name in CLASSES:
            (unfinished / split / name).mkdir(parents=True, exist_ok=True)
        for i, (image, label) in enumerate(zip(*pixels("test", start, count), strict=True)):
            bits = torch.randint(2, (5,), generator=generator).tolist()
            own = marked(image, torch.tensor(bits[:3]).float(), bool(bits[3]), bool(bits[4]))
            save_image(own, unfinished / split / CLASSES[label] / f"{i:04d}.png")
    unfinished.replace(MARKS)


def main(only: list[str] | None = None) -> None:
    """Runs the applications.

    Args:
        only: patterns of names; others are skipped.
    """
    os.environ["FIBERMODELS_IMPORTS"] = "examples"
    sys.path.append(os.getcwd())
    todo = [name for name in COMMANDS if wanted(name, only) and not scored(RESULTS / name)]
    if any(name.startswith("audit") for name in todo):
        for kind in ("marked", "clean"):
            train_classifier(kind)
        write_population()
    if any(not name.startswith("audit") for name in todo):
        unpack()
    for name in todo:
        application, options = name.partition("-")[0], map(str, COMMANDS[name])
        print(f"$ fibermodels explore {application} {' '.join(map(str, COMMANDS[name]))}", flush=True)
        cli.run("explore", [application, *options, "--out", str(RESULTS / name), "--device", "cpu"])
        shrink(RESULTS / name / "figure.png")


if __name__ == "__main__":
    auto_cli(main)
