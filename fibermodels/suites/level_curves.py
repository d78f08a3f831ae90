"""The level curves of a function of the plane, and the law on them.

A density `p` of the plane and a function `phi` of it have on the curve `phi = h` the conditional law

    p(x | phi(x) = h)  ~  p(x) / |grad phi(x)|     with respect to arc length (the coarea formula).

The curve is found on a grid by linear interpolation, as segments. A position on it is the share `u` in [0, 1] of the
law that lies before it, so positions of exact samples are uniform.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

Function = Callable[[Tensor], Tensor]
"""From points `(N, 2)` to numbers `(N,)`, differentiable."""

SIDE, CELLS, NEWTON = 3.0, 400, 3
"""Half the side of the square that is searched, cells along it, and Newton steps onto the curve."""


def value_and_gradient(phi: Function, x: Tensor) -> tuple[Tensor, Tensor]:
    """`phi(x)` `(N,)` and its gradient `(N, 2)`."""
    with torch.enable_grad():
        points = x.detach().requires_grad_()
        value = phi(points)
        (slope,) = torch.autograd.grad(value.sum(), points)
    return value.detach(), slope


def onto(phi: Function, x: Tensor, h: Tensor) -> Tensor:
    """Points near the curves `phi = h` `(N,)`, moved onto them along the gradient."""
    for _ in range(NEWTON):
        value, slope = value_and_gradient(phi, x)
        x = x + ((h - value) / slope.square().sum(1))[:, None] * slope
    return x


@dataclass(frozen=True)
class LevelCurve:
    """A curve as `S` segments, with the law on it."""

    start: Tensor
    """`(S, 2)`."""
    step: Tensor
    """From the start of each segment to its end, `(S, 2)`."""
    before: Tensor
    """The share of the law before each segment, and 1 at the end: `(S + 1,)`."""

    def at(self, u: Tensor) -> Tensor:
        """The points at positions `u` `(N,)`."""
        place = (torch.searchsorted(self.before, u.contiguous(), right=True) - 1).clamp(0, len(self.start) - 1)
        share = (u - self.before[place]) / (self.before[place + 1] - self.before[place]).clamp(min=1e-12)
        return self.start[place] + share.clamp(0, 1)[:, None] * self.step[place]

    def positions(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The position of the point of the curve that is nearest to each of `x` `(N, 2)`, and the distance to it."""
        away = x[:, None] - self.start  # (N, S, 2)
        share = ((away * self.step).sum(2) / self.step.square().sum(1).clamp(min=1e-12)).clamp(0, 1)
        distance = (away - share[..., None] * self.step).norm(dim=2)
        nearest = distance.argmin(1, keepdim=True)
        own, width = share.gather(1, nearest)[:, 0], self.before.diff()
        return self.before[nearest[:, 0]] + own * width[nearest[:, 0]], distance.gather(1, nearest)[:, 0]


class LevelCurves:
    """The level curves of `phi` in the square of side `2 SIDE`, with the law of a density.

    Args:
        phi: the function.
        density: of the plane, in any scale; from points `(N, 2)` to numbers `(N,)`.
    """

    def __init__(self, phi: Function, density: Function) -> None:
        self.phi, self.density = phi, density
        self.axis = torch.linspace(-SIDE, SIDE, CELLS + 1)
        grid = torch.stack(torch.meshgrid(self.axis, self.axis, indexing="xy"), -1).flatten(0, 1)
        with torch.no_grad():
            self.values = phi(grid).view(CELLS + 1, CELLS + 1)

    def curve(self, h: float) -> LevelCurve:
        """The curve `phi = h`, of one or more pieces.

        Raises:
            ValueError: it does not meet the square.
        """
        from contourpy import contour_generator

        axis = self.axis.double().numpy()
        lines = contour_generator(axis, axis, self.values.double().numpy()).lines(h)
        pieces = [torch.from_numpy(line).float() for line in lines if len(line) > 1]
        if not pieces:
            raise ValueError(f"LevelCurves: no point of the square of side {2 * SIDE:g} has the value {h:.4g}")
        start = torch.cat([piece[:-1] for piece in pieces])
        step = torch.cat([piece.diff(dim=0) for piece in pieces])
        middle = start + step / 2
        _, slope = value_and_gradient(self.phi, middle)
        mass = step.norm(dim=1) * self.density(middle) / slope.norm(dim=1).clamp(min=1e-12)
        before = torch.cat((torch.zeros(1), mass.double().cumsum(0).float() / mass.sum()))
        before[-1] = 1.0
        return LevelCurve(start, step, before)
