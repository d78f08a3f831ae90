"""The scores of calibration of a result, and the figure of its ranks."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from scipy.stats import binom
from torch import Tensor

from fibermodels.core import FiberSamples
from fibermodels.metrics.calibration import coverage_pvalue, coverage_ranks, energy_score, ranks, uniformity_pvalue
from fibermodels.metrics.descriptions import named_components, pixel_scalars, pixel_vectors
from fibermodels.metrics.two_sample import joint_pvalue
from fibermodels.noise import seeded

FEWEST, MOST, SLOTS = 20, 5000, 20
"""The tests need 20 targets; of more than 5,000 targets or 20 samples each they use so many, chosen at random with a
fixed seed."""

LEVEL = 0.01
"""The level at which ranks of a scalar are rejected."""

PANELS = 12
"""The largest number of scalars in the figure."""


def subset(samples: FiberSamples) -> FiberSamples:
    """The targets and samples that are tested: at most `MOST` and `SLOTS`, the same for every model."""
    slots = samples.x_hat[:SLOTS], samples.h_hat[:SLOTS]
    if len(samples.x) <= MOST:
        return FiberSamples(samples.x, samples.h, *slots)
    rows = torch.randperm(len(samples.x), generator=seeded("calibration"))[:MOST].sort().values
    return FiberSamples(samples.x[rows], samples.h[rows], *(each[:, rows] for each in slots))


def scalar_ranks(samples: FiberSamples, seen: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
    """The ranks `(B,)` of every scalar, by name; arguments as in `calibration`."""
    scalars = pixel_scalars(samples)
    for name, vectors in (seen or {}).items():
        scalars |= named_components(name, vectors)
    return {name: ranks(members, seeded("ranks", name)) for name, members in scalars.items()}


def calibration(samples: FiberSamples, seen: Mapping[str, Tensor] | None = None) -> dict[str, float]:
    """Scores by name (`docs/calibration.md`); without those that need more targets or samples than there are.

    Args:
        samples: targets and samples, from `subset`.
        seen: judges' vectors for them, `(1 + n, B, D)`. Their components are further scalars, and they replace the
            pixels' description in TARP and the joint test.
    """
    values = {"energy_score": energy_score(samples)}
    if len(samples.x) < FEWEST:
        return values
    n = len(samples.x_hat)
    own_ranks = list(scalar_ranks(samples, seen).values())
    found = [uniformity_pvalue(each, n) for each in own_ranks]
    ends = [((each == 0) | (each == n)).double().mean().item() for each in own_ranks]
    own = seeded("tarp")
    features = torch.cat(list(seen.values()), -1) if seen else pixel_vectors(samples)
    return values | {
        "rank_scalars": len(found),
        "rank_rejected": sum(p < LEVEL for p in found),
        "rank_pvalue": min(1.0, len(found) * min(found)),
        "rank_outside": sum(ends) / len(ends),
        "rank_outside_floor": 2 / (n + 1),
        "tarp_pvalue": coverage_pvalue(coverage_ranks(features, samples.h, own), n, own),
        "joint_test_pvalue": joint_pvalue(features, samples.h, seeded("joint")),
    }


@dataclass(frozen=True)
class RankHistogram:
    """How many targets have each rank of a scalar, from 0 to the number of samples."""

    name: str
    counts: list[int]
    pvalue: float


def rank_histograms(samples: FiberSamples) -> tuple[list[RankHistogram], tuple[float, float]]:
    """The ranks of the scalars of pixels, the most suspicious `PANELS` of them.

    Returns:
        the histograms, and the least and the largest count of the band that contains 99 % of the counts of a right
        model in each bar.
    """
    samples = subset(samples)
    n, count = len(samples.x_hat), len(samples.x)
    found = [
        RankHistogram(name, torch.bincount(own, minlength=n + 1).tolist(), uniformity_pvalue(own, n))
        for name, own in scalar_ranks(samples).items()
    ]
    suspicious = sorted(found, key=lambda each: each.pvalue)[:PANELS]
    low, high = binom.ppf((0.005, 0.995), count, 1 / (n + 1))
    return [each for each in found if each in suspicious], (float(low), float(high))


def rank_figure(samples: FiberSamples, path: str | Path) -> None:
    """Draws the histograms of ranks with their band."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    shown, (low, high) = rank_histograms(samples)
    rows = -(-len(shown) // 4)
    figure, axes = plt.subplots(rows, 4, figsize=(13, 0.6 + 2.2 * rows), layout="constrained", squeeze=False)
    for each in axes.flat[len(shown) :]:
        each.remove()
    for own, each in zip(shown, axes.flat, strict=False):
        each.bar(range(len(own.counts)), own.counts, width=0.9)
        each.axhspan(low, high, color="grey", alpha=0.35)
        each.set_title(f"{own.name}: p = {own.pvalue:.2g}", fontsize=9)
    figure.supxlabel("rank of the image among its samples (number of samples with a smaller value)")
    figure.supylabel("targets")
    figure.suptitle("Ranks are uniform if the model is right; the band contains 99 % of a right model's bars")
    figure.savefig(path, dpi=80)
    plt.close(figure)
