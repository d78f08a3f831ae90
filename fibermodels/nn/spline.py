"""Monotone rational-quadratic splines: elementwise maps with an exact inverse.

`K` bins divide `[-bound, bound]` on both axes. In the bin from `(x_k, y_k)` with width `w`, height `e`, slope
`s = e / w` and derivatives `d_0, d_1` at its ends, with `u = (x - x_k) / w`,

    y = y_k + e (s u^2 + d_0 u (1 - u)) / (s + (d_1 + d_0 - 2 s) u (1 - u)).

Outside the interval the map is the identity.

Reference: Durkan et al., Neural spline flows, arXiv 1906.04032.
"""

import math

import torch
from torch import Tensor

SMALLEST = 1e-3
"""Of a derivative, and of a bin as a share of the interval."""


def rational_quadratic(value: Tensor, raw: Tensor, bound: float, reverse: bool = False) -> tuple[Tensor, Tensor]:
    """The map, or in reverse its inverse.

    Args:
        value: `(B, D)`.
        raw: unconstrained parameters `(B, D, 3 K - 1)`, in order those of widths, heights and inner derivatives.
            The map is the identity where all are 0.
        bound: half the length of the interval.
        reverse: computes the inverse.

    Returns:
        The result, and the logarithm of its derivative in `value`, each `(B, D)`.
    """
    bins = (raw.shape[-1] + 1) // 3
    sizes = torch.stack((raw[..., :bins], raw[..., bins : 2 * bins])).softmax(-1)
    sizes = 2 * bound * (SMALLEST + (1 - SMALLEST * bins) * sizes)  # of widths and heights: (2, B, D, K)
    knots = sizes.cumsum(-1) - sizes - bound  # where each bin begins
    slopes = SMALLEST + torch.nn.functional.softplus(raw[..., 2 * bins :] + math.log(math.expm1(1 - SMALLEST)))
    slopes = torch.nn.functional.pad(slopes, (1, 1), value=1.0)
    inner = value.clamp(-bound, bound)
    index = (inner[..., None] >= knots[int(reverse), ..., 1:]).sum(-1, keepdim=True)
    (x, y), (width, height) = (part.gather(-1, index.expand(2, *index.shape))[..., 0] for part in (knots, sizes))
    first, second = (slopes.gather(-1, index + k)[..., 0] for k in (0, 1))
    slope = height / width
    bend = second + first - 2 * slope
    if reverse:
        rise = inner - y
        b = height * first - rise * bend
        root = (b.square() + 4 * slope * rise * (height * slope - height * first + rise * bend)).clamp(min=0).sqrt()
        u = 2 * slope * rise / (b + root)
        result = x + u * width
    else:
        u = (inner - x) / width
        result = y + height * (slope * u.square() + first * u * (1 - u)) / (slope + bend * u * (1 - u))
    below = slope + bend * u * (1 - u)
    above = second * u.square() + 2 * slope * u * (1 - u) + first * (1 - u).square()
    log_derivative = 2 * (slope / below).log() + above.log()
    inside = value.abs() < bound
    return (
        torch.where(inside, result, value),
        torch.where(inside, -log_derivative if reverse else log_derivative, 0.0),
    )
