"""Cues that an image may hold: numbers that are read from images, without knowledge of what is looked for.

A cue is held where its number is beyond that of 90 % of all images, data and samples alike. The general cues are the
mean of each channel, the contrast, the energy of edges, and for each square of a grid, how far each channel is from its
mean over the image: a mark, a border or a logo changes the last ones at its place.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from fibermodels.applications.drawing import representations
from fibermodels.core import Subject

GRID = 8
"""Squares of a side."""

TAIL = 0.1
"""The share of all images that holds a cue."""


@dataclass(frozen=True)
class Cues:
    """Which images hold which cues.

    Args:
        names: of the cues.
        data: `(B, Q)`, for the data.
        fibers: `(n, B, Q)`, for samples of their fibers.
        places: the square of each cue, `(Q,)`, -1 for a cue of the whole image.
    """

    names: list[str]
    data: Tensor
    fibers: Tensor
    places: Tensor


def held(images: Tensor, samples: Tensor, judges: Mapping[str, Subject]) -> Cues:
    """The cues of images `(B, C, H, W)` and of samples `(n, B, C, H, W)`.

    Args:
        images: the data.
        samples: of their fibers.
        judges: classifiers by name: their decision for each class is a cue, too.
    """
    own, known = general(images), general(samples.flatten(0, 1))
    everyone = torch.cat((own, known))
    low, high = everyone.quantile(TAIL, 0), everyone.quantile(1 - TAIL, 0)
    data = [torch.cat((own > high, own < low), 1)]
    fibers = [torch.cat((known > high, known < low), 1)]
    names, places = general_names(images.shape[1])
    names = [f"{name}, {side}" for side in ("high", "low") for name in names]
    places = places * 2
    for name, judge in judges.items():
        decided = representations(judge, images).argmax(1)
        again = representations(judge, samples).argmax(2).flatten()
        classes = int(max(decided.max(), again.max())) + 1
        data.append(torch.nn.functional.one_hot(decided, classes).bool())
        fibers.append(torch.nn.functional.one_hot(again, classes).bool())
        names += [f"{name}: class {k}" for k in range(classes)]
        places += [-1] * classes
    return Cues(
        names,
        torch.cat(data, 1).float(),
        torch.cat(fibers, 1).float().unflatten(0, samples.shape[:2]),
        torch.tensor(places),
    )


def general(images: Tensor) -> Tensor:
    """The numbers `(B, Q)` of images `(B, C, H, W)`, in the order of `general_names`."""
    mean = images.mean((2, 3))
    edges = images.diff(dim=2).square().mean((1, 2, 3)) + images.diff(dim=3).square().mean((1, 2, 3))
    squares = adaptive_avg_pool2d(images, GRID) - mean[..., None, None]
    return torch.cat((mean, images.flatten(1).std(1)[:, None], edges[:, None], squares.flatten(1)), 1)


def general_names(channels: int) -> tuple[list[str], list[int]]:
    """The names of the numbers, and the square of each; -1 for the whole image."""
    colours = ["red", "green", "blue"] if channels == 3 else [f"channel {i + 1}" for i in range(channels)]
    squares = [
        f"{colour} at row {r + 1}, column {c + 1}" for colour in colours for r in range(GRID) for c in range(GRID)
    ]
    whole = [*colours, "contrast", "edges"]
    return whole + squares, [-1] * len(whole) + list(range(GRID**2)) * channels
