"""Coarse codes as exact truth: samples against held-out images of the same cell, and against the training set.

    FIBERMODELS_DATA=... python benchmarks/cifar10_cells.py [--only "['best']"]

`c(h)` is the nearest of 64 centres of ResNet-20's last maps, by k-means of maps of training images. If a model is
right, a sample for a target in a cell has the law of all images of that cell, so held-out images of the cell are exact
draws: no model of the law is needed. For each cell, the energy distance between one sample of each target there and the
other test images there is tested by permutations, in the pooled features of ResNet-56, which took no part in training.
The same test between the targets and those images is the floor: .05 of these cells are rejected by chance.

`copied` tells memorising: the mean distance, in pixels, of the samples to their nearest training image over that of the
targets to theirs. It is near 1 for new images and 0 for copies.
"""

import json

import torch
from cifar10 import unpack
from cifar10_rows import PARTS, RESULTS
from jsonargparse import auto_cli
from runner import wanted
from sklearn.cluster import MiniBatchKMeans
from torch import Tensor

from fibermodels.component import device_name
from fibermodels.core import FiberModel, Remembers, Subject
from fibermodels.evaluation.building import build, network
from fibermodels.evaluation.results import commit
from fibermodels.noise import seeded

CELLS, FITTED, TARGETS, PERMUTATIONS, LEVEL = 64, 10_000, 2000, 199, 0.05
"""Cells, training images that the centres are fitted to, targets, permutations of a test, and its level."""

MODELS = {
    "best": "best",
    "refined": "refined",
    "calibrated": "calibrated",
    "nearest_neighbour": "nearest_neighbour",
    "mirror": "augmented",
}
"""Rows and their configs in `configs/cifar10/`."""


@torch.no_grad()
def seen(subject: Subject, images: Tensor) -> Tensor:
    """Flat representations `(N, D)` of images."""
    return torch.cat([subject(part).flatten(1) for part in images.split(250)])


def distance(a: Tensor, b: Tensor) -> tuple[float, float]:
    """The energy distance of two sets of vectors and its permutation p-value (Szekely & Rizzo, 2013)."""
    both, n = torch.cat((a, b)), len(a)
    between = torch.cdist(both, both)
    generator = seeded("cells", len(a), len(b))
    orders = [torch.arange(len(both))] + [torch.randperm(len(both), generator=generator) for _ in range(PERMUTATIONS)]
    weights = torch.full((len(orders), len(both)), -1 / len(b))
    for row, order in zip(weights, orders, strict=True):
        row[order[:n]] = 1 / n
    found = -((weights @ between) * weights).sum(1)
    return found[0].item(), (found >= found[0] - 1e-9).double().mean().item()


def cell_tests(own: Tensor, others: Tensor, cells: Tensor, other_cells: Tensor) -> dict[str, float]:
    """The mean energy distance over cells, weighted by their targets, and the share of cells that the test rejects.

    Args:
        own, others: features `(N, D)` and `(M, D)`.
        cells, other_cells: their cells, `(N,)` and `(M,)`. Cells with fewer than five of either are left out.
    """
    sizes, found = [], []
    for cell in range(CELLS):
        a, b = own[cells == cell], others[other_cells == cell]
        if min(len(a), len(b)) >= 5:
            sizes.append(len(a))
            found.append(distance(a, b))
    weights = torch.tensor(sizes, dtype=torch.double)
    distances, p = torch.tensor(found, dtype=torch.double).T
    return {
        "cells": len(sizes),
        "cell_distance": ((weights * distances).sum() / weights.sum()).item(),
        "cells_rejected": (p <= LEVEL).double().mean().item(),
    }


def nearest(images: Tensor, training: Tensor) -> float:
    """The mean root mean square distance of images to their nearest training image."""
    flat, least = images.flatten(1), []
    for part in flat.split(500):
        distances = torch.stack([torch.cdist(part, block.flatten(1).float() / 255).amin(1) for block in training])
        least.append(distances.amin(0))
    return (torch.cat(least).mean() / flat.shape[1] ** 0.5).item()


@torch.no_grad()
def drawn(model: FiberModel, h: Tensor, x: Tensor, seed: int) -> Tensor:
    """One sample of each target."""
    parts = zip(h.split(100), x.split(100), strict=True)
    generator = torch.Generator().manual_seed(seed)
    return torch.cat([model.sample(a, 1, generator, b)[0] for a, b in parts]).clamp(0, 1)


def main(only: list[str] | None = None, targets: int = TARGETS, seed: int = 0) -> None:
    """Tests and writes `results/cifar10/cells.json`; rows that are there already stay.

    Args:
        only: patterns of the rows' names.
        targets: test images whose fibers are sampled, one sample each; the other test images are the truth.
        seed: of the centres and the samples.
    """
    unpack()
    file = RESULTS / "cells.json"
    rows = json.loads(file.read_text()) if file.exists() else {}
    eye = network("eye", str(PARTS / "resnet56-pooled.yaml")).eval()
    _, subject, data, _ = build(None, "configs/cifar10/nearest_neighbour.yaml", [])
    images = {split: data.split(split) for split in ("train", "test")}
    order = torch.randperm(len(images["test"]), generator=seeded("cells", seed))
    test = images["test"].inputs(order)
    train = images["train"].inputs(torch.arange(len(images["train"])))
    fitted = seen(subject, train[torch.randperm(len(train), generator=seeded("centres", seed))[:FITTED]])
    centres = MiniBatchKMeans(CELLS, random_state=seed, n_init=3, batch_size=2048).fit(fitted.numpy()).cluster_centers_
    maps = seen(subject, test)
    cells = torch.cdist(maps, torch.from_numpy(centres).float()).argmin(1)
    truth, x = seen(eye, test[targets:]), test[:targets]
    h = maps[:targets].unflatten(1, tuple(subject.feature_shape))
    blocks = (255 * train).round().byte().split(4900)
    floor, own_distance = cell_tests(seen(eye, x), truth, cells[:targets], cells[targets:]), nearest(x, blocks)
    for name, config in MODELS.items():
        if not wanted(name, only) or name in rows:
            continue
        changes = ["--model.init_args.scale", "[1.0, 1.0]", "--model.init_args.flip", "1.0"] if name == "mirror" else []
        model, *_ = build(None, f"configs/cifar10/{config}.yaml", changes)
        if isinstance(model, Remembers):
            model.remember(images["train"], seen(subject, train).unflatten(1, tuple(subject.feature_shape)))
        samples = drawn(model.eval(), h, x, seed)
        found = cell_tests(seen(eye, samples), truth, cells[:targets], cells[targets:])
        rows[name] = {
            **found,
            **{f"{key}_floor": value for key, value in floor.items() if key != "cells"},
            "copied": nearest(samples, blocks) / own_distance,
            "on_cell": (
                torch.cdist(seen(subject, samples), torch.from_numpy(centres).float()).argmin(1) == cells[:targets]
            )
            .double()
            .mean()
            .item(),
            "targets": targets,
            "seed": seed,
            "commit": commit(),
            "device": device_name("cpu"),
        }
        file.write_text(json.dumps(rows, indent=2) + "\n")
        print(name, rows[name], flush=True)


if __name__ == "__main__":
    auto_cli(main)
