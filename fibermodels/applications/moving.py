"""Moves of images that lower a cost: in the condition that a model is told, in its noise, or in pixels.

    x(v) = push(e, h + s v)    condition        x(v) = push(e + v, h)    noise        x(v) = x + v    pixel

`s` is the standard deviation of the representations of all images. Every step goes down the gradient of

    cost(x(v)) + near mean((x(v) - x(0))^2)

by a fixed length for each row, which falls linearly to 0. With a mask, `x(v)` keeps the pixels of `x(0)` outside of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from fibermodels.applications.drawing import device_of
from fibermodels.applications.masks import Mask, inside_of
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
        inside: whether a pixel may change, `(B, H, W)`.
    """

    start: Tensor
    path: Tensor
    random: Tensor
    inside: Tensor

    @property
    def end(self) -> Tensor:
        """The moved images `(B, C, H, W)`."""
        return self.path[-1]

    def distance(self, inside: bool = True) -> Tensor:
        """The root mean square change of the pixels inside of the mask, or outside, `(B,)`; 0 if there are none."""
        where = (self.inside if inside else ~self.inside).flatten(1)
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
        mask: the pixels that may change: a box `[top, left, bottom, right]`, an image file, or booleans; None is the
            whole image.
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
    inside = inside_of(mask, images).to(where)
    paint, first = painter(model, subject, x, space, seed)
    v = first
    with torch.no_grad():
        start = paint(first)

    def shown(v: Tensor) -> Tensor:
        return torch.where(inside[:, None], paint(v), start)

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
    return Move(start.cpu(), torch.stack(path).cpu(), random.cpu(), inside.cpu())


def painter(
    model: FiberModel, subject: Subject, x: Tensor, space: Space, seed: int
) -> tuple[Callable[[Tensor], Tensor], Tensor]:
    """What paints images, and where the variable starts."""
    if space == "pixel":
        return (lambda v: v.clamp(0, 1)), x
    if not isinstance(model, Pushforward):
        raise ValueError(
            f"space: '{space}' needs a model that pushes noise and a condition to an image, got a "
            f"{type(model).__name__}; give 'pixel'"
        )
    with torch.no_grad():
        h = subject(x)
    noise = target_noise(1, len(x), model.noise_shape, seeded("samples", seed))[0].to(h)
    if space == "noise":
        return (lambda v: model.push(v, h)), noise
    scale = h.std().clamp(min=1e-12)
    return (lambda v: model.push(noise, h + scale * v)), torch.zeros_like(h)
