"""Four modes in the plane and a score of the direction: soft and hard constraints whose laws are known.

A prior `p` and a score `s` induce, at the same expected score `m`,

    the truncation   p(x | s(x) >= t)             (a hard constraint), and
    the tilt         p(x) exp(lambda s(x)) / Z    (a soft one: the law with `E s = m` that is nearest to `p` in KL).

Draws of the prior get a weight under both, so expectations, divergences and total variations need no other sampler.

Reference: A Distributional View for Visual Mechanistic Interpretability (EnergyDPS), section 2.2.2 and appendix H. The
text that we have lacks its formulas; the places of the modes, their spread and the form of the score are ours.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from fibermodels.core import Subject
from fibermodels.diffusion.analytic import GaussianMixture
from fibermodels.latents import Identity

PLACE, SPREAD, HIGHEST = 2.0, 0.7, 8.0
"""The modes are at `(+-PLACE, +-PLACE)` with this deviation; the highest score is that of the direction (-1, -1)."""


class AngularScore(Subject):
    """`s(x) = 4 (1 - cos(angle between x and (1, 1)))`, in [0, 8]: `(B, 2)` to `(B, 1)`."""

    def __init__(self) -> None:
        super().__init__()
        self.input_shape, self.feature_shape = (2,), (1,)
        self.freeze()

    def forward(self, images: Tensor) -> Tensor:
        radius = images.norm(dim=1, keepdim=True).clamp(min=1e-6)
        return HIGHEST / 2 * (1 - images.sum(1, keepdim=True) / (math.sqrt(2) * radius))


class FourModes(GaussianMixture):
    """The prior with its exact denoiser, over points as they are."""

    def __init__(self) -> None:
        means = [[x * PLACE, y * PLACE] for x in (-1, 1) for y in (-1, 1)]
        super().__init__(Identity(input_shape=[2]), means, [[SPREAD, SPREAD]] * 4, schedule="cosine")

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """Points of the prior, `(count, 2)`."""
        place = torch.randint(4, (count,), generator=generator)
        return self.means[place] + SPREAD * torch.randn(count, 2, generator=generator)

    def log_density(self, x: Tensor) -> Tensor:
        """`log p(x)` of points `(N, 2)` in nats, `(N,)`."""
        square = (x[:, None] - self.means.to(x)).square().sum(2) / SPREAD**2
        return (-square / 2).logsumexp(1) - math.log(4 * 2 * math.pi * SPREAD**2)


def bisected(achieved: Callable[[float], float], goal: float, low: float, high: float, rounds: int = 50) -> float:
    """Where an increasing function reaches `goal`, between `low` and `high`."""
    for _ in range(rounds):
        middle = (low + high) / 2
        low, high = (middle, high) if achieved(middle) < goal else (low, middle)
    return (low + high) / 2


def tilt(s: Tensor, strength: float) -> Tensor:
    """The weights of draws with scores `s` `(N,)` under the tilt; they sum to 1."""
    return (strength * s.double()).softmax(0)


def truncation(s: Tensor, threshold: float) -> Tensor:
    """The weights of draws with scores `s` `(N,)` under the truncation; they sum to 1."""
    kept = (s >= threshold).double()
    return kept / kept.sum()


def tilted_to(s: Tensor, goal: float) -> float:
    """The strength at which the tilt of draws has the expected score `goal`."""
    return bisected(lambda strength: float(tilt(s, strength) @ s.double()), goal, -20.0, 50.0)


def truncated_to(s: Tensor, goal: float) -> float:
    """The threshold at which the truncation of draws has the expected score `goal`."""
    return bisected(
        lambda threshold: float(truncation(s, threshold) @ s.double()), goal, float(s.min()), float(s.max())
    )


def divergence(weights: Tensor) -> float:
    """The Kullback-Leibler divergence, in nats, of a reweighted law of `N` draws from the law of the draws."""
    return float(torch.special.xlogy(weights, weights * len(weights)).sum())


def total_variation(one: Tensor, other: Tensor) -> float:
    """The total variation between two reweighted laws of the same draws, in [0, 1]."""
    return float((one - other).abs().sum() / 2)


def stein_discrepancy(x: Tensor, slope: Tensor) -> float:
    """The kernel Stein discrepancy (V-statistic) of points `(N, 2)` from a law with `slope = grad log q` `(N, 2)`.

    The kernel is `(1 + |x - y|^2)^(-1/2)`. It is 0 in the limit of many points of the law, and needs no normalisation
    of `q`.

    Reference: Gorham & Mackey, arXiv 1703.01717.
    """
    apart = x[:, None] - x
    square = apart.square().sum(2)
    base = 1 + square
    kernel, first, second = base**-0.5, -(base**-1.5), 3 * base**-2.5  # k, and k' and k'' in |x - y|^2 / 2
    along = (apart * (slope[None] - slope[:, None])).sum(2)
    terms = kernel * (slope @ slope.T) + first * along - (2 * first + second * square)
    return float(terms.double().mean().clamp(min=0).sqrt())


def kernel_density(x: Tensor, grid: Tensor, bandwidth: float) -> Tensor:
    """The mean of Gaussians of this deviation about points `(N, 2)`, at the points `(G, 2)` of a grid."""
    parts = [(-(part[:, None] - x).square().sum(2) / (2 * bandwidth**2)).exp().mean(1) for part in grid.split(500)]
    return torch.cat(parts) / (2 * math.pi * bandwidth**2)
