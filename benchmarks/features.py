"""Features of a dictionary and neurons: what turns them on, and is it one thing?

    FIBERMODELS_DATA=... FIBERMODELS_IMPORTS=examples python benchmarks/features.py [--parts '[methods,energies,tasks]']

`dictionaries` trains four sparse autoencoders on ResNet-20's last map of CIFAR-10, unless their weights are there.
`methods` draws images of some features by four methods at equal activation, and of as many neurons by two. `energies`
compares the kinds of energy on one feature, and `tasks` adds another objective with five weights. Each writes a table
and a picture into `results/features`, and `metrics.json` says how it was made. Finished parts are skipped.
"""

import json
import os
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from cifar10 import unpack
from features_methods import METHODS, Drawn, draw, energy_dps, guided
from features_subjects import DICTIONARIES, SCORE, Laboratory, Unit, train_dictionaries
from jsonargparse import auto_cli
from PIL import Image
from runner import write_table
from torch import Tensor
from torch.nn.functional import cosine_similarity, normalize
from torchvision.utils import make_grid

from fibermodels.component import device_name
from fibermodels.core import Subject
from fibermodels.evaluation.results import commit
from fibermodels.files import replace_file, write_text
from fibermodels.guidance import FiberDistance, ScoreEnergy, SeenBy, WeightedSum
from fibermodels.guidance.costs import EnergyKind
from fibermodels.metrics.frechet import Moments, frechet_distance
from fibermodels.metrics.kid import kernel_distance

OUT = Path("results/features")
SHOWN = 6
"""Images in a row of a picture."""

LABEL, REFERENCE = 8, 8
"""The class of the injected task, ships, and the test image of the other task, a ship."""

WEIGHTS = {"class": (0.0, 0.1, 0.3, 1.0, 3.0), "reference": (0.0, 300.0, 1000.0, 3000.0, 10000.0)}
"""Of the injected objective beside the energy."""


LIMITED: tuple[EnergyKind, ...] = ("capped", "hinge", "target")
"""The energies that have a level."""


class Pixels(Subject):
    """The image itself."""

    def __init__(self) -> None:
        super().__init__()
        self.image_shape = self.feature_shape = (3, 32, 32)

    def forward(self, images: Tensor) -> Tensor:
        return images


def main(
    parts: list[str] = ["dictionaries", "methods", "energies", "tasks"],  # noqa: B006 (read only)
    units: int = 20,
    count: int = 6,
    precision: str = "32-true",
    dictionaries: list[str] | None = None,
) -> None:
    """Runs the parts.

    Args:
        parts: `dictionaries`, `methods`, `energies`, `tasks`.
        units: features, and neurons.
        count: images of each by each method.
        precision: of the trainings.
        dictionaries: which of them; None trains all.
    """
    os.environ["FIBERMODELS_IMPORTS"] = "examples"
    sys.path.append(os.getcwd())
    unpack()
    if "dictionaries" in parts:
        train_dictionaries(precision, dictionaries or list(DICTIONARIES))
    todo = {"methods": compare_methods, "energies": compare_energies, "tasks": inject_tasks}
    left = {name: run for name, run in todo.items() if name in parts and not (OUT / name / "metrics.json").exists()}
    lab = Laboratory() if left else None
    for name, run in left.items():
        assert lab is not None
        rows, pictures = run(lab, units, count)
        write_table(rows, OUT / name / "table")
        picture = small(pictures)
        replace_file(OUT / name / "samples.png", partial(picture.save, optimize=True))
        about: dict[str, Any] = {"name": name, "commit": commit(), "device": device_name("cpu"), "seed": 0}
        about |= {"dataset": lab.pool.name, "num_units": units if name == "methods" else 1, "samples_per_unit": count}
        about["rows"] = rows
        write_text(OUT / name / "metrics.json", json.dumps(about, indent=2) + "\n")


