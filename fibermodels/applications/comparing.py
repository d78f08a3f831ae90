"""What one network cannot tell apart and another can: the fibers of A, seen by B.

For each target, samples of A's fiber and of B's fiber are compared with the target in B's representation. If A ignores
what B sees, the samples of A's fiber are farther off. The figure of merit is the probability that a sample of A's fiber
is farther than one of B's, which classifies pairs of target and sample by their distance; 1/2 is chance. Its null puts
other samples of B's fiber in the place of A's. The same is asked with A and B exchanged.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fibermodels import distances
from fibermodels.applications.drawing import fibers, representations
from fibermodels.applications.finding import Finding, Merit, Strip
from fibermodels.checks import check_numbers
from fibermodels.core import FiberModel, Subject

SHOWN, ACROSS = 4, 6
"""Targets in a picture, and samples of each."""


@dataclass(frozen=True)
class Sight:
    """How one network sees the fibers of another.

    Args:
        other: distances of samples of the other's fiber, `(n, B)`, as the root mean square over this representation.
        own: distances of samples of its own fiber, `(n, B)`.
        again: distances of further samples of its own fiber, `(n, B)`.
        unrelated: the mean distance of other targets.
    """

    other: Tensor
    own: Tensor
    again: Tensor
    unrelated: float

    @property
    def told(self) -> float:
        """The probability that a sample of the other's fiber is farther than one of its own."""
        return farther(self.other, self.own)

    @property
    def chance(self) -> float:
        """The same for further samples of its own fiber."""
        return farther(self.again, self.own)


@dataclass(frozen=True, repr=False)
class Comparison(Finding):
    """Fibers of two networks, or layers, side by side.

    Args:
        images: the targets `(B, C, H, W)`.
        first: samples of the fibers of A, `(n, B, C, H, W)`.
        second: samples of the fibers of B.
        by_second: how B sees the fibers of A.
        by_first: how A sees the fibers of B.
    """

    question = "What can one network not tell apart that the other can?"

    images: Tensor
    first: Tensor
    second: Tensor
    by_second: Sight
    by_first: Sight

    @property
    def merits(self) -> list[Merit]:
        found = []
        for who, sight in (("second", self.by_second), ("first", self.by_first)):
            other = "first" if who == "second" else "second"
            meaning = (
                f"The probability that a sample of the {other} network's fiber is farther from its target than one of "
                f"the {who} network's own fiber, in the {who} network's representation; 1/2 is chance, and the null "
                "takes further samples of its own fiber."
            )
            found.append(Merit(f"told apart by the {who}", sight.told, sight.chance, meaning))
        for who, sight in (("second", self.by_second), ("first", self.by_first)):
            far, near = (float(each.mean()) / max(sight.unrelated, 1e-12) for each in (sight.other, sight.own))
            meaning = (
                f"The mean distance of the other network's fiber in the {who} network's representation, as a share of "
                "the distance of unrelated images; the null is that of its own fiber."
            )
            found.append(Merit(f"distance seen by the {who}", far, near, meaning))
        for name, sight in (("fiber rms", self.by_first), ("fiber rms of the second", self.by_second)):
            meaning = (
                "The root mean square distance of the representation of the samples of a network's own fiber from that "
                "of the image; the null is the distance of unrelated images."
            )
            found.append(Merit(name, float(sight.own.mean()), sight.unrelated, meaning))
        return found

    def strips(self) -> list[Strip]:
        rows = []
        for i, image in enumerate(self.images[:SHOWN]):
            for name, samples, seen in (
                ("first", self.first, self.by_second.other),
                ("second", self.second, self.by_first.other),
            ):
                captions = ["image", *(f"other sees {float(own):.2f}" for own in seen[:ACROSS, i])]
                shown = torch.cat((image[None], samples[:ACROSS, i]))
                rows.append(Strip(f"image {i + 1}, {name}", shown, captions))
        return rows


def compare(
    model: FiberModel,
    subject: Subject,
    images: Tensor,
    other_model: FiberModel | None = None,
    other_subject: Subject | None = None,
    n: int = 16,
    seed: int = 0,
) -> Comparison:
    """Compares the fibers of two networks, two layers or two checkpoints around the same images.

    Args:
        model: samples the fibers of the first network, A.
        subject: A.
        images: the targets `(B, C, H, W)` in [0, 1], at least two.
        other_model: samples the fibers of the second network, B; None takes `model`.
        other_subject: B; None takes `subject`. Its images have the same shape.
        n: samples of each image.
        seed: of the samples.

    Raises:
        ValueError: no images for both networks, or a number out of its range.
    """
    check_numbers("compare", {"images": len(images)}, least=2)
    second_model, second = other_model or model, other_subject or subject
    a = fibers(model, subject, images, 2 * n, seed).x_hat
    b = fibers(second_model, second, images, 2 * n, seed + 1).x_hat
    return Comparison(images, a[:n], b[:n], sight(second, images, a[:n], b), sight(subject, images, b[:n], a))


def sight(subject: Subject, images: Tensor, other: Tensor, own: Tensor) -> Sight:
    """How a network sees samples `(n, B, C, H, W)` of another's fibers, beside `2 n` of its own."""
    h = representations(subject, images)

    def seen(samples: Tensor) -> Tensor:
        return torch.stack([distances.rms(h, each) for each in representations(subject, samples)])

    n = len(other)
    return Sight(seen(other), seen(own[:n]), seen(own[n:]), float(distances.rms(h, h.roll(1, 0)).mean()))


def farther(some: Tensor, others: Tensor) -> float:
    """The probability that a number of `some` `(n, B)` exceeds one of `others` `(m, B)` of the same target; equal ones
    count one half. Differences below rounding count as equal."""
    difference = some[:, None] - others
    close = difference.abs() <= 1e-5 * torch.maximum(some[:, None], others) + 1e-6
    return float(((difference > 0) & ~close).float().add(0.5 * close).mean())
