"""Moves of images that lower a cost: in the condition that a model is told, in its noise, or in pixels.

    x(v) = push(e, h + s v)    condition        x(v) = push(e + v, h)    noise        x(v) = x + v    pixel

`s` is the standard deviation of the representations of all images. Every step goes down the gradient of

    cost(x(v)) + near mean((x(v) - x(0))^2)

by a fixed length for each row, which falls linearly to 0. With a mask `m` in [0, 1], the image is
`x(0) + m (x(v) - x(0))`: it keeps the pixels of `x(0)` where the mask is 0.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from fibermodels.applications.drawing import device_of, representations
from fibermodels.applications.finding import Merit, fidelity
from fibermodels.applications.masks import Mask, weights_of
from fibermodels.checks import check_choice, check_images, check_numbers
from fibermodels.core import FiberModel, Pushforward, Subject
from fibermodels.guidance import gradient
from fibermodels.noise import seeded, target_noise

Space = Literal["condition", "noise", "pixel"]
"""Of moves down a cost."""

STOPS = 5
"""Images of a path, both ends included."""


@dataclass(frozen=True)
class Move:
    """Images before, along and after a move.

    Args:
        start: `x(0)`, `(B, C, H, W)`; in pixels the images themselves, elsewhere a sample of their fibers.
        path: `(STOPS, B, C, H, W)`, from the start to the end.
        random: the end of a move of the same length in a random direction.
        weights: how much of a change each pixel takes, `(B, H, W)` in [0, 1].
        fidelity: how far the end is from the condition that the model was told; empty where it was told none, as in
            pixels, or where a mask keeps a part of the start.
    """

    start: Tensor
    path: Tensor
    random: Tensor
    weights: Tensor
    fidelity: list[Merit]

    @property
    def end(self) -> Tensor:
        """The moved images `(B, C, H, W)`."""
        return self.path[-1]

    def distance(self, inside: bool = True) -> Tensor:
        """The root mean square change of the pixels inside of the mask, or outside, `(B,)`; 0 if there are none."""
        where = ((self.weights > 0) == inside).flatten(1)
        change = (self.end - self.start).square().mean(1).flatten(1)
        return ((change * where).sum(1) / where.sum(1).clamp(min=1)).sqrt()


def move(
    model: FiberModel,
    subject: Subject,
    images: Tensor,
    cost: Callable[[Tensor], Tensor],
    space: Space = "condition",
    steps: int = 40,
    step_size: float = 0.1,
    near: float = 0.0,
    mask: Mask | None = None,
    seed: int = 0,
) -> Move:
    """Moves images to a lower cost.

    Args:
        model: paints images from noise and condition, unless they move in pixels.
        subject: the network whose fibers it samples.
        images: `(B, C, H, W)` in [0, 1].
        cost: `(B,)` of images `(B, C, H, W)`, differentiable.
        space: `condition`, `noise` or `pixel`.
        steps: how many.
        step_size: of the first one, as the root mean square over the entries of `v`.
        near: weight of the squared change of the pixels.
        mask: how much of a change each pixel takes: a box `[top, left, bottom, right]`, an image file, booleans, or
            numbers from 0 to 1; None is all of it.
        seed: of the noise.

    Raises:
        ValueError: a model that is no `Pushforward`, and another space than `pixel`; a number out of its range; a
            mask that does not fit the images.
    """
    check_choice("move", "space", space, get_args(Space))
    check_numbers("move", {"steps": steps}, least=1)
    check_numbers("move", {"step_size": step_size}, above=0)
    check_numbers("move", {"near": near}, least=0)
    check_images(images, tuple(subject.image_shape), "images")
    where = device_of(subject)
    x = images.to(where)
    weights = weights_of(mask, images).to(where)
    painter = painter_in(space, model, subject, x, seed)
    first = v = painter.first
    with torch.no_grad():
        start = painter.paint(first)

    def shown(v: Tensor) -> Tensor:
        return torch.lerp(start, painter.paint(v), weights[:, None])

    path = [start]
    for step in range(steps):
        own = v.detach().requires_grad_()
        with torch.enable_grad():
            moved = shown(own)
            costs = cost(moved) + near * (moved - start).flatten(1).square().mean(1)
        (slope,) = gradient(costs, own)
        size = slope.flatten(1).square().mean(1).sqrt().clamp(min=1e-20)
        v = v - step_size * (1 - step / steps) * slope / size.view(-1, *(1 for _ in v.shape[1:]))
        v = v.clamp(0, 1) if space == "pixel" else v
        if (step + 1) * (STOPS - 1) // steps > len(path) - 1:
            with torch.no_grad():
                path += [shown(v)] * ((step + 1) * (STOPS - 1) // steps - len(path) + 1)
    noise = torch.randn(v.shape, generator=seeded("move", seed)).to(v)
    length = (v - first).flatten(1).norm(dim=1) / noise.flatten(1).norm(dim=1)
    with torch.no_grad():
        random = shown(first + length.view(-1, *(1 for _ in v.shape[1:])) * noise)
    told = painter.told(v).cpu() if painter.told and mask is None else None
    return moved_to(subject, start.cpu(), torch.stack(path).cpu(), random.cpu(), weights.cpu(), told)


def moved_to(
    subject: Subject, start: Tensor, path: Tensor, random: Tensor, weights: Tensor, told: Tensor | None
) -> Move:
    """A move whose end was painted from the condition `told`, or from none."""
    near = [] if told is None else fidelity(told, representations(subject, path[-1:]))
    return Move(start, path, random, weights, near)


@dataclass(frozen=True)
class Painter:
    """What paints images of a variable `v`.

    Args:
        first: where the variable starts.
        paint: the images `(B, C, H, W)` of a variable.
        told: the condition that the model is told, `(B, *feature_shape)`; None in pixels.
    """

    first: Tensor
    paint: Callable[[Tensor], Tensor]
    told: Callable[[Tensor], Tensor] | None


def painter_in(space: Space, model: FiberModel, subject: Subject, x: Tensor, seed: int) -> Painter:
    """What paints images near to `x` in a space."""
    if space == "pixel":
        return Painter(x, lambda v: v.clamp(0, 1), None)
    if not isinstance(model, Pushforward):
        raise ValueError(
            f"space: '{space}' needs a model that pushes noise and a condition to an image, got a "
            f"{type(model).__name__}; give 'pixel'"
        )
    with torch.no_grad():
        h = subject(x)
    noise = target_noise(1, len(x), model.noise_shape, seeded("samples", seed))[0].to(h)
    if space == "noise":
        return Painter(noise, lambda v: model.push(v, h), lambda v: h)
    scale = h.std().clamp(min=1e-12)
    return Painter(torch.zeros_like(h), lambda v: model.push(noise, h + scale * v), lambda v: h + scale * v)
