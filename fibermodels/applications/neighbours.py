"""Moves towards images that are decided in another way: the nearest unlike neighbour of each image.

The conditions move on the straight line to the representation of the nearest reference `r` that is decided for a class,

    x(a) = push(e, h + a (h_r - h)),    a = 0, 1/8, ..., 1,

with the same noise, up to the first `a` whose image is decided for the class, or to 1. A gradient finds what a single
classifier is sensitive to, down to directions that no image has; between two images, all that they differ in changes.
The null moves as far towards a random reference of another decision.

Reference: Keane & Smyth, Good Counterfactuals and Where to Find Them (2020), for the nearest unlike neighbour.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fibermodels.applications.drawing import decisions, device_of, of_class, representations
from fibermodels.applications.masks import Mask, weights_of
from fibermodels.applications.moving import STOPS, Move, moved_to, painter_in
from fibermodels.checks import check_images
from fibermodels.core import FiberModel, Subject
from fibermodels.noise import seeded

PARTS = 8
"""Steps of the way."""


@torch.no_grad()
def approach(
    model: FiberModel,
    subject: Subject,
    images: Tensor,
    references: Tensor,
    classifier: Subject,
    label: int,
    mask: Mask | None = None,
    seed: int = 0,
) -> Move:
    """Moves images towards their nearest unlike neighbours.

    Args:
        model: paints images from noise and condition.
        subject: the network whose fibers it samples.
        images: `(B, C, H, W)` in [0, 1].
        references: among which the neighbours are, `(R, C, H, W)`.
        classifier: returns logits `(B, K)`.
        label: the class.
        mask: as in `moving.move`.
        seed: of the noise and of the null.

    Raises:
        ValueError: a model that is no `Pushforward`; a mask that does not fit the images; no reference of the class, or
            none of another one.
    """
    for name, own in (("images", images), ("references", references)):
        check_images(own, tuple(subject.image_shape), name)
    chosen = of_class("counterfactual", label, classifier, references)
    known, own = representations(subject, references), representations(subject, images)
    distances = torch.cdist(own.flatten(1), known[chosen].flatten(1))
    towards = known[chosen][distances.argmin(1)] - own
    others = known[~chosen]
    picked = torch.randint(len(others), (len(images),), generator=seeded("neighbours", seed))
    away = others[picked] - own
    length, size = (each.flatten(1).norm(dim=1).clamp(min=1e-12) for each in (towards, away))

    where = device_of(subject)
    paint = painter_in("condition", model, subject, images.to(where), seed).paint
    scale = subject(images.to(where)).std().clamp(min=1e-12)  # the unit of the painter's moves
    shape = (-1, *(1 for _ in own.shape[1:]))
    weights = weights_of(mask, images)
    start = paint(torch.zeros_like(own).to(where)).cpu()

    def shown(move: Tensor) -> Tensor:
        return torch.lerp(start, paint(move.to(where) / scale).cpu(), weights[:, None])

    way = torch.stack([start, *(shown(towards * part / PARTS) for part in range(1, PARTS + 1))])
    there = torch.stack([decisions(classifier, each) == label for each in way])
    end = torch.where(there.any(0), there.int().argmax(0), PARTS)
    stops = (torch.linspace(0, 1, STOPS)[:, None] * end).round().long()
    path = way[stops, torch.arange(len(images))]
    random = shown(away * (length / size * end / PARTS).view(shape))
    told = own + towards * (end / PARTS).view(shape) if mask is None else None
    return moved_to(subject, start, path, random, weights, told)