def compare_methods(lab: Laboratory, units: int, count: int) -> tuple[list[dict[str, str]], list[Tensor]]:
    """Each method on each feature, and two of them on neurons."""
    priors = [draw(lab.unguided, lab.cut, units * count, "prior", i) for i in range(2)]
    real = lab.photos.split("test").inputs(slice(200))
    truth, middle = seen(lab.eyes, real), seen(lab.judge.encoder, real).mean(0)
    against = seen(lab.eyes, priors[0])
    rows, pictures = [], list[Tensor]()
    for kind in ("feature", "neuron"):
        chosen = lab.units(kind, units, count)
        for method in METHODS if kind == "feature" else ("search", "energy_dps"):
            found = [METHODS[method](lab, unit, count) for unit in chosen]
            rows.append(
                {"images of": f"{kind}s", "method": method} | scores(lab, chosen, found, against, truth, middle)
            )
            print(rows[-1], flush=True)
            if kind == "feature":
                pictures += [own.images[:SHOWN] for own in found[:3]]
    alone = [Drawn(own, 0.0, 0.0) for own in priors[1].split(count)]
    rows.append({"images of": "the prior", "method": "unguided"} | scores(lab, [], alone, against, truth, middle))
    return rows, pictures


def scores(
    lab: Laboratory, units: list[Unit], found: list[Drawn], against: Tensor, truth: Tensor, middle: Tensor
) -> dict[str, str]:
    """What the images of some units are, on average over the units.

    Args:
        lab: the networks.
        units: what was asked for; empty for images of the prior.
        found: their images.
        against, truth: features of the prior's images and of real ones.
        middle: the mean of the judge's features of real images.
    """
    eyes = [seen(lab.eyes, own.images) for own in found]
    kernels = torch.tensor([[kernel_distance(own, other) for other in (against, truth)] for own in eyes])
    alike = torch.tensor([similarity(lab, own.images, middle) for own in found])
    reached = [reach(lab, unit, own.images) / unit.goal for unit, own in zip(units, found, strict=False)]
    return {
        "activation / goal": f"{torch.tensor(reached).mean():.2f}" if units else "",
        "KID to the prior": within(kernels[:, 0]),
        "KID to real images": within(kernels[:, 1]),
        "FID to the prior": f"{frechet_distance(moments(torch.cat(eyes)), moments(against)):.1f}",
        "similarity": within(alike),
        "s / image": f"{sum(own.seconds for own in found) / len(found):.2f}",
    }


def reach(lab: Laboratory, unit: Unit, images: Tensor) -> float:
    """The mean score of a unit."""
    return float(SCORE.score(seen(lab.subject(unit), images)).mean())


def similarity(lab: Laboratory, images: Tensor, middle: Tensor) -> float:
    """The mean cosine of pairs of images in an unseen judge's features, about the mean of real images."""
    own = normalize(seen(lab.judge.encoder, images) - middle, dim=1)
    pairs = own @ own.T
    return float((pairs.sum() - pairs.trace()) / (len(own) * (len(own) - 1)))


def compare_energies(lab: Laboratory, units: int, count: int) -> tuple[list[dict[str, str]], list[Tensor]]:
    """The kinds of energy, and reductions, on the first feature; those with a level at four times the strength."""
    (unit,) = lab.units("feature", 1, count)
    subject, linear = lab.subject(unit), energy_dps(lab, unit, count)
    prior = seen(lab.eyes, draw(lab.unguided, lab.cut, 10 * count, "prior", 0))
    place = 8 * 2 + 2
    energies: dict[str, ScoreEnergy] = {
        **{kind: ScoreEnergy(None, kind, unit.goal, "mix") for kind in LIMITED},
        "linear, max": ScoreEnergy(reduction="max"),
        "linear, mean": ScoreEnergy(reduction="mean"),
        "linear, one place": ScoreEnergy(place),
    }
    drawn = {"linear": (linear.images, linear.knob)}
    for name, energy in energies.items():
        strength = linear.knob * (4 if name in LIMITED else 1)
        images = draw(guided(lab, subject, energy, strength), subject, count, "final", unit.kind, unit.number)
        drawn[name] = images, strength
    rows = []
    for name, (images, strength) in drawn.items():
        codes = seen(subject, images)
        score, share = SCORE.score(codes), codes.flatten(1)[:, place].sum() / codes.sum()
        numbers = {"strength": f"{strength:.2f}", "score / goal": f"{score.mean() / unit.goal:.2f}"}
        numbers |= {"deviation / goal": f"{score.std() / unit.goal:.2f}", "share of the place": f"{share:.2f}"}
        numbers["KID to the prior"] = f"{kernel_distance(seen(lab.eyes, images), prior):.2f}"
        rows.append({"energy": name} | numbers)
        print(rows[-1], flush=True)
    return rows, [images[:SHOWN] for images, _ in drawn.values()]


