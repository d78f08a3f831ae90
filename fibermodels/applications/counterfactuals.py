"""What would have to change for another decision: the way from an image to a class, near to where it starts.

The images move towards their nearest neighbours of the class (`neighbours.py`), or down a cost (`moving.py`), until a
classifier decides for the class. The figure of merit is the share of unseen judges' decisions that are for the class,
too; without judges it is the classifier's own. Its null moves as far in a random direction. Images that the classifier
decides for the class before they move do not count, unless all are such.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from fibermodels.applications.class_weights import class_layer
from fibermodels.applications.drawing import check_label, decisions, device_of, representations
from fibermodels.applications.finding import Finding, Merit, Strip
from fibermodels.applications.masks import Mask, activated
from fibermodels.applications.moving import Move, move
from fibermodels.applications.neighbours import approach
from fibermodels.checks import check_choice
from fibermodels.core import FiberModel, Subject
from fibermodels.display import heat
from fibermodels.guidance import Cost, FiberDistance

Way = Literal["neighbour", "condition", "noise", "pixel"]
"""Towards the nearest neighbour of the class, or down a cost in one of the spaces of moves."""

SHOWN = 8
"""Images in a picture."""

CERTAIN = 50.0
"""The logit of a class that is certain."""


@dataclass(frozen=True, repr=False)
class Counterfactual(Finding):
    """Images on their way to a class.

    Args:
        images: where they come from, `(B, C, H, W)`.
        move: the way.
        decided: the classifier's decisions at the start, at the end and after a random move, `(3, B)`.
        judged: the same for each unseen judge, `(J, 3, B)`.
        label: the class.
    """

    question = "What would have to change for another decision?"

    images: Tensor
    move: Move
    decided: Tensor
    judged: Tensor
    label: int

    @property
    def merits(self) -> list[Merit]:
        found, valid = [], (self.decided == self.label).float()
        counts = valid[0] == 0 if (valid[0] == 0).any() else torch.ones_like(valid[0], dtype=torch.bool)
        if len(self.judged):
            own = (self.judged == self.label).float().mean(0)[:, counts]
            meaning = "The share of decisions for the class by judges that took no part; the null is a random move."
            found.append(Merit.paired("validity by unseen judges", own[1], own[2], meaning))
        own = valid[:, counts]
        meaning = "The share of the classifier's own decisions for the class; the null is a random move as long."
        found.append(Merit.paired("validity", own[1], own[2], meaning))
        changed = float(self.move.distance().mean()), float(self.move.distance(inside=False).mean())
        meaning = "The root mean square change of the pixels inside of the mask; the null is that outside of it."
        found.append(Merit("change of pixels", *changed, meaning))
        return [*found, *self.move.fidelity]

    def strips(self) -> list[Strip]:
        return [
            Strip(
                f"image {i + 1}",
                torch.cat((image[None], self.move.path[:, i], _change(self.move, i)[None], self.move.random[i][None])),
                ["image", "start", *["on the way"] * (len(self.move.path) - 2), "end", "change", "random move"],
            )
            for i, image in enumerate(self.images[:SHOWN])
        ]


def _change(own: Move, i: int) -> Tensor:
    """Where the pixels of an image changed, `(C, H, W)`."""
    change = (own.end[i] - own.start[i]).abs().mean(0)
    return heat(change)[: own.start.shape[1]]


def counterfactual(
    model: FiberModel,
    subject: Subject,
    images: Tensor,
    label: int = 0,
    classifier: Subject | None = None,
    judges: Mapping[str, Subject] | None = None,
    cost: Cost | None = None,
    references: Tensor | None = None,
    space: Way | None = None,
    steps: int = 40,
    step_size: float = 0.1,
    near: float = 1.0,
    mask: Mask | None = None,
    seed: int = 0,
) -> Counterfactual:
    """Moves images until a classifier decides for a class.

    Args:
        model, subject, images, steps, step_size, near, seed: as in `moving.move`.
        label: the class.
        classifier: returns logits `(B, K)`; None takes the subject.
        judges: further classifiers by name, which take no part.
        cost: what is lowered for the classifier in all spaces but `neighbour`; None takes the cross-entropy with the
            class.
        references: images `(R, C, H, W)` among which are those of the class.
        space: `neighbour` for the way to the nearest reference of the class, or a space of `moving.move`, where
            `steps`, `step_size` and `near` count; None takes `neighbour` if there are references and no cost, else
            `condition`.
        mask: as in `moving.move`, or `cam`: the half of the pixels of each image that speak most for its decision, by
            the classifier's weights of this class and the subject's map, with a soft border.

    Raises:
        ValueError: as `moving.move` and `neighbours.approach`; `cam` without a map or a last linear layer; a class that
            the classifier does not have; `neighbour` without references or with a cost.
    """
    decider = classifier or subject
    check_label("counterfactual", decider, label)
    way: Way = space or ("condition" if references is None or cost else "neighbour")
    check_choice("counterfactual", "space", way, get_args(Way))
    if isinstance(mask, str) and mask == "cam":
        h = representations(subject, images)
        weights = class_layer("counterfactual", decider, h.shape[1]).weight.detach().cpu()
        mask = activated(h, weights[decisions(decider, images)], *images.shape[-2:])
    if way == "neighbour":
        if references is None or cost:
            raise ValueError("counterfactual: space: 'neighbour' needs references, and lowers no cost")
        moved = approach(model, subject, images, references, decider, label, mask, seed)
    else:
        asked = torch.zeros(len(images), *decider.feature_shape, device=device_of(subject))
        asked[:, label] = CERTAIN
        lowered, own = cost or FiberDistance("soft_cross_entropy"), (way, steps, step_size, near, mask, seed)
        moved = move(model, subject, images, lambda x: lowered(decider, x, asked), *own)
    ends = torch.stack((moved.start, moved.end, moved.random))
    judged = [representations(judge, ends).flatten(2).argmax(2) for judge in (judges or {}).values()]
    decided = representations(decider, ends).flatten(2).argmax(2)
    return Counterfactual(images, moved, decided, torch.stack(judged) if judged else decided[:0, None], label)
