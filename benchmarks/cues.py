"""Shape or texture: which of two contradicting cues do the fibers of a classifier keep?

    FIBERMODELS_DATA=... python benchmarks/cues.py [--num_targets 500]

Thick digits are filled with one of ten gratings. Two small networks of one kind learn ten classes: for `shape` the
grating is drawn by itself and the label is the digit; for `texture` it goes with the digit, so both cues predict the
label. Targets have contradicting cues. Their fibers, at the pooled features and at the logits, are the nearest of 20000
other images, whose digits and gratings are known: no judge is needed. A sample may keep the digit, the grating, both or
neither; the preference for shape is the share of those with the digit among those with exactly one of the two
(`metrics.shape_texture`). `pixels` are the nearest images themselves. Results are in `results/cues`; they take two
minutes of one core.
"""

import json
import math
from dataclasses import dataclass

import torch
from jsonargparse import auto_cli
from runner import shrink
from torch import Tensor, nn
from trained import ROOT

from fibermodels.component import device_name, fingerprint
from fibermodels.core import FiberSamples, Subject
from fibermodels.data.digits import load_labelled
from fibermodels.evaluation.results import Metrics, commit, save
from fibermodels.evaluation.scoring import score
from fibermodels.evaluation.tables import markdown, number
from fibermodels.files import write_text
from fibermodels.metrics.shape_texture import cue_preference
from fibermodels.models import NearestNeighbour
from fibermodels.noise import seeded
from fibermodels.subjects import Live

RESULTS = ROOT / "results/cues"
CLASSES, ANGLES, PERIODS, DARKEST, SIZE = 10, 5, (3.5, 7.0), 0.25, 28
"""Kinds of shapes and of gratings: angles times periods in pixels; the least light inside; and pixels."""

TRAINED, KNOWN, SAMPLES, UPDATES, BATCH, RATE = 10_000, 20_000, 8, 600, 64, 2e-3
"""Images of the training and of the search, samples of each target, and steps of the training, their images, rate."""


@dataclass(frozen=True)
class Stimuli:
    """Images `(N, 1, 28, 28)` in [0, 1], their digits and their gratings, `(N,)` each."""

    x: Tensor
    shape: Tensor
    texture: Tensor


