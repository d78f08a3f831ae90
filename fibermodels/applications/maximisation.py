"""What does a unit respond to? Images that raise it, and that lower it, from where real images are.

A unit is an entry of a vector, or a channel of a map, averaged over its places; or, with a class, a principal component
of the features that its weights multiply (NPCA, `class_weights.py`). The images with the largest activation
move (see `moving`) up the unit and, from the same start, down. The figure of merit is the activation at the end, in
standard deviations of the unit over the images; its null is the largest activation of the images. Other units should
change less: their mean change is beside that of the unit.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fibermodels.applications.class_weights import components, pooled
from fibermodels.applications.drawing import representations
from fibermodels.applications.finding import Finding, Merit, Strip
from fibermodels.applications.masks import Mask, activated
from fibermodels.applications.moving import Move, Space, move
from fibermodels.checks import check_numbers
from fibermodels.core import FiberModel, Subject
from fibermodels.guidance import Cost

SHOWN = 8
"""Images in a row."""


@dataclass(frozen=True, repr=False)
class Maximisation(Finding):
    """Images that raise and lower a unit.

    Args:
        images: the `k` with the largest activation, `(k, C, H, W)`.
        up, down: the ways.
        activations: of the images, of the start, and after both moves, in standard deviations from the mean of all
            images, `(4, k)`.
        others: the mean absolute change of all other units by both moves, in their standard deviations.
        unit: its number.
    """

    question = "What does a unit respond to?"

    images: Tensor
    up: Move
    down: Move
    activations: Tensor
    others: float
    unit: int

    @property
    def merits(self) -> list[Merit]:
        images, _, up, down = self.activations.mean(1).tolist()
        meaning = (
            f"The activation of unit {self.unit} after the move up, in standard deviations over the images; the null "
            "is that of the images with the largest activation."
        )
        change = (
            "Half of the difference between the moves up and down, in standard deviations; the null is the mean "
            "absolute change of all other units."
        )
        moved = Merit("change of the unit", (up - down) / 2, self.others, change)
        return [Merit("activation", up, images, meaning), moved, *self.up.fidelity]

    def strips(self) -> list[Strip]:
        named = (("images", self.images), ("start", self.up.start), ("up", self.up.end), ("down", self.down.end))
        return [
            Strip(name, images[:SHOWN], [f"{value:.1f}" for value in own[:SHOWN].tolist()])
            for (name, images), own in zip(named, self.activations, strict=True)
        ]


def maximise(
    model: FiberModel,
    subject: Subject,
    images: Tensor,
    unit: int = 0,
    k: int = 8,
    space: Space = "condition",
    steps: int = 40,
    step_size: float = 0.1,
    near: float = 0.0,
    seed: int = 0,
    mask: Mask | None = None,
    label: int | None = None,
    references: Tensor | None = None,
    cost: Cost | None = None,
) -> Maximisation:
    """Moves images to where a unit responds most, and least.

    Args:
        model, subject, space, steps, step_size, near, seed: as in `moving.move`.
        images: among which the most active ones are taken, and over which the units are standardised, at least two.
        unit: an entry of the representation, or a channel of its maps; with a label the number of a component.
        k: images that move.
        mask: as in `moving.move`, or `cam`: the half of the pixels of each image where the unit is most active,
            with a soft border.
        label: a class of the network's last linear layer, whose components are the units; None takes single entries.
        references: images among which those of the class are; None takes the images.
        cost: what is lowered besides, of the subject, the images and their representations before the move, such as a
            distance, which holds other units; the unit counts in standard deviations.

    Raises:
        ValueError: as `moving.move` and `class_weights.components`; a unit that the subject does not have;
            `cam` without maps.
    """
    check_numbers("maximise", {"k": k}, least=1)
    check_numbers("maximise", {"images": len(images)}, least=2)
    h = representations(subject, images)
    directions = None
    if label is not None:
        learned = h if references is None else representations(subject, references)
        directions = components("maximise", subject, learned, label)
    check_numbers("maximise", {"unit": unit}, least=0, below=h.shape[1] if directions is None else len(directions))

    def units(h: Tensor) -> Tensor:
        return pooled(h) if directions is None else pooled(h) @ directions.T.to(h)

    known = units(h)
    mean, std = known.mean(0), known.std(0).clamp(min=1e-12)
    most = known[:, unit].argsort(descending=True, stable=True)[:k]
    x, start = images[most], h[most]
    if isinstance(mask, str) and mask == "cam":
        weights = torch.eye(h.shape[1])[unit] if directions is None else directions[unit]
        mask = activated(start, weights.expand(len(x), -1), *x.shape[-2:])

    def along(sign: float) -> Move:
        def lowered(own: Tensor) -> Tensor:
            activation = units(subject(own))[:, unit] / float(std[unit])
            return -sign * activation + (cost(subject, own, start.to(own)) if cost else 0)

        return move(model, subject, x, lowered, space, steps, step_size, near, mask, seed)

    up, down = along(1.0), along(-1.0)
    found = [(units(representations(subject, own)) - mean) / std for own in (x, up.start, up.end, down.end)]
    rest = torch.arange(len(mean)) != unit
    others = float((found[2] - found[3])[:, rest].abs().mean()) / 2 if rest.any() else 0.0
    return Maximisation(x, up, down, torch.stack([own[:, unit] for own in found]), others, unit)
