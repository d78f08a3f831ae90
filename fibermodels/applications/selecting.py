"""Which few members of a fiber are worth looking at: the ones that stand for all others.

Of `n` samples, `k` are chosen in the features of a judge, or in pixels averaged to 8 x 8 squares: the medoids, which
are near to many samples, or the farthest points, which are far from one another. The figure of merit is the mean
distance of other samples of the fiber from the nearest of the chosen ones; its null chooses at random.

References: k-medoids by alternation, Park & Jun, Expert Systems with Applications 36 (2009) 3336; farthest points,
Gonzalez, Theoretical Computer Science 38 (1985) 293.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from fibermodels.applications.drawing import fibers, representations
from fibermodels.applications.finding import Finding, Merit, Strip
from fibermodels.checks import check_choice, check_numbers
from fibermodels.core import FiberModel, Subject
from fibermodels.noise import seeded

Method = Literal["medoids", "farthest"]

SQUARES, DRAWS, SHOWN = 8, 50, 8
"""Squares of a side, random choices for the null, and targets in a picture."""


@dataclass(frozen=True, repr=False)
class Selection(Finding):
    """Members of fibers that stand for the others.

    Args:
        images: the targets `(B, C, H, W)`.
        samples: the chosen ones, `(k, B, C, H, W)`, the one for the most samples first.
        shares: of all samples, of which each is the nearest chosen one, `(k, B)`.
        distance: the mean distance of unseen samples from the nearest chosen one, `(B,)`.
        random: the same for random choices, `(B,)`.
    """

    question = "Which members of the fiber are worth looking at?"

    images: Tensor
    samples: Tensor
    shares: Tensor
    distance: Tensor
    random: Tensor

    @property
    def merits(self) -> list[Merit]:
        meaning = (
            "The mean distance of other samples of the fiber from the nearest chosen one, in the judge's features; the "
            "null chooses as many at random."
        )
        return [Merit("distance to the chosen", float(self.distance.mean()), float(self.random.mean()), meaning)]

    def strips(self) -> list[Strip]:
        return [
            Strip(
                f"image {i + 1}",
                torch.cat((image[None], self.samples[:, i])),
                ["image", *(f"for {100 * float(share):.0f} %" for share in self.shares[:, i])],
            )
            for i, image in enumerate(self.images[:SHOWN])
        ]


def select(
    model: FiberModel,
    subject: Subject,
    images: Tensor,
    k: int = 4,
    n: int = 100,
    judge: Subject | None = None,
    method: Method = "medoids",
    seed: int = 0,
) -> Selection:
    """Chooses the members of each fiber that stand for the others.

    Args:
        model: samples the fibers.
        subject: the network.
        images: the targets `(B, C, H, W)` in [0, 1].
        k: how many.
        n: samples from which they are chosen; as many others measure the distance.
        judge: a network in whose features samples are compared; None compares averaged pixels.
        method: `medoids` or `farthest`.
        seed: of the samples.

    Raises:
        ValueError: no images for the subject, or a number out of its range.
    """
    check_choice("select", "method", method, get_args(Method))
    check_numbers("select", {"k": k}, least=1)
    check_numbers("select", {"n": n}, least=k)
    drawn = fibers(model, subject, images, 2 * n, seed).x_hat
    features = described(drawn, judge).transpose(0, 1)  # (B, 2 n, D)
    among = torch.cdist(features[:, :n], features[:, :n])
    across = torch.cdist(features[:, n:], features[:, :n])  # others to those that can be chosen
    choose = medoids if method == "medoids" else farthest
    chosen = torch.stack([choose(own, k) for own in among])  # (B, k)
    rows = torch.arange(len(images))
    nearby = [own[:, picked].argmin(1) for own, picked in zip(among, chosen, strict=True)]
    shares = torch.stack([torch.bincount(own, minlength=k) for own in nearby])
    order = shares.argsort(1, descending=True)
    chosen, shares = chosen.gather(1, order), shares.gather(1, order)
    generator = seeded("select", seed)
    by_chance = [
        nearest(across, torch.stack([torch.randperm(n, generator=generator)[:k] for _ in rows])) for _ in range(DRAWS)
    ]
    samples = torch.stack([drawn[chosen[:, j], rows] for j in range(k)])
    return Selection(images, samples, shares.T / n, nearest(across, chosen), torch.stack(by_chance).mean(0))


def described(images: Tensor, judge: Subject | None) -> Tensor:
    """Vectors `(n, B, D)` of images `(n, B, C, H, W)`: a judge's features, or averaged pixels."""
    if judge is not None:
        return representations(judge, images).flatten(2)
    height, width = (min(SQUARES, side) for side in images.shape[-2:])
    return adaptive_avg_pool2d(images.flatten(0, 1), (height, width)).flatten(1).unflatten(0, images.shape[:2])


def nearest(distances: Tensor, chosen: Tensor) -> Tensor:
    """The mean distance `(B,)` of points to the nearest of the chosen ones `(B, k)`, from distances `(B, m, n)`."""
    return distances.gather(2, chosen[:, None].expand(-1, distances.shape[1], -1)).amin(2).mean(1)


def farthest(distances: Tensor, k: int) -> Tensor:
    """Indices `(k,)`: the point nearest to all, then again and again the one farthest from those before, for distances
    `(n, n)`."""
    found = [int(distances.sum(0).argmin())]
    while len(found) < k:
        found.append(int(distances[:, found].amin(1).argmax()))
    return torch.tensor(found)


def medoids(distances: Tensor, k: int, steps: int = 100) -> Tensor:
    """Indices `(k,)` of the points that lower the sum of all distances to the nearest one, for distances `(n, n)`: from
    the greedy choice on, each becomes the medoid of the points that it is nearest to, until nothing changes."""
    found: list[int] = []
    least = torch.full((len(distances),), torch.inf)
    for _ in range(k):
        found.append(int(torch.minimum(least[:, None], distances).sum(0).argmin()))
        least = torch.minimum(least, distances[:, found[-1]])
    for _ in range(steps):
        own = distances[:, found].argmin(1)
        moved = []
        for j, before in enumerate(found):
            group = (own == j).nonzero()[:, 0]
            moved.append(int(group[distances[group][:, group].sum(0).argmin()]) if len(group) else before)
        if moved == found:
            break
        found = moved
    return torch.tensor(found)