def gratings(kind: Tensor, phase: Tensor) -> Tensor:
    """Gratings `(N, 1, 28, 28)` in [.25, 1] of kinds 0 to 9 and phases in [0, 1), `(N,)` each."""
    v, u = torch.meshgrid(torch.arange(SIZE).float(), torch.arange(SIZE).float(), indexing="ij")
    angle, period = math.pi * (kind % ANGLES) / ANGLES, torch.tensor(PERIODS)[kind // ANGLES]
    along = u * angle.cos()[:, None, None] + v * angle.sin()[:, None, None]
    wave = torch.sin(2 * math.pi * (along / period[:, None, None] + phase[:, None, None]))
    return (DARKEST + (1 - DARKEST) * (0.5 + 0.5 * wave))[:, None]


def stimuli(split: str, first: int, count: int, agree: bool = False) -> Stimuli:
    """Digits of a split in order, made thick and filled; with `agree` the grating has the number of the digit."""
    digits, labels = load_labelled("mnist", split)  # type: ignore[arg-type]
    digits, labels = digits[first : first + count], labels[first : first + count]
    drawn = torch.rand(2, len(digits), generator=seeded("cues", split, first))
    kinds = labels if agree else (CLASSES * drawn[0]).long()
    thick = nn.functional.max_pool2d(digits, 3, 1, 1)
    return Stimuli(thick * gratings(kinds, drawn[1]), labels, kinds)


def network() -> nn.Sequential:
    """Two strided convolutions, their means over places, and a linear layer."""
    return nn.Sequential(
        *(nn.Conv2d(1, 24, 5, 2, 2), nn.ReLU(), nn.Conv2d(24, 48, 5, 2, 2), nn.ReLU()),
        *(nn.Conv2d(48, 48, 3, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten()),
        *(nn.Linear(192, 48), nn.ReLU(), nn.Linear(48, CLASSES)),
    )


def learned(data: Stimuli) -> nn.Sequential:
    """The network after training on the digits' labels."""
    torch.manual_seed(0)
    model = network()
    adam = torch.optim.AdamW(model.parameters(), RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(adam, RATE, total_steps=UPDATES)
    for rows in torch.randint(len(data.x), (UPDATES, BATCH), generator=seeded("cues", "batches")):
        loss = nn.functional.cross_entropy(model(data.x[rows]), data.shape[rows])
        adam.zero_grad()
        loss.backward()
        adam.step()
        schedule.step()
    return model.eval().requires_grad_(False)


class Pixels(Subject):
    """The image itself, as a vector: what the search finds without a network."""

    def __init__(self) -> None:
        super().__init__()
        self.image_shape, self.feature_shape = (1, SIZE, SIZE), (SIZE * SIZE,)
        self.freeze()

    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1)


def subjects() -> dict[str, Subject]:
    """Both networks at both layers, and the pixels."""
    found: dict[str, Subject] = {"pixels": Pixels()}
    for name in ("shape", "texture"):
        model = learned(stimuli("train", 0, TRAINED, agree=name == "texture"))
        for layer in ("pooled", "logits"):
            found[f"{name}-{layer}"] = Live(model, layer, [1, SIZE, SIZE])
    return found


@torch.no_grad()
def fibers(name: str, subject: Subject, targets: Stimuli, known: Stimuli) -> tuple[FiberSamples, Metrics]:
    """Samples of the targets' fibers, and which cues they keep; for logits, which cues the network decides for."""
    h = subject(targets.x)
    model = NearestNeighbour().remember(known.x, torch.cat([subject(part) for part in known.x.split(1000)]))
    _, index = model.nearest(h, SAMPLES)
    x_hat = model.pictures(index.T)
    samples = FiberSamples(targets.x, h, x_hat, torch.stack([subject(slot) for slot in x_hat]))
    shape, texture = (kept[index.T] == own for kept, own in zip(pair(known), pair(targets), strict=True))
    only = shape ^ texture
    values: Metrics = {"kept_shape": share(shape), "kept_texture": share(texture), "kept_one": share(only)}
    values["shape_preference"] = share(shape[only]) if only.any() else None
    if name.endswith("logits"):
        decided = cue_preference(h.argmax(1), torch.stack(pair(targets), 1))
        values |= {f"{key}_targets": round(value, 6) for key, value in decided.items()}
    for digit in range(CLASSES):
        mine = (targets.shape == digit) & only
        values[f"shape_preference_{digit}"] = share(shape[mine]) if mine.any() else None
    return samples, score(samples) | values


def pair(of: Stimuli) -> tuple[Tensor, Tensor]:
    """Digits and gratings."""
    return of.shape, of.texture


def share(of: Tensor) -> float:
    """Of true entries."""
    return round(float(of.float().mean()), 6)


def main(num_targets: int = 500) -> None:
    """Trains both networks, searches the fibers, and writes results, `preference.md` and `classes.md`.

    Args:
        num_targets: test images, before those whose cues agree by chance are left out.
    """
    test = stimuli("test", 0, num_targets)
    conflict = test.shape != test.texture
    targets = Stimuli(test.x[conflict], test.shape[conflict], test.texture[conflict])
    known = stimuli("train", TRAINED, KNOWN)
    rows: dict[str, Metrics] = {}
    for name, subject in subjects().items():
        samples, values = fibers(name, subject, targets, known)
        rows[name] = {
            "name": name,
            "family": "NearestNeighbour",
            "fiber_weight": 0.0,
            "dataset": "cues",
            "subject": fingerprint(subject),
            "num_targets": len(targets.x),
            "samples_per_target": SAMPLES,
            "seed": 0,
            "device": device_name("cpu"),
            "commit": commit(),
            **values,
        }
        save(RESULTS / name, samples, rows[name])
        shrink(RESULTS / name / "samples.png")
        print(f"{name}: {values}", flush=True)
    tables(rows)


def tables(rows: dict[str, Metrics]) -> None:
    """Writes the cues that are kept, and the preference for shape by digit."""

    def cell(row: Metrics, key: str) -> str:
        value = row.get(key)
        return f"{100 * float(value):.0f} %" if value is not None else ""

    keys = ("shape_accuracy_targets", "texture_accuracy_targets", "kept_shape", "kept_texture", "shape_preference")
    titles = ["network and layer", "decides for shape", "for texture", "samples keep shape", "keep texture"]
    lines = [
        [name.replace("-", ", "), *(cell(row, key) for key in keys), number(float(row["fiber_rms"] or 0))]
        for name, row in rows.items()
    ]
    write_text(RESULTS / "preference.md", markdown([*titles, "preference for shape", "fiber RMS"], lines))
    digits = [f"shape_preference_{digit}" for digit in range(CLASSES)]
    lines = [[name.replace("-", ", "), *(cell(row, key) for key in digits)] for name, row in rows.items()]
    write_text(RESULTS / "classes.md", markdown(["network and layer", *map(str, range(CLASSES))], lines))
    write_text(RESULTS / "metrics.json", json.dumps({"rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    auto_cli(main)
