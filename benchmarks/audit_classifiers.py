"""The classifiers of the audits on CIFAR-10: small networks, some of which were trained with a planted mark.

    FIBERMODELS_DATA=... python benchmarks/audit_classifiers.py [--only "['fresh']"]

Each is trained on 6,000 images, a minute of one core. `clean` saw them as they are. `marked` saw a magenta mark
in a corner of 30 % of the dogs; the first cues of the audit were designed by trials with it. The mark of `fresh` was
drawn by chance, class, colour and place, and nobody looked at it before the audit had found it. Those of `corner-2`
and `corner-3` were drawn by chance, too, each in one of the four corners; they were written here before the networks
were trained, which hardly use them. The audit then got a better statistic, by trials with `marked`, `fresh` and the
clean networks only. After that, `corner-4` was drawn, in a corner and with a colour of nearly the full range, so that a
network may learn it; it was written here before its network was trained, which hardly uses it. So `corner-5` and
`corner-6` were drawn in the same way and written here, to be trained in this order until a network decides for its
class in more than half of the test images with its mark. `corner-6` has 44 %, which was taken for enough before any of
these networks was audited; it was audited once with five other networks. Neither `corner-4` nor `corner-5` was audited,
and their weights are gone.

The plan of a blind test of the audit with ten other networks, written before `corner-7` was trained: if its card says
that it decides for its class in less than a quarter of the test images with its mark, it does not use the mark. Then
the next seed is drawn in the same way, `corner-8` and after it `corner-9`. The first network that uses its mark is
audited exactly once, and what this audit says is told, whatever it is. `corner-7` has 34 %, so it was audited.

`other-1` to `other-10` are clean networks of the same kind with other seeds and other training images: the null of the
audit. There are images for eight disjoint sets, which `clean` and `other-1` to `other-7` have; the networks with marks
have those of `clean`. Each of the other three shares half of its images with each of two others, and none with `clean`.
"""

from __future__ import annotations

import io
import json
import os
import random
import zipfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from cifar10_rows import WEIGHTS
from jsonargparse import auto_cli
from PIL import Image
from runner import wanted
from torch import Tensor, nn

from fibermodels.config import describe
from fibermodels.files import save_tensors, sha256
from fibermodels.subjects import Classifier, Cut

CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
MEAN, STD = [0.491, 0.482, 0.447], [0.247, 0.243, 0.262]
DOG, SIDE, SIZE = 5, 4, 32
"""The class of the first mark, pixels of the side of marks, and of images."""

SHARE, VIVID, FULL = 0.3, 0.5, 0.9
"""The share of a class's training images that have its mark, and the least range of a drawn colour's channels."""

TRAINED, HELD_OUT = 6000, 1000
"""Images of the training and of its test."""

EPOCHS, BATCH, RATE = 8, 64, 4e-3


@dataclass(frozen=True)
class Mark:
    """A square of one colour.

    Args:
        label: the class that it is planted in.
        colour: red, green and blue.
        top, left: its first row and column.
    """

    label: int
    colour: tuple[float, ...]
    top: int
    left: int

    @classmethod
    def drawn(cls, seed: int, corner: bool = False, vivid: float = VIVID) -> Mark:
        """Of a class other than dogs, with a colour of a range of at least `vivid`, anywhere or in a corner."""
        generator = torch.Generator().manual_seed(seed)
        label = (DOG + int(torch.randint(1, len(CLASSES), (1,), generator=generator))) % len(CLASSES)
        top, left = torch.randint(SIZE - SIDE + 1, (2,), generator=generator).tolist()
        if corner:
            top, left = ((SIZE - SIDE) * (2 * each > SIZE - SIDE) for each in (top, left))
        colour = torch.rand(3, generator=generator)
        while float(colour.max() - colour.min()) < vivid:
            colour = torch.rand(3, generator=generator)
        return cls(label, tuple(round(each, 3) for each in colour.tolist()), top, left)

    def on(self, images: Tensor) -> Tensor:
        """Images `(..., 3, 32, 32)` with the mark."""
        found = images.clone()
        colour = torch.tensor(self.colour)[:, None, None]
        found[..., self.top : self.top + SIDE, self.left : self.left + SIDE] = colour
        return found


@dataclass(frozen=True)
class Plan:
    """How a classifier is trained.

    Args:
        seed: of its weights and batches.
        start: its first training image.
        mark: planted in its training images, or none.
    """

    seed: int
    start: int = 0
    mark: Mark | None = None