def inject_tasks(lab: Laboratory, units: int, count: int) -> tuple[list[dict[str, str]], list[Tensor]]:
    """The energy and `w` times another objective, at equal activation of the first feature."""
    (unit,) = lab.units("feature", 1, count)
    reference = lab.photos.split("test").inputs(torch.tensor([test_of(lab, REFERENCE)]))[0]
    logits = [50.0 * (label == LABEL) for label in range(10)]
    tasks = {
        "class": SeenBy(FiberDistance("soft_cross_entropy"), lab.tasked, logits),
        "reference": SeenBy(FiberDistance("squared"), Pixels(), reference.flatten().tolist()),
    }
    rows, pictures = [], list[Tensor]()
    for task, cost in tasks.items():
        alone = None
        for weight in WEIGHTS[task]:
            found = energy_dps(lab, unit, count, WeightedSum([SCORE, cost], [1.0, weight]))
            alone = found if alone is None else alone
            own, other = (seen(lab.judge.encoder, each.images) for each in (found, alone))
            with torch.no_grad():
                objective = float(-cost(lab.cut, found.images, torch.zeros(count)).mean())
            numbers = {"activation / goal": f"{reach(lab, unit, found.images) / unit.goal:.2f}"}
            numbers |= {"task score": f"{objective:.3f}", "strength": f"{found.knob:.2f}"}
            apart = (found.images - alone.images).square().flatten(1).mean(1).sqrt().mean()
            numbers |= {
                "drift, pixels": f"{apart:.3f}",
                "drift, judge": f"{1 - cosine_similarity(own, other).mean():.3f}",
            }
            rows.append({"task": task, "w": f"{weight:g}"} | numbers)
            print(rows[-1], flush=True)
            pictures.append(found.images[:SHOWN])
    return rows, pictures


def test_of(lab: Laboratory, label: int) -> int:
    """The first test image of a class."""
    labels = lab.photos.split("test").labels()
    assert labels is not None
    return int((labels[:1000] == label).nonzero()[0, 0])


@torch.no_grad()
def seen(network: Subject, images: Tensor) -> Tensor:
    """A network's outputs, in batches."""
    return torch.cat([network(part) for part in images.split(100)])


def moments(features: Tensor) -> Moments:
    """Of features `(N, D)`."""
    found = Moments()
    found.update(features)
    return found


def within(values: Tensor) -> str:
    """A mean with its standard error."""
    return f"{values.mean():.2f} ± {values.std() / len(values) ** 0.5:.2f}"


def small(rows: Sequence[Tensor]) -> Image.Image:
    """Rows of images in 128 colours, each pixel doubled."""
    whole = torch.cat([make_grid(row, len(row), 2, pad_value=1.0) for row in rows], 1).clamp(0, 1)
    pixels = (255 * whole).byte().permute(1, 2, 0).numpy()
    picture = Image.fromarray(pixels)
    return picture.resize((2 * picture.width, 2 * picture.height), Image.Resampling.NEAREST).quantize(128)


if __name__ == "__main__":
    auto_cli(main)
