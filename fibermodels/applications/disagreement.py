"""On which images do two classifiers differ most, near to data?

The images move (see `moving`) up the total variation distance of the classifiers' probabilities,

    gap(x) = 1/2 sum_k |p_k(x) - q_k(x)|    in [0, 1].

The figure of merit is the mean gap at the end. Its null is the mean gap of as many of the given images as move, those
on which the classifiers differ most. A third classifier says which of the two it agrees with.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fibermodels.applications.drawing import representations
from fibermodels.applications.finding import Finding, Merit, Strip
from fibermodels.applications.moving import Move, Space, move
from fibermodels.checks import check_numbers
from fibermodels.core import FiberModel, Subject
from fibermodels.guidance import Cost

SHOWN = 8
"""Images in a picture."""


@dataclass(frozen=True, repr=False)
class Disagreement(Finding):
    """Images on which two classifiers differ.

    Args:
        images: where they come from, the `k` on which the classifiers differed most, `(k, C, H, W)`.
        move: the way.
        gaps: at the images and at the end, `(2, k)`.
        decided: of the first and the second classifier, and of the judge, at the end, `(2, k)` or `(3, k)`.
        classes: names of the classes.
    """

    question = "On which images do two classifiers differ most?"

    images: Tensor
    move: Move
    gaps: Tensor
    decided: Tensor
    classes: list[str]

    @property
    def merits(self) -> list[Merit]:
        meaning = (
            "The mean total variation distance of the two classifiers' probabilities after the move; the null is that "
            "of the given images on which they differ most."
        )
        found = [Merit("gap", float(self.gaps[1].mean()), float(self.gaps[0].mean()), meaning)]
        if len(self.decided) == 3:
            one, two = (float((self.decided[2] == own).float().mean()) for own in self.decided[:2])
            meaning = "The share in which the third judge decides as the first classifier; the null is the second's."
            found.append(Merit("judge agrees with the first", one, two, meaning))
        return [*found, *self.move.fidelity]

    def strips(self) -> list[Strip]:
        def name(label: Tensor) -> str:
            return self.classes[int(label)] if int(label) < len(self.classes) else f"class {int(label)}"

        rows = []
        for i, image in enumerate(self.images[:SHOWN]):
            words = " / ".join(name(own[i]) for own in self.decided)
            shown = torch.stack((image, self.move.start[i], self.move.end[i]))
            rows.append(Strip(f"image {i + 1}", shown, [f"gap {float(self.gaps[0, i]):.2f}", "start", words]))
        return rows


def total_variation(first: Tensor, second: Tensor) -> Tensor:
    """The total variation distance `(B,)` of the probabilities of two sets of logits `(B, K)`."""
    return (first.softmax(1) - second.softmax(1)).abs().sum(1) / 2


def disagree(
    model: FiberModel,
    subject: Subject,
    images: Tensor,
    second: Subject | None = None,
    first: Subject | None = None,
    judge: Subject | None = None,
    k: int = 8,
    space: Space = "condition",
    steps: int = 40,
    step_size: float = 0.1,
    near: float = 1.0,
    seed: int = 0,
    classes: list[str] | None = None,
    cost: Cost | None = None,
) -> Disagreement:
    """Moves images to where two classifiers differ most.

    Args:
        model, subject, images, space, steps, step_size, near, seed: as in `moving.move`.
        second: the second classifier, with as many classes as the first one.
        first: the first classifier; None takes the subject.
        judge: a third classifier, which takes no part.
        k: images that move, those on which the classifiers differ most already.
        classes: names of the classes.
        cost: what is raised, of the first classifier, the images and the outputs of the second; None takes the gap.

    Raises:
        ValueError: as `moving.move`; no second classifier, or one of other classes.
    """
    check_numbers("disagree", {"k": k}, least=1)
    one, two = first or subject, second
    if two is None or tuple(two.feature_shape) != tuple(one.feature_shape):
        shape = None if two is None else list(two.feature_shape)
        raise ValueError(f"disagree: second: expected a classifier with outputs {list(one.feature_shape)}, got {shape}")

    def lowered(x: Tensor) -> Tensor:
        return -(cost(one, x, two(x)) if cost else total_variation(one(x).flatten(1), two(x).flatten(1)))

    def logits(x: Tensor) -> list[Tensor]:
        return [representations(own, x).flatten(1) for own in (one, two, *([judge] if judge else []))]

    outputs = logits(images)
    before = total_variation(outputs[0], outputs[1])
    most = before.argsort(descending=True, stable=True)[:k]
    moved = move(model, subject, images[most], lowered, space, steps, step_size, near, None, seed)
    found = logits(moved.end)
    after = total_variation(found[0], found[1])
    decided = torch.stack([own.argmax(1) for own in found])
    return Disagreement(images[most], moved, torch.stack((before[most], after)), decided, classes or [])
