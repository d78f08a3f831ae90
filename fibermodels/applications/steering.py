"""What does a concept inside the network look like? The same noise, with the concept scaled.

A concept is a subspace of the channels with the orthonormal basis `U` `(d, C)`, found in the vectors of all places of
the maps of some images (a representation that is a vector is a map of one place):

    pca        a principal direction
    nmf        a part of a factorisation of maps without negative entries; d = 1
    clusters   the leading directions of one cluster of places

The condition becomes `h + (c - 1) U^T U h` at every place, for coefficients `c`. The figures of merit are how far the
concept in the samples follows, and how far judges' probabilities change; the null is a random subspace of as many
dimensions, whose change of the condition has the same length.

References: Vielhaben et al., MCD, arXiv 2301.11911 (subspaces of clusters); Fel et al., CRAFT, arXiv 2211.10154 (NMF);
Lee & Seung, Nature 401 (1999) 788 (its updates).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from fibermodels.applications.drawing import edited, representations
from fibermodels.applications.finding import Finding, Merit, Strip
from fibermodels.checks import check_choice, check_images, check_numbers
from fibermodels.core import FiberModel, Subject
from fibermodels.display import heat
from fibermodels.noise import seeded

Method = Literal["pca", "nmf", "clusters"]

SHOWN, PLACES, ROUNDS = 6, 4000, 50
"""Images in a picture, places from which concepts are found, and rounds of their algorithms."""


@dataclass(frozen=True, repr=False)
class Steering(Finding):
    """Samples with a concept scaled.

    Args:
        images: the targets `(B, C, H, W)`.
        samples: of each coefficient, `(E, n, B, C, H, W)`.
        coefficients: E of them.
        basis: of the concept, `(d, channels)`.
        change: the median over samples of the change of each pixel from the smallest to the largest coefficient,
            `(B, H, W)`.
        followed: the change of the representation along the concept, as a share of the one that was asked for, for the
            concept and for a random subspace.
        judged: the mean total variation distance of judges' probabilities between the smallest and the largest
            coefficient, for the concept and for a random subspace; None without judges.
    """

    question = "What does a concept inside the network look like?"

    images: Tensor
    samples: Tensor
    coefficients: list[float]
    basis: Tensor
    change: Tensor
    followed: tuple[float, float]
    judged: tuple[float, float] | None

    @property
    def merits(self) -> list[Merit]:
        found = []
        if self.judged is not None:
            meaning = (
                "How far the probabilities of judges that took no part change from the smallest to the largest "
                "coefficient, as a total variation distance; the null is a random subspace."
            )
            found.append(Merit("change seen by judges", *self.judged, meaning))
        meaning = (
            "The change of the representation of the samples along the concept, as a share of the change that was "
            "asked for; 1 is best, and the null is a random subspace with a change of the same length."
        )
        return [*found, Merit("change along the concept", *self.followed, meaning)]

    def strips(self) -> list[Strip]:
        names = ["image", *(f"x {value:g}" for value in self.coefficients), "change"]
        top = float(self.change[:SHOWN].max())
        rows = []
        for i, image in enumerate(self.images[:SHOWN]):
            changed = heat(self.change[i], top)[: len(image)]
            rows.append(Strip(f"image {i + 1}", torch.cat((image[None], self.samples[:, 0, i], changed[None])), names))
        return rows


def steer(
    model: FiberModel,
    subject: Subject,
    images: Tensor,
    references: Tensor | None = None,
    concept: int = 0,
    concepts: int = 5,
    dimensions: int = 1,
    method: Method = "pca",
    coefficients: list[float] | None = None,
    judges: Mapping[str, Subject] | None = None,
    n: int = 4,
    seed: int = 0,
) -> Steering:
    """Samples with a concept scaled by coefficients, with the same noise.

    Args:
        model: samples the fibers; it must take conditions that no image gave it.
        subject: the network.
        images: the targets `(B, C, H, W)` in [0, 1].
        references: images in whose representations the concepts are found, such as those of a class; None takes the
            targets.
        concept: which of the concepts, from 0 on, by their share of the representations.
        concepts: how many are found.
        dimensions: of a concept that is a cluster.
        method: `pca`, `nmf` or `clusters`.
        coefficients: from small to large; None takes 0, 1, 2 and 3.
        judges: classifiers by name, which take no part.
        n: samples of each image.
        seed: of the samples and of the random subspace.

    Raises:
        ValueError: no images for the subject, a number out of its range, or negative entries with `nmf`.
    """
    check_choice("steer", "method", method, get_args(Method))
    check_images(images, tuple(subject.image_shape), "images")
    check_numbers("steer", {"concept": concept}, least=0, below=concepts)
    check_numbers("steer", {"n": n, "dimensions": dimensions}, least=1)
    scales = [0.0, 1.0, 2.0, 3.0] if coefficients is None else coefficients
    h = representations(subject, images)
    known = h if references is None else representations(subject, references)
    check_numbers("steer", {"concepts": concepts}, least=1, most=known.shape[1])
    basis = find(_vectors(known), concepts, dimensions, method, seed)[concept]
    generator = seeded("steer", seed)
    chance = torch.linalg.qr(torch.randn(basis.shape[::-1], generator=generator))[0].T
    along, random = _projected(h, basis), _projected(h, chance)
    length = along.flatten(1).norm(dim=1) / random.flatten(1).norm(dim=1).clamp(min=1e-12)
    random = random * length.view(-1, *(1 for _ in h.shape[1:]))
    samples = edited(model, subject, images, [h + (scale - 1) * along for scale in scales], n, seed)
    by_chance = edited(model, subject, images, [h + (scales[i] - 1) * random for i in (0, -1)], n, seed)
    ends = samples[[0, -1]]
    asked = (scales[-1] - scales[0]) * torch.stack((along, random))
    followed = [_followed(subject, own, wish) for own, wish in zip((ends, by_chance), asked, strict=True)]
    judged = None
    if judges:
        seen = [sum(_told(judge, own) for judge in judges.values()) / len(judges) for own in (ends, by_chance)]
        judged = (seen[0], seen[1])
    change = (ends[1] - ends[0]).abs().mean(2).median(0).values
    return Steering(images, samples, scales, basis, change, (followed[0], followed[1]), judged)


def _vectors(h: Tensor) -> Tensor:
    """The vectors `(N, C)` of all places of representations `(B, C, ...)`."""
    return h.flatten(2).transpose(1, 2).flatten(0, 1) if h.ndim > 2 else h


def _projected(h: Tensor, basis: Tensor) -> Tensor:
    """The part of representations `(B, C, ...)` in a subspace of the channels."""
    return torch.einsum("dc,de,be...->bc...", basis, basis, h)


def _followed(subject: Subject, ends: Tensor, asked: Tensor) -> float:
    """The change between samples `(2, n, B, C, H, W)` along the change that was asked for, as a share of it."""
    h = representations(subject, ends)
    change, wish = (h[1] - h[0]).mean(0).flatten(1), asked.flatten(1)
    return float(((change * wish).sum(1) / wish.square().sum(1).clamp(min=1e-20)).mean())


def _told(judge: Subject, ends: Tensor) -> float:
    """The mean total variation distance of a judge's probabilities between samples `(2, n, B, C, H, W)`."""
    first, last = representations(judge, ends).flatten(3).softmax(3)
    return float((first - last).abs().sum(2).mean() / 2)


