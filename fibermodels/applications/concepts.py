"""Concepts: subspaces of the channels of a representation, each with an orthonormal basis `U` `(d, C)`.

    pca        a principal direction of the vectors of all places
    nmf        a part of their factorisation without negative entries; d = 1
    clusters   the leading directions of one cluster of places
    contrast   the direction from the mean of the other places to that of the class; d = 1

References: Vielhaben et al., MCD, arXiv 2301.11911 (subspaces of clusters); Fel et al., CRAFT, arXiv 2211.10154 (NMF);
Lee & Seung, Nature 401 (1999) 788 (its updates); Kim et al., TCAV, arXiv 1711.11279 (directions of a class, there by a
linear classifier).
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from fibermodels.noise import seeded

Method = Literal["pca", "nmf", "clusters", "contrast"]

PLACES, ROUNDS = 4000, 50
"""Places from which concepts are found, and rounds of their algorithms."""


def vectors(h: Tensor) -> Tensor:
    """The vectors `(N, C)` of all places of representations `(B, C, ...)`; a vector is a map of one place."""
    return h.flatten(2).transpose(1, 2).flatten(0, 1) if h.ndim > 2 else h


def projected(h: Tensor, basis: Tensor) -> Tensor:
    """The part `U^T U h` of representations `(B, C, ...)` in a subspace of each, `(B, d, C)`, or of all, `(d, C)`."""
    each = basis.expand(len(h), *basis.shape[-2:])
    return torch.einsum("bdc,bde,be...->bc...", each, each, h)


def find(inside: Tensor, outside: Tensor, count: int, dimensions: int, method: Method, seed: int) -> list[Tensor]:
    """The bases `(d, C)` of concepts, by their share of the vectors' square norm.

    Args:
        inside: vectors `(N, C)` of what has the concepts, such as the images of a class.
        outside: those of other images, for `contrast`.
        count: how many concepts, at most; `contrast` has one.
        dimensions: d of `clusters`.
        method: `pca`, `nmf`, `clusters` or `contrast`.
        seed: of the places that are taken, and of the algorithms.

    Raises:
        ValueError: negative entries with `nmf`.
    """
    if method == "contrast":
        return [torch.nn.functional.normalize(inside.mean(0) - outside.mean(0), dim=0)[None]]
    generator = seeded("concepts", seed)
    some = inside[torch.randperm(len(inside), generator=generator)[:PLACES]]
    if method == "pca":
        _, axes = torch.linalg.eigh(torch.cov(some.T).reshape(some.shape[1], -1))
        return [axes[:, -1 - i][None] for i in range(count)]
    if method == "nmf":
        return [part[None] for part in factorised(some, count, generator)]
    own = clustered(some, count, generator)
    sizes = own.bincount(minlength=count).argsort(descending=True).tolist()
    return [torch.linalg.svd(some[own == j], full_matrices=False)[2][:dimensions] for j in sizes if (own == j).any()]


def by_chance(known: Tensor, dimensions: int, count: int, seed: int) -> Tensor:
    """Random subspaces `(count, d, C)`: each is spanned by `d` draws of the normal law with the covariance of vectors
    `(N, C)`, so it lies where these vary."""
    generator = seeded("subspaces", seed)
    centred = known - known.mean(0)
    weights = torch.randn(count * dimensions, len(known), generator=generator)
    drawn = (weights @ centred).unflatten(0, (count, dimensions))
    return torch.linalg.qr(drawn.mT)[0].mT


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
