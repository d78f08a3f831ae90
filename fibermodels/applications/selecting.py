"""Which few members of a fiber are worth looking at: the ones that stand for all others.

Of `n` samples, `k` are chosen in the features of a judge, or in pixels averaged to 8 x 8 squares: the medoids, which
are near to many samples, or the farthest points, which are far from one another. The figure of merit is the mean
distance of other samples of the fiber from the nearest of the chosen ones; its null chooses at random. Where the model
has a density over its latent space, the most likely samples can be chosen, too; then the figure of merit is their mean
log density for each dimension. They are what the model holds to be the smoothest, and need not stand for others.

References: k-medoids by alternation, Park & Jun, Expert Systems with Applications 36 (2009) 3336; farthest points,
Gonzalez, Theoretical Computer Science 38 (1985) 293.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from fibermodels.applications.drawing import device_of, fibers, representations
from fibermodels.applications.finding import Finding, Merit, Strip, fidelity
from fibermodels.checks import check_choice, check_numbers
from fibermodels.core import FiberModel, HasLogProb, Subject
from fibermodels.noise import seeded
from fibermodels.trainable import TrainableFiberModel

Method = Literal["medoids", "farthest", "likelihood"]

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
        fidelity: how far the samples are from the fiber.
        density: the mean log density of the chosen samples and of all, in nats for each latent dimension, `(2, B)`;
            None if they were not chosen by it.
    """

    question = "Which members of the fiber are worth looking at?"

    images: Tensor
    samples: Tensor
    shares: Tensor
    distance: Tensor
    random: Tensor
    fidelity: list[Merit]
    density: Tensor | None = None

    @property
    def merits(self) -> list[Merit]:
        meaning = (
            "The mean distance of other samples of the fiber from the nearest chosen one, in the judge's features; the "
            "null chooses as many at random."
        )
        found = [Merit.paired("distance to the chosen", self.distance, self.random, meaning)]
        if self.density is not None:
            meaning = "The mean log density of the chosen samples, in nats for each latent dimension; the null is all."
            found.insert(0, Merit.paired("log density", self.density[0], self.density[1], meaning))
        return [*found, *self.fidelity]

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
        method: `medoids`, `farthest`, or `likelihood` for models with a density.
        seed: of the samples.

    Raises:
        ValueError: no images for the subject, a number out of its range, or a model without a density for `likelihood`.
    """
    check_choice("select", "method", method, get_args(Method))
    check_numbers("select", {"k": k}, least=1)
    check_numbers("select", {"n": n}, least=k)
    found = fibers(model, subject, images, 2 * n, seed)
    drawn = found.x_hat
    features = described(drawn, judge).transpose(0, 1)  # (B, 2 n, D)
    among = torch.cdist(features[:, :n], features[:, :n])
    across = torch.cdist(features[:, n:], features[:, :n])  # others to those that can be chosen
    likely = densities(model, subject, drawn[:n], found.h) if method == "likelihood" else None  # (B, n)
    if likely is not None:
        chosen = likely.topk(k).indices
    else:
        choose = medoids if method == "medoids" else farthest
        chosen = torch.stack([choose(own, k) for own in among])  # (B, k)
    rows = torch.arange(len(images))
    nearby = [own[:, picked].argmin(1) for own, picked in zip(among, chosen, strict=True)]
    shares = torch.stack([torch.bincount(own, minlength=k) for own in nearby])
    order = shares.argsort(dim=1, descending=True, stable=True)
    chosen, shares = chosen.gather(1, order), shares.gather(1, order)
    generator = seeded("select", seed)
    by_chance = [
        nearest(across, torch.stack([torch.randperm(n, generator=generator)[:k] for _ in rows])) for _ in range(DRAWS)
    ]
    samples = torch.stack([drawn[chosen[:, j], rows] for j in range(k)])
    density = None if likely is None else torch.stack((likely.gather(1, chosen).mean(1), likely.mean(1)))
    distance, random = nearest(across, chosen), torch.stack(by_chance).mean(0)
    return Selection(images, samples, shares.T / n, distance, random, fidelity(found.h, found.h_hat), density)


@torch.no_grad()
def densities(model: FiberModel, subject: Subject, samples: Tensor, h: Tensor) -> Tensor:
    """`log p(z | h) / D` of samples `(n, B, C, H, W)` with `z = encode(x, h)` of D dimensions, `(B, n)`.

    Raises:
        ValueError: the model has no density.
    """
    if not (isinstance(model, TrainableFiberModel) and isinstance(model, HasLogProb)):
        raise ValueError(
            f"select: method: 'likelihood' needs a model with a density, such as a flow, got a {type(model).__name__}"
        )
    where = device_of(subject)
    told = h.to(where)
    found = [model.log_prob(model.latents.encode(own, told), told).cpu() for own in samples.to(where)]
    return torch.stack(found, 1) / math.prod(model.latents.latent_shape)


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