def find(vectors: Tensor, count: int, dimensions: int, method: Method, seed: int) -> list[Tensor]:
    """The bases `(d, C)` of concepts in vectors `(N, C)`, by their share of the vectors' square norm.

    Raises:
        ValueError: negative entries with `nmf`.
    """
    generator = seeded("concepts", seed)
    some = vectors[torch.randperm(len(vectors), generator=generator)[:PLACES]]
    if method == "pca":
        _, axes = torch.linalg.eigh(torch.cov(some.T).reshape(some.shape[1], -1))
        return [axes[:, -1 - i][None] for i in range(count)]
    if method == "nmf":
        return [part[None] for part in factorised(some, count, generator)]
    own = clustered(some, count, generator)
    sizes = own.bincount(minlength=count).argsort(descending=True).tolist()
    return [torch.linalg.svd(some[own == j], full_matrices=False)[2][:dimensions] for j in sizes if (own == j).any()]


def factorised(vectors: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """The parts `(count, C)` of unit length of `V = W H` without negative entries, the largest first, by multiplicative
    updates of the squared error.

    Raises:
        ValueError: negative entries in `V`.
    """
    if vectors.min() < 0:
        raise ValueError(f"steer: method: 'nmf' expects representations of at least 0, got {float(vectors.min()):.3g}")
    small = 1e-9
    parts = torch.rand(count, vectors.shape[1], generator=generator) + small
    weights = torch.rand(len(vectors), count, generator=generator) + small
    for _ in range(4 * ROUNDS):
        parts *= (weights.T @ vectors) / (weights.T @ weights @ parts + small)
        weights *= (vectors @ parts.T) / (weights @ (parts @ parts.T) + small)
    lengths = parts.norm(dim=1).clamp(min=small)
    order = (weights.square().sum(0) * lengths.square()).argsort(descending=True)
    return (parts / lengths[:, None])[order]


def clustered(vectors: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """The cluster `(N,)` of each direction by k-means on the sphere, from far starts."""
    unit = torch.nn.functional.normalize(vectors, dim=1)
    centres = unit[torch.randint(len(unit), (1,), generator=generator)]
    while len(centres) < count:
        centres = torch.cat((centres, unit[(unit @ centres.T).amax(1).argmin()][None]))
    for _ in range(ROUNDS):
        own = (unit @ centres.T).argmax(1)
        means = torch.stack([unit[own == j].sum(0) if (own == j).any() else centres[j] for j in range(count)])
        centres = torch.nn.functional.normalize(means, dim=1)
    return (unit @ centres.T).argmax(1)
