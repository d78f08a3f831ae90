"""Cues that an image may hold: numbers that are read from images, without knowledge of what is looked for.

The mean of each channel, the contrast, the energy of edges, and for each square of a grid, how far each channel is
from its mean over the image, are held where they are beyond those of 90 % of all images, data and samples alike. A
square also holds the saturated colour, out of black, red, ..., white, that all its pixels have, if they have one. A
mark, a border or a logo changes what its squares hold.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, adaptive_max_pool2d

from fibermodels.applications.drawing import representations
from fibermodels.core import Subject

GRID = 8
"""Squares of a side."""

PLACES = [f"row {i // GRID + 1}, column {i % GRID + 1}" for i in range(GRID**2)]
"""The squares in words."""

RGB = ("red", "green", "blue")

TAIL = 0.1
"""The share of all images that holds a cue."""


COLOURS = ("black", "blue", "green", "cyan", "red", "magenta", "yellow", "white")
"""The corners of the cube of colours, in the order of their bits."""

NEAR = 0.2
"""How far from a corner a channel of a saturated colour may be."""


@dataclass(frozen=True)
class Cues:
    """Which images hold which cues.

    Args:
        names: of the cues.
        data: `(B, Q)`, for the data.
        fibers: `(B, Q)`, for samples of their fibers.
        places: the square of each cue, `(Q,)`, -1 for a cue of the whole image.
    """

    names: list[str]
    data: Tensor
    fibers: Tensor
    places: Tensor


def held(images: Tensor, samples: Tensor, judges: Mapping[str, Subject]) -> Cues:
    """The cues of images and of samples of their fibers, both `(B, C, H, W)`.

    Args:
        images: the data.
        samples: of their fibers.
        judges: classifiers by name: their decision for each class is a cue, too.
    """
    own, known = general(images), general(samples)
    everyone = torch.cat((own, known))
    count = max(1, round(TAIL * len(everyone)))
    low, high = (everyone.kthvalue(at, 0).values for at in (count, len(everyone) + 1 - count))
    data = [torch.cat((own > high, own < low), 1)]
    fibers = [torch.cat((known > high, known < low), 1)]
    names, places = general_names(images.shape[1])
    names = [f"{name}, {side}" for side in ("high", "low") for name in names]
    places = places * 2
    if images.shape[1] == len(RGB):
        data.append(saturated(images))
        fibers.append(saturated(samples))
        names += [f"{colour} at {place}" for colour in COLOURS for place in PLACES]
        places += list(range(GRID**2)) * len(COLOURS)
    for name, judge in judges.items():
        decided = representations(judge, images).argmax(1)
        again = representations(judge, samples).argmax(1)
        classes = int(max(decided.max(), again.max())) + 1
        data.append(torch.nn.functional.one_hot(decided, classes).bool())
        fibers.append(torch.nn.functional.one_hot(again, classes).bool())
        names += [f"{name}: class {k}" for k in range(classes)]
        places += [-1] * classes
    return Cues(
        names,
        torch.cat(data, 1).float(),
        torch.cat(fibers, 1).float(),
        torch.tensor(places),
    )


def general(images: Tensor) -> Tensor:
    """The numbers `(B, Q)` of images `(B, C, H, W)`, in the order of `general_names`."""
    mean = images.mean((2, 3))
    edges = images.diff(dim=2).square().mean((1, 2, 3)) + images.diff(dim=3).square().mean((1, 2, 3))
    squares = adaptive_avg_pool2d(images, GRID) - mean[..., None, None]
    return torch.cat((mean, images.flatten(1).std(1)[:, None], edges[:, None], squares.flatten(1)), 1)


def saturated(images: Tensor) -> Tensor:
    """Whether all pixels of a square have a saturated colour, `(B, 8 squares)`, of images `(B, 3, H, W)`."""
    found = []
    for bits in range(len(COLOURS)):
        corner = torch.tensor([bits >> 2 & 1, bits >> 1 & 1, bits & 1]).to(images)
        far = (images - corner[:, None, None]).abs().amax(1)[:, None]
        found.append(adaptive_max_pool2d(far, GRID).flatten(1) < NEAR)
    return torch.cat(found, 1)


def general_names(channels: int) -> tuple[list[str], list[int]]:
    """The names of the numbers, and the square of each; -1 for the whole image."""
    colours = RGB if channels == len(RGB) else [f"channel {i + 1}" for i in range(channels)]
    squares = [f"{colour} at {place}" for colour in colours for place in PLACES]
    whole = [*colours, "contrast", "edges"]
    return whole + squares, [-1] * len(whole) + list(range(GRID**2)) * channels
