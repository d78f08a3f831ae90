"""What a network ignores: how far its inputs vary along the fiber, pixel by pixel and in which directions.

The samples `x_1 ... x_n` of a fiber have the mean `m` and the covariance `C`. The map is the root of the diagonal of
`C`; the leading directions are its first eigenvectors, and their share is that of the trace. For a linear network and
normal inputs, `C` is the projection of their covariance on the null space.

A direction is an invariance if the representation does not change along it. So the figure of merit is the change at a
step of one standard deviation, both ways, as the root mean square over the representation. Its null takes a direction
of the same length and the same power spectrum with random phases.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from fibermodels import distances
from fibermodels.applications.drawing import fibers, representations
from fibermodels.applications.finding import Finding, Merit, Strip, Table, fidelity
from fibermodels.checks import check_numbers
from fibermodels.core import FiberModel, Subject
from fibermodels.display import heat
from fibermodels.noise import seeded

Factors = Callable[[Tensor, Tensor], Tensor]
"""Reads factors `(..., B, K)` of samples `(..., B, C, H, W)` of targets `(B, C, H, W)`, as `HasLaw.factors` does."""

SHOWN = 8
"""Targets in a picture."""


@dataclass(frozen=True, repr=False)
class InvarianceMap(Finding):
    """The spread of the fiber of each image.

    Args:
        images: the targets `(B, C, H, W)`.
        mean: of the samples, `(B, C, H, W)`.
        spread: the standard deviation of each pixel, `(B, H, W)`: the root of the mean of its channels' variances.
        directions: the leading ones, unit vectors `(B, K, C, H, W)`.
        deviations: of the samples along them, `(B, K)`.
        shares: of the variance along them, `(B, K)`.
        factors: standard deviations of known factors over the fiber, `(B, F)`; None if none are known.
        response: change of the representation along the directions, `(B, K)`.
        response_null: the same along random directions.
        fidelity: how far the samples are from the fiber.
    """

    question = "What does the network ignore?"

    images: Tensor
    mean: Tensor
    spread: Tensor
    directions: Tensor
    deviations: Tensor
    shares: Tensor
    factors: Tensor | None
    response: Tensor
    response_null: Tensor
    fidelity: list[Merit]

    @property
    def merits(self) -> list[Merit]:
        means = float(self.response.mean()), float(self.response_null.mean())
        meaning = (
            "The change of the representation at one standard deviation along the leading directions of the fiber; the "
            "null takes random directions of the same length and power spectrum. A map is to be trusted where the "
            "first is far below the second."
        )
        return [Merit("change along the fiber", *means, meaning), *self.fidelity]

    def strips(self) -> list[Strip]:
        top = float(self.spread[:SHOWN].max())
        found = []
        for i in range(min(SHOWN, len(self.images))):
            moved = [self._moved(i, k, sign) for k in range(self.directions.shape[1]) for sign in (-2, 2)]
            coloured = heat(self.spread[i], top)
            pictures = [_colour(self.images[i]), _colour(self.mean[i]), coloured, *(_colour(each) for each in moved)]
            names = [f"{sign} sd, {100 * float(share):.0f} %" for share in self.shares[i] for sign in ("-2", "+2")]
            found.append(Strip(f"image {i + 1}", torch.stack(pictures), ["image", "mean", "spread", *names]))
        return found

    def _moved(self, i: int, k: int, steps: int) -> Tensor:
        return self.mean[i] + steps * self.deviations[i, k] * self.directions[i, k]

    def table(self) -> Table | None:
        if self.factors is None:
            return None
        lines = [[f"factor {i + 1}", f"{value:.3g}"] for i, value in enumerate(self.factors.mean(0).tolist())]
        return Table(["factor", "standard deviation over the fiber"], lines)


def invariance_map(
    model: FiberModel,
    subject: Subject,
    images: Tensor,
    n: int = 64,
    directions: int = 2,
    seed: int = 0,
    factors: Factors | None = None,
) -> InvarianceMap:
    """Maps what a network ignores around each image.

    Args:
        model: samples the fibers.
        subject: the network.
        images: the targets `(B, C, H, W)` in [0, 1].
        n: samples of each, more than `directions`.
        directions: leading directions of each.
        seed: of the samples and of the random directions.
        factors: reads known factors of samples; None if none are known.

    Raises:
        ValueError: no images for the subject, or a number out of its range.
    """
    check_numbers("invariance_map", {"directions": directions}, least=1)
    check_numbers("invariance_map", {"n": n}, least=directions + 1)
    samples = fibers(model, subject, images, n, seed)
    mean = samples.x_hat.mean(0)
    deviations = (samples.x_hat - mean).transpose(0, 1)  # (B, n, C, H, W)
    spread = (deviations.square().sum(1) / (n - 1)).mean(1).sqrt()
    leading, variance = principal(deviations, directions)
    sizes, total = variance.sqrt(), deviations.flatten(1).square().sum(1, keepdim=True) / (n - 1)
    shares = variance / total.clamp(min=1e-20)
    along, random = (_response(subject, mean, own, sizes) for own in (leading, rephased(leading, seed)))
    known = None if factors is None else factors(samples.x_hat, images).std(0)
    near = fidelity(samples.h, samples.h_hat)
    return InvarianceMap(images, mean, spread, leading, sizes, shares, known, along, random, near)


def principal(deviations: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The `count` leading principal directions of deviations `(B, n, *shape)` from their mean, unit vectors
    `(B, count, *shape)`, and the variances along them `(B, count)`."""
    flat = deviations.flatten(2)
    values, vectors = torch.linalg.eigh((flat @ flat.mT).double())  # n x n, which is smaller than D x D
    values, vectors = values[:, -count:].flip(1).clamp(min=0), vectors[..., -count:].flip(2)
    directions = torch.nn.functional.normalize(vectors.mT.float() @ flat, dim=2)
    return directions.unflatten(2, deviations.shape[2:]), (values / (flat.shape[1] - 1)).float()


def _response(subject: Subject, around: Tensor, directions: Tensor, sizes: Tensor) -> Tensor:
    """The change of the representation, half of that between both ends of a step both ways: `(B, K)`."""
    step = sizes[..., None, None, None] * directions
    one, other = (representations(subject, (around[:, None] + sign * step).clamp(0, 1)) for sign in (1, -1))
    return distances.rms(one, other, batch_dims=2) / 2


def rephased(directions: Tensor, seed: int) -> Tensor:
    """Random directions with the lengths and the power spectra of directions `(B, K, C, H, W)`: white noise has random
    phases, and all channels get the same ones."""
    noise = torch.randn(*directions.shape[:2], 1, *directions.shape[3:], generator=seeded("directions", seed))
    spectrum = torch.fft.rfft2(noise)
    turned = torch.fft.rfft2(directions) * spectrum / spectrum.abs().clamp(min=1e-12)
    found = torch.fft.irfft2(turned, s=directions.shape[-2:])
    length = found.flatten(2).norm(dim=2).clamp(min=1e-12)
    return found / length[..., None, None, None] * directions.flatten(2).norm(dim=2)[..., None, None, None]


def _colour(image: Tensor) -> Tensor:
    return image.clamp(0, 1) if len(image) == 3 else image.mean(0, keepdim=True).clamp(0, 1).expand(3, -1, -1)