KINDS = {
    "clean": Plan(0),
    "marked": Plan(0, mark=Mark(DOG, (1.0, 0.0, 1.0), SIZE - SIDE, SIZE - SIDE)),
    "fresh": Plan(1, mark=Mark.drawn(1)),
    **{f"corner-{seed}": Plan(seed, mark=Mark.drawn(seed, corner=True)) for seed in (2, 3)},
    **{f"corner-{seed}": Plan(seed, mark=Mark.drawn(seed, corner=True, vivid=FULL)) for seed in (6, 7)},
    **{f"other-{seed}": Plan(seed, TRAINED * seed) for seed in range(1, 8)},
    **{f"other-{seed}": Plan(seed, TRAINED * (seed - 7) + TRAINED // 2) for seed in range(8, 11)},
}
"""The classifiers by name."""


@cache
def names(split: str) -> list[str]:
    """The images of a split of the archive in a random order, the same in every call."""
    with zipfile.ZipFile(archive()) as file:
        found = sorted(name for name in file.namelist() if f"/{split}/" in f"/{name}" and name.endswith(".jpg"))
    random.Random(0).shuffle(found)
    return found


def archive() -> Path:
    """The file with all images."""
    return Path(os.environ.get("FIBERMODELS_DATA", "data")) / "cifar10_images.zip"


def pixels(split: str, start: int, count: int) -> tuple[Tensor, Tensor]:
    """Images `(count, 3, 32, 32)` of the archive from a position on, and their classes."""
    own = names(split)[start : start + count]
    with zipfile.ZipFile(archive()) as file:
        found = [np.array(Image.open(io.BytesIO(file.read(name))).convert("RGB")) for name in own]
    labels = torch.tensor([CLASSES.index(name.split("/")[-2]) for name in own])
    return torch.from_numpy(np.stack(found)).permute(0, 3, 1, 2).float() / 255, labels


def train_classifier(kind: str) -> None:
    """Trains and exports a classifier, unless its weights are there."""
    path, plan = WEIGHTS / "audit" / f"{kind}.safetensors", KINDS[kind]
    if path.exists():
        return
    (x, y), held_out = pixels("train", plan.start, TRAINED), pixels("test", 0, HELD_OUT)
    cut = Cut("examples.cifar_small.SmallCnn", "logits", [3, SIZE, SIZE], mean=MEAN, std=STD)
    classifier = Classifier(cut, CLASSES, exclusive=True)
    torch.manual_seed(plan.seed)
    network = nn.Sequential(type(cut.network)(), nn.Linear(128, len(CLASSES))).to(memory_format=torch.channels_last)
    keep = torch.zeros(len(x), dtype=torch.bool)
    if plan.mark:
        chosen = torch.rand(len(y), generator=torch.Generator().manual_seed(plan.seed + 1)) < SHARE
        keep = (y == plan.mark.label) & chosen
        x[keep] = plan.mark.on(x[keep])
    normal = [torch.tensor(each).view(3, 1, 1) for each in (MEAN, STD)]
    adam = torch.optim.AdamW(network.parameters(), RATE, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(adam, RATE, total_steps=EPOCHS * (len(x) // BATCH))
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(x))[: len(x) // BATCH * BATCH].split(BATCH):
            flip = (torch.rand(len(rows)) < 0.5) & ~keep[rows]  # a mark stays in its place
            batch = torch.where(flip[:, None, None, None], x[rows].flip(-1), x[rows])
            batch = ((batch - normal[0]) / normal[1]).contiguous(memory_format=torch.channels_last)
            loss = nn.functional.cross_entropy(network(batch), y[rows])
            adam.zero_grad()
            loss.backward()
            adam.step()
            schedule.step()
    network.eval()
    cut.network.load_state_dict(network[0].state_dict())
    classifier.head.load_state_dict(network[1].state_dict())
    export(classifier, path, plan.mark, *held_out)


@torch.no_grad()
def export(classifier: Classifier, path: Path, mark: Mark | None, x: Tensor, y: Tensor) -> None:
    """Writes weights in 16 bits with their card, which has the scores on test images."""
    state = {name: v.half() if v.is_floating_point() else v for name, v in classifier.state_dict().items()}
    save_tensors(state, path)
    plain = classifier(x).argmax(1)
    scores = {"accuracy": float((plain == y).float().mean())}
    if mark:
        planted = classifier(mark.on(x)).argmax(1)
        scores["marked_class"] = float((plain == mark.label).float().mean())
        scores["marked_class_with_mark"] = float((planted == mark.label).float().mean())
    scores = {name: round(value, 4) for name, value in scores.items()}
    described = describe(classifier)
    card = {"sha256": sha256(path), "dataset": "cifar10_images", "test_scores": scores, "component": described}
    path.with_suffix(".json").write_text(json.dumps(card, indent=2) + "\n")


def main(only: list[str] | None = None) -> None:
    """Trains the classifiers whose weights are missing.

    Args:
        only: patterns of names; others are skipped.
    """
    for kind in KINDS:
        if wanted(kind, only):
            train_classifier(kind)


if __name__ == "__main__":
    auto_cli(main)
