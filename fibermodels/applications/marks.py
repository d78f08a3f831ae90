"""Squares of random colours at random places in images: marks that no image has, and that a network may decide by.

Each copy of an image gets `SQUARES` squares, whatever it shows. So under this law a mark says nothing of the class, and
a fiber of a decision holds it more often than the data only if the network decides by it:

    rate(cue | decision y) / rate(cue) = rate(y | cue) / rate(y).

The statistic of a class `y` and a cue compares each copy with its image, which removes what the image shows. With
`d = [decision of the copy is y] - [decision of the image is y]`, it is the mean of `d` over the `n` copies that hold
the cue, minus the mean over all `N`, in standard errors `sqrt(var(d) / n + 1 / n^2)`. The second part is the change of
one copy: without it, one copy would count as many standard errors where decisions hardly ever change. The null
exchanges the rows of `d`, and is exact for a network that does not tell these marks apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from fibermodels.applications.cues import GRID, PLACES
from fibermodels.applications.drawing import decisions
from fibermodels.applications.suspects import Family, Null, Suspect, beyond
from fibermodels.core import Subject
from fibermodels.noise import seeded

SQUARES = 8
"""In each copy."""

SIDES = (10, 5)
"""The side of a square is between these parts of that of the image."""

LEVELS = 3
"""Of each channel of a colour, in cues."""

FEWEST = 10
"""Copies that hold a cue, or it is left out."""

ROWS = 512
"""Copies that are painted at once."""


@dataclass(frozen=True)
class Marks:
    """The squares of N copies.

    Args:
        rows: the image of each copy, `(N,)`.
        top, left, side: in pixels, `(N, SQUARES)`.
        colour: `(N, SQUARES, C)`.
        height, width: of the images.
    """

    rows: Tensor
    top: Tensor
    left: Tensor
    side: Tensor
    colour: Tensor
    height: int
    width: int

    @classmethod
    def drawn(cls, images: Tensor, copies: int, seed: int) -> Marks:
        """The squares of some copies of each image `(B, C, H, W)`.

        Their centres are anywhere, and a square that would leave the image is moved to its border. So a corner has as
        many as any other place.
        """
        generator = seeded("marks", seed)
        rows = torch.arange(len(images)).repeat(copies)
        shape, (channels, height, width) = (len(rows), SQUARES), images.shape[1:]
        size = min(height, width)
        least, most = (max(1, round(size / part)) for part in SIDES)
        side = torch.randint(least, most + 1, shape, generator=generator)
        centres = [torch.rand(shape, generator=generator) * length for length in (height, width)]
        top, left = (
            (centre - side / 2).round().long().clamp(min=0).minimum(length - side)
            for centre, length in zip(centres, (height, width), strict=True)
        )
        return cls(rows, top, left, side, torch.rand(*shape, channels, generator=generator), height, width)

    def painted(self, images: Tensor, which: Tensor) -> Tensor:
        """Some copies `(len(which), C, H, W)` of images `(B, C, H, W)`."""
        found = images[self.rows[which]]
        y, x = torch.arange(self.height)[:, None], torch.arange(self.width)
        for square in range(SQUARES):
            top, left, side = (each[which, square, None, None] for each in (self.top, self.left, self.side))
            inside = (y >= top) & (y < top + side) & (x >= left) & (x < left + side)
            found = torch.where(inside[:, None], self.colour[which, square, :, None, None], found)
        return found

    def decided(self, network: Subject, images: Tensor) -> Tensor:
        """What a network decides for each copy, `(N,)`."""
        parts = torch.arange(len(self.rows)).split(ROWS)
        return torch.cat([decisions(network, self.painted(images, which)) for which in parts])

    def cues(self) -> tuple[Tensor, list[str], Tensor]:
        """Which copies hold a square of a colour at a place, of any colour there, or of a colour anywhere, `(N, Q)`;
        the names of these cues, and their places, -1 for anywhere."""
        centre = [
            ((start + self.side / 2) * GRID / size).long().clamp(max=GRID - 1)
            for start, size in ((self.top, self.height), (self.left, self.width))
        ]
        place = centre[0] * GRID + centre[1]
        levels = (self.colour * LEVELS).long().clamp(max=LEVELS - 1)
        channels = levels.shape[-1]
        kind = (levels * LEVELS ** torch.arange(channels)).sum(-1)
        kinds, squares = LEVELS**channels, GRID**2
        held = torch.zeros(len(self.rows), (kinds + 1) * squares + kinds)
        held.scatter_(1, kind * squares + place, 1.0)
        held.scatter_(1, kinds * squares + place, 1.0)
        held.scatter_(1, (kinds + 1) * squares + kind, 1.0)
        colours = [f"square of colour {colour_name(i, channels)}" for i in range(kinds)]
        names = [f"{colour} at {own}" for colour in [*colours, "square"] for own in PLACES]
        places = torch.cat((torch.arange(squares).repeat(kinds + 1), torch.full((kinds,), -1)))
        enough = held.sum(0) >= FEWEST
        kept = [name for name, own in zip([*names, *colours], enough.tolist(), strict=True) if own]
        return held[:, enough], kept, places[enough]


def colour_name(kind: int, channels: int) -> str:
    """The middle of the colours of a kind, in percent of each channel."""
    levels = [kind // LEVELS**channel % LEVELS for channel in range(channels)]
    return "/".join(f"{100 * (level + 0.5) / LEVELS:.0f}" for level in levels)


def statistics(change: Tensor, held: Tensor) -> Tensor:
    """The statistic of each class and cue, `(K, Q)`.

    Args:
        change: `d` of each copy and class, `(N, K)`.
        held: which copies hold which cues, `(N, Q)`, dense or sparse.
    """
    centred, counts = change - change.mean(0), held.sum(0).to_dense()
    error = (centred.square().mean(0)[:, None] * counts + 1).sqrt()
    return (held.T @ centred).T / error


def changes(before: Tensor, after: Tensor, known: Tensor) -> Tensor:
    """`d` for the known classes, `(N, K)`, of the decisions for the images of the copies and for the copies."""
    classes = int(max(before.max(), after.max(), known.max())) + 1
    return (one_hot(after, classes) - one_hot(before, classes))[:, known].float()


def compare_marks(
    subject: Subject,
    images: Tensor,
    before: Tensor,
    known: Tensor,
    networks: Sequence[Subject],
    copies: int,
    shuffles: int,
    seed: int,
) -> tuple[Family, list[Suspect]]:
    """The statistics of marks, and the leading ones.

    Args:
        subject: the network.
        images, before: the data `(B, C, H, W)`, and the subject's decisions `(B,)`.
        known: the classes to compare, `(K,)`.
        networks: others, for the null.
        copies: of each image.
        shuffles, seed: of marks and null.

    Raises:
        ValueError: no cue is held by `FEWEST` copies.
    """
    drawn = Marks.drawn(images, copies, seed)
    held, names, places = drawn.cues()
    if not names:
        raise ValueError(
            f"audit: copies: {len(held)} copies of images are too few to compare marks: expected thousands; 0 looks "
            "for none"
        )
    few = held.to_sparse()
    after = drawn.decided(subject, images)
    change = changes(before[drawn.rows], after, known)
    generator = seeded("audit marks", seed)
    orders = (torch.randperm(len(change), generator=generator) for _ in range(shuffles))
    theirs = (changes(decisions(each, images)[drawn.rows], drawn.decided(each, images), known) for each in networks)
    own, others = beyond(statistics(change, few), [statistics(each, few) for each in theirs])
    family = Family(names, places, own, Null.of((statistics(change[order], few) for order in orders), others))

    def show(own: int, q: int, which: Tensor) -> tuple[float, Tensor, Tensor]:
        return float(held[:, q].mean()), drawn.painted(images, which), images[drawn.rows[which]]

    return family, family.suspects(known, held, after, show, "the same without marks")
