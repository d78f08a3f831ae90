"""Digits on smooth textures of 15 factors, which depend on the digit and on one another.

Each channel `k` of an image is a smooth field plus the digit `m`,

    x_k = a_0 + a_1 u + a_2 v + a_3 u v + a_4 (u^2 - v^2) + .3 m,    u, v in [-1, 1] the coordinates of a pixel.

With the digit's ink `a`, its slant `s`, and normal numbers `e` that have the correlation `.4 (1 + s)` between channels:

    b = [Phi(e_0) < sigmoid(1.5 a)],            a_0 = .27 + .18 b + .015 e_1       (two levels)
    r = .05 exp(.15 e_2),  w = 1.5 s + pi b + .5 e_3,  (a_1, a_2) = r (cos w, sin w)    (an arc for each level)
    a_3 = .04 (2 b - 1) + .012 e_4,             a_4 = .8 a_1 + .012 e_5.

A digit has no ink on the outermost ring of pixels, so the field is the least-squares solution there, exactly.
"""

from functools import cache
from math import pi

import torch
from torch import Tensor

from fibermodels.data.digits import Split
from fibermodels.suites.decolorise import DecolorisedEncoder
from fibermodels.suites.digit_suite import DigitSuite
from fibermodels.suites.digit_traits import correlated, traits

CONTRAST = 0.3
COEFFICIENTS = 5


@cache
def _basis(height: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
    """The five functions `(5, H, W)`, the ring `(H, W)`, and the solver `(5, ring pixels)`."""
    v, u = torch.meshgrid(
        torch.linspace(-1, 1, height, dtype=torch.double),
        torch.linspace(-1, 1, width, dtype=torch.double),
        indexing="ij",
    )
    functions = torch.stack((torch.ones_like(u), u, v, u * v, u**2 - v**2))
    ring = torch.ones(height, width, dtype=torch.bool)
    ring[1:-1, 1:-1] = False
    return functions.float(), ring, torch.linalg.pinv(functions[:, ring].T).float()


def solve(images: Tensor) -> Tensor:
    """The coefficients `(..., C, 5)` of images `(..., C, H, W)`: the least-squares fit to the outermost ring."""
    _, ring, solver = _basis(*images.shape[-2:])
    return images[..., ring.to(images.device)] @ solver.T.to(images)


def field(coefficients: Tensor, height: int, width: int) -> Tensor:
    """The fields `(..., C, H, W)` of coefficients `(..., C, 5)`."""
    functions = _basis(height, width)[0].to(coefficients)
    return torch.einsum("...j,jyx->...yx", coefficients, functions)


def detextured(images: Tensor) -> Tensor:
    """The digit in each channel, `(x - field) / .3`: `(..., C, H, W)`, linear in the image."""
    return (images - field(solve(images), *images.shape[-2:])) / CONTRAST


class TexturedDigits(DigitSuite):
    """Train, validation and test images of digits on smooth textures, 28 x 28.

    Args:
        base, root, batch_size, seed: as in `DigitSuite`.
    """

    kind, noise_dim = "textured", 18

    def contents(self, split: Split) -> Tensor:
        digits = super().contents(split)
        inside = torch.zeros(digits.shape[-2:])
        inside[1:-1, 1:-1] = 1
        return digits * inside

    def content(self, images: Tensor) -> Tensor:
        return detextured(images).mean(-3, keepdim=True).clamp(0, 1)

    def draw(self, noise: Tensor, content: Tensor) -> Tensor:
        ink, slant = traits(content)
        rows = noise.unflatten(-1, (6, 3))
        e = correlated(rows, 0.4 * (1 + slant)[:, None]).unbind(-2)  # six numbers (..., B, 3), one for each channel
        ink, slant = ink[:, None], slant[:, None]
        b = (torch.special.ndtr(e[0]) < torch.sigmoid(1.5 * ink)).to(noise)
        r, w = 0.05 * torch.exp(0.15 * e[2]), 1.5 * slant + pi * b + 0.5 * e[3]
        a1 = r * w.cos()
        level, saddle, stretch = (
            0.27 + 0.18 * b + 0.015 * e[1],
            0.04 * (2 * b - 1) + 0.012 * e[4],
            0.8 * a1 + 0.012 * e[5],
        )
        return torch.stack((level, a1, r * w.sin(), saddle, stretch), -1).flatten(-2)

    def render(self, content: Tensor, factors: Tensor) -> Tensor:
        coefficients = factors.unflatten(-1, (3, COEFFICIENTS))
        return (field(coefficients, *content.shape[-2:]) + CONTRAST * content).clamp(0, 1)

    def factors(self, images: Tensor, x: Tensor) -> Tensor:
        return solve(images).flatten(-2)

    def modes(self, factors: Tensor, content: Tensor) -> Tensor:
        """For each channel, whether its field has the higher level."""
        return factors.unflatten(-1, (3, COEFFICIENTS))[..., 0] > 0.36


class DetexturedEncoder(DecolorisedEncoder):
    """The subject of the suite: it removes the textures, averages the channels and encodes the digit, as
    `DecolorisedEncoder` does, with the same weights."""

    def digit(self, images: Tensor) -> Tensor:
        return detextured(images).mean(-3, keepdim=True)
