"""Conditions between two images, and conditions that are composed of two: what does the network hold between them?

`interpolate` tells the model `h_t = (1 - t) h_a + t h_b`; `compose` takes one part of the map of `a` and the rest of
that of `b`. The noise stays the same. The figure of merit is the cosine of `phi(x_hat)` to the condition that was asked
for, half-way, because near an end a sample of the end is near, too. It has two nulls. The samples of the nearer of the
two ends, `h_a` or `h_b`, are as good as the model: what is beyond them is due to the condition. Pixels that are mixed
in the same way need no model. They are exact at the ends, and joined halves are exact up to the places that see the
seam, so for `compose` they are a limit rather than a null.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from fibermodels import distances
from fibermodels.applications.drawing import edited, representations
from fibermodels.applications.finding import Finding, Merit, Strip, Table, fidelity
from fibermodels.checks import check_choice, check_images, check_numbers
from fibermodels.core import FiberModel, Subject

Half = Literal["left", "right", "top", "bottom"]

SHOWN = 6
"""Pairs in a picture."""


@dataclass(frozen=True, repr=False)
class Mixture(Finding):
    """Samples of mixed conditions beside mixed pixels.

    Args:
        first, second: the images `(P, C, H, W)` of each pair.
        samples: of the mixed conditions, `(E, n, P, C, H, W)`.
        pixels: mixed pixels, `(E, P, C, H, W)`.
        cosine: of the representation of each sample to the mixed condition, `(E, n, P)`.
        cosine_ends: the same for samples of the end that is nearer to the condition, `(E, n, P)`.
        cosine_pixels: the same for mixed pixels, `(E, P)`.
        names: of the E mixtures.
        fidelity: how far the samples of all mixtures are from their conditions.
    """

    question = "What is between the conditions of two images?"

    first: Tensor
    second: Tensor
    samples: Tensor
    pixels: Tensor
    cosine: Tensor
    cosine_ends: Tensor
    cosine_pixels: Tensor
    names: list[str]
    fidelity: list[Merit]

    @property
    def merits(self) -> list[Merit]:
        middle = (len(self.names) - 1) // 2
        found = self.cosine[middle].mean(0)
        text = (
            "The mean cosine of the representation of the samples to the mixed condition that was asked for, half-way"
        )
        nulls = (
            (self.cosine_ends[middle].mean(0), "samples of the nearer end"),
            (self.cosine_pixels[middle], "images whose pixels are mixed in the same way"),
        )
        names = ("cosine to the asked", "cosine against pixels")
        gains = [
            Merit.paired(name, found, null, f"{text}; the null is that of {what}.")
            for name, (null, what) in zip(names, nulls, strict=True)
        ]
        return [*gains, *self.fidelity]

    def table(self) -> Table:
        rows = zip(self.names, self.cosine, self.cosine_ends, self.cosine_pixels, strict=True)
        lines = [[name, *(f"{float(each.mean()):.3f}" for each in own)] for name, *own in rows]
        return Table(["share", "samples", "samples of the nearer end", "pixels"], lines)

    def strips(self) -> list[Strip]:
        rows = []
        for i in range(min(SHOWN, len(self.first))):
            ends = self.first[i][None], self.second[i][None]
            for title, images, near in (
                (f"pair {i + 1}: conditions", self.samples[:, 0, i], self.cosine[:, 0, i]),
                (f"pair {i + 1}: pixels", self.pixels[:, i], self.cosine_pixels[:, i]),
            ):
                captions = [f"{name}: {float(own):.2f}" for name, own in zip(self.names, near, strict=True)]
                rows.append(Strip(title, torch.cat((ends[0], images, ends[1])), ["first", *captions, "second"]))
        return rows


def interpolate(
    model: FiberModel, subject: Subject, images: Tensor, steps: int = 5, n: int = 1, seed: int = 0
) -> Mixture:
    """Samples of conditions between those of two images, with the same noise.

    Args:
        model: samples the fibers; it must take conditions that no image gave it.
        subject: the network.
        images: an even number of them, `(2 P, C, H, W)` in [0, 1]: each of the first half goes to one of the second.
        steps: conditions, both ends included; an odd number has one half-way.
        n: samples of each.
        seed: of the noise.

    Raises:
        ValueError: no images for the subject, an odd number of them, or a number out of its range.
    """
    check_numbers("interpolate", {"steps": steps}, least=2)
    shares = torch.linspace(0, 1, steps).tolist()

    def mix(a: Tensor, b: Tensor) -> list[Tensor]:
        return [torch.lerp(a, b, share) for share in shares]

    x, h = halves("interpolate", images), halves("interpolate", representations(subject, images))
    return _mixture(model, subject, x, mix(*h), h, mix(*x), [f"{share:.2g}" for share in shares], n, seed)


def compose(
    model: FiberModel, subject: Subject, images: Tensor, half: Half = "left", n: int = 1, seed: int = 0
) -> Mixture:
    """Samples of maps of which one half is that of an image, and the rest that of another one.

    Args:
        model, subject, images, n, seed: as in `interpolate`; the representation is a map `(C, H, W)`.
        half: of the map and of the image that comes from the first image of a pair.

    Raises:
        ValueError: as `interpolate`; a representation that is no map.
    """
    check_choice("compose", "half", half, get_args(Half))
    if len(subject.feature_shape) != 3:
        raise ValueError(
            f"compose: subject: expected maps (C, H, W), got representations {list(subject.feature_shape)}"
        )

    def mix(a: Tensor, b: Tensor) -> list[Tensor]:
        return [torch.where(_mask(half, a), a, b)]

    x, h = halves("compose", images), halves("compose", representations(subject, images))
    return _mixture(model, subject, x, mix(*h), h, mix(*x), [half], n, seed)


def _mask(half: Half, maps: Tensor) -> Tensor:
    """Where the half of maps `(..., H, W)` is, `(H, W)`."""
    height, width = maps.shape[-2:]
    across = half in ("left", "right")
    first = torch.arange(width if across else height) < (width if across else height) // 2
    first = first if half in ("left", "top") else ~first
    return (first[None] if across else first[:, None]).expand(height, width)


def halves(owner: str, rows: Tensor) -> tuple[Tensor, Tensor]:
    """The first and the second half of an even number of rows."""
    if len(rows) % 2 or not len(rows):
        raise ValueError(f"{owner}: images: expected an even number, the first half for the second, got {len(rows)}")
    return rows[: len(rows) // 2], rows[len(rows) // 2 :]


def _mixture(
    model: FiberModel,
    subject: Subject,
    x: tuple[Tensor, Tensor],
    asked: list[Tensor],
    ends: tuple[Tensor, Tensor],
    pixels: list[Tensor],
    names: list[str],
    n: int,
    seed: int,
) -> Mixture:
    check_images(x[0], tuple(subject.image_shape), "images")
    check_numbers("mixture", {"n": n}, least=1)
    drawn = edited(model, subject, x[0], [*asked, *ends], n, seed)
    seen = representations(subject, drawn)  # (E + 2, n, P, *feature_shape)

    def near(found: Tensor) -> Tensor:
        return 1 - distances.cosine(torch.stack(asked)[:, None], found, batch_dims=3)

    by_end = torch.stack([near(end[None].expand_as(seen[:-2])) for end in seen[-2:]])
    nearer = by_end.mean(2, keepdim=True).argmax(0, keepdim=True).expand_as(by_end[:1])
    flat = 1 - distances.cosine(torch.stack(asked), representations(subject, torch.stack(pixels)), batch_dims=2)
    cosines = near(seen[:-2]), by_end.gather(0, nearer)[0], flat
    rms = fidelity(torch.cat(asked), torch.cat(list(seen[:-2]), 1))
    return Mixture(*x, drawn[:-2], torch.stack(pixels), *cosines, names, rms)
