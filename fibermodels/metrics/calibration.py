"""Calibration: tests of a model's law on data whose law is unknown.

A held-out image `x_i` is an exact draw from `p(x | h_i)`. If the model is right, `x_i` and its `n` samples are
exchangeable given `h_i`: no function of them tells which one is the image. Every test here uses this fact and nothing
else, so it holds for any data and any subject. `members` `(1 + n, B, ...)` are the values of the image, in row 0, and
of its samples.

References: ranks, Talts et al., arXiv 1804.06788; TARP, Lemos et al., arXiv 2302.03026; the smooth test of uniformity,
Neyman, 1937; the energy score, Gneiting & Raftery, JASA 102 (2007), section 4.2.
"""

import numpy as np
import torch
from scipy.stats import chi2, kstest
from torch import Tensor

from fibermodels import distances
from fibermodels.core import FiberSamples

MOMENTS = 4
"""Polynomials of the test of uniformity: they see a shift, a spread, a skewness and heavy tails or a missing mode."""

COORDINATES = 1024
"""The largest number of coordinates of a representation that its distances use."""


def ranks(members: Tensor, generator: torch.Generator) -> Tensor:
    """How many samples have a smaller value than their image: `(B,)`, integers in {0, ..., n}.

    If the model is right, ranks are uniform and independent. Equal values are ordered at random: all members get
    independent noise of 1e-4 of their size. It keeps them exchangeable, and is larger than errors of rounding, which
    would otherwise order values that a fiber leaves constant.

    Args:
        members: one value of each image and of its samples, `(1 + n, B)`.
        generator: of the noise.
    """
    values = members.double()
    scale = 1e-4 * values.abs().max() + 1e-30
    values = values + scale * torch.rand(values.shape, generator=generator, dtype=torch.double)
    return (values[1:] < values[0]).sum(0)


def uniformity_pvalue(found: Tensor, n: int) -> float:
    """The p-value of ranks `(B,)` in {0, ..., n} under the uniform law, by Neyman's smooth test.

    The statistic is `sum_k (sum_i q_k(r_i))^2 / B` over the `K = min(n, 4)` first orthonormal polynomials `q_k` of the
    uniform law on {0, ..., n}. It has the law chi-square with `K` degrees of freedom for many targets; from 20 targets
    on, it rejected 4 to 6.5 % of uniform ranks at level .05, and .7 to 1.4 % at level .01.

    Power at level .05, for Gaussian values and 9 samples per target: a spread that is 10 % too narrow is found in 43,
    96 and 100 % of cases at 500, 2,000 and 5,000 targets, and 20 % in 98, 100 and 100 %. The chi-square test of the ten
    counts finds 31, 90, 100 % and 96, 100, 100 %.
    """
    degree = min(n, MOMENTS)
    points = np.linspace(-1, 1, n + 1)
    basis, _ = np.linalg.qr(np.vander(points, degree + 1, increasing=True))
    counts = torch.bincount(found, minlength=n + 1).double().numpy()
    moments = counts @ basis[:, 1:] * np.sqrt((n + 1) / len(found))
    return float(chi2.sf((moments**2).sum(), degree))


def coverage_ranks(features: Tensor, h: Tensor, generator: torch.Generator) -> Tensor:
    """TARP: how many samples are nearer to a reference than their image is, `(B - 1,)`, integers in {0, ..., n}.

    `rank / n` is the credibility of the smallest ball about the reference that contains the image; it is uniform if the
    model is right. The reference of a target is the image of an earlier target, the one with the nearest
    representation; the first target has none. It depends on `h`, as it has to: with references that do not, a model
    that ignores its condition passes. Only earlier targets count, so each rank is uniform given all ranks before it,
    and ranks are independent.

    Args:
        features: vectors that describe images and samples, `(1 + n, B, D)`, `B` at least 2.
        h: representations `(B, *feature_shape)`.
        generator: of the order of equal distances.
    """
    later = torch.ones(len(h), len(h), dtype=torch.bool).triu()
    nearest = condition_distances(h).masked_fill(later, float("inf"))[1:].argmin(1)
    away = torch.linalg.vector_norm(features[:, 1:] - features[0, nearest], dim=-1)
    return ranks(away, generator)


def coverage_pvalue(found: Tensor, n: int, generator: torch.Generator) -> float:
    """The p-value of ranks `(B,)` in {0, ..., n} of TARP, by the Kolmogorov-Smirnov test, as Lemos et al. propose.

    It compares `(rank + u) / (n + 1)`, with `u` uniform, which is exactly uniform in [0, 1] if the model is right.
    Coverage is wrong to one side, which this test finds about as often as the smooth test, or more often.
    """
    noise = torch.rand(len(found), generator=generator, dtype=torch.double)
    return float(kstest(((found + noise) / (n + 1)).numpy(), "uniform").pvalue)


def condition_distances(h: Tensor) -> Tensor:
    """Distances `(B, B)` between representations `(B, *feature_shape)`, each coordinate divided by its deviation.

    At most `COORDINATES` coordinates count, chosen at random with a fixed seed.
    """
    flat = h.flatten(1).float()
    if flat.shape[1] > COORDINATES:
        flat = flat[:, torch.randperm(flat.shape[1], generator=torch.Generator().manual_seed(0))[:COORDINATES]]
    spread = flat.std(0, correction=0)
    flat = (flat - flat.mean(0)) / torch.where(spread > 0, spread, 1)
    return torch.cdist(flat, flat)


def energy_score(samples: FiberSamples) -> float:
    """The energy score of the samples at their targets, in pixel units:

        E d(x_hat, x) - E d(x_hat, x_hat') / 2,   d the root mean square over pixels.

    It is proper: its expectation is lowest for the true law, also among models that are all rejected by the tests. It
    compares models on the same targets; its lowest value depends on the data and is not 0. The second term uses the
    pairs of neighbouring slots, so the estimate is unbiased if the samples of a target are independent. NaN for a
    single sample.
    """
    if len(samples.x_hat) < 2:
        return float("nan")
    to_target = torch.stack([distances.rms(samples.x, slot).mean() for slot in samples.x_hat]).mean()
    following = samples.x_hat.roll(1, 0)
    pairs = zip(samples.x_hat, following, strict=True)
    return (to_target - torch.stack([distances.rms(*pair).mean() for pair in pairs]).mean() / 2).item()
