"""Consistency with a known law: are the factors of the samples distributed as the exact ones of the same target?

The law may differ from target to target, so the factors of a sample are compared with exact factors of its own
target, and only the comparisons are pooled. All functions get the samples' coordinates `(n, B, E)` and exact ones
`(M, B, E)` of the same `B` targets. Finite samples do not score 0, so compare each metric with its floor, the value of
exact samples.
"""

import torch
from torch import Tensor

from fibermodels import distances
from fibermodels.noise import seeded

MOST = 4000
"""Samples that `joint_distance` compares with one another."""


def factor_ks(found: Tensor, known: Tensor) -> float:
    """The Kolmogorov-Smirnov distance of each coordinate from its law, averaged over coordinates: in [0, 1].

    The rank of a sample's coordinate among the exact ones of its target is uniform on {0, ..., M} if the law is right.
    Ties are broken at random. The largest distance between the two distribution functions, over all `N = n B` samples,
    has the mean `.8687 / sqrt(N)` for exact samples (Kolmogorov's distribution), and about `sqrt(1 + n / M)` times as
    much here, because the exact coordinates are finite, too.
    """
    below = (known[:, None] < found).sum(0)
    equal = (known[:, None] == found).sum(0)
    chance = torch.rand(found.shape, generator=seeded("ties")).to(found.device)
    ranks = below + ((equal + 1) * chance).floor()  # (n, B, E)
    uniform = (ranks + torch.rand(found.shape, generator=seeded("jitter")).to(found.device)) / (len(known) + 1)
    ordered = uniform.flatten(0, 1).double().sort(0).values  # (N, E)
    steps = torch.arange(len(ordered) + 1, dtype=torch.double, device=found.device)[:, None] / len(ordered)
    return torch.maximum(steps[1:] - ordered, ordered - steps[:-1]).amax(0).mean().item()


def joint_distance(found: Tensor, known: Tensor, h: Tensor) -> float:
    """The energy distance of all coordinates jointly, given the representation, relative to the law's own spread.

    It compares samples `f_i` with exact factors `g_i`, one for each, over all pairs of different samples `i` and `j`:

        sum_ij w_ij (|f_i - g_j| + |g_i - f_j| - |f_i - f_j| - |g_i - g_j|) / sum_ij w_ij |g_i - g_j|.

    The weight `w_ij = exp(-|u_i - u_j|^2 / (2 s^2))` is large for targets that the subject sees as similar: `u` are
    the first five principal components of their representations, and `s` is half of their median distance. So a
    distribution that is right on average over all targets and wrong on each fiber is found, too. Coordinates are
    divided by their deviation over all exact factors. Exact samples score 0 on average, and can score below. NaN for
    one or two targets.

    Args:
        found: coordinates of the samples, `(n, B, E)`; at most `MOST` of them are compared, slot by slot.
        known: exact ones, `(n or more, B, E)`.
        h: representations of the targets, `(B, *feature_shape)`.

    Reference: Szekely & Rizzo, "Energy statistics", 2013; the product with a kernel on `u` is a maximum mean
    discrepancy of the joint distribution of factors and representations (Gretton et al., JMLR 13, 2012).
    """
    if found.shape[1] < 3:
        return float("nan")  # no median distance
    slots = max(1, min(len(found), MOST // found.shape[1]))
    count = min(found.shape[1], MOST)
    u = h[:count].flatten(1).double()
    u = (u - u.mean(0)) / u.std(0).clamp_min(1e-9)
    u = u @ torch.linalg.svd(u, full_matrices=False).Vh[:5].T
    distance = torch.cdist(u, u)
    weight = torch.exp(-0.5 * (distance / (0.5 * distance.median()).clamp_min(1e-9)).square()).repeat(slots, slots)
    weight.fill_diagonal_(0)
    scale = known.flatten(0, 1).std(0).clamp_min(1e-12)
    f, g = ((each[:slots, :count] / scale).flatten(0, 1).double() for each in (found, known))
    across, within = torch.cdist(f, g), torch.cdist(g, g)
    return ((weight * (across + across.T - torch.cdist(f, f) - within)).sum() / (weight * within).sum()).item()


def mode_error(found: Tensor, known: Tensor) -> float:
    """The largest difference between the share of samples in a mode and the mode's weight, in [0, 1].

    Args:
        found: indicators of the samples' modes, `(n, B, M)`.
        known: indicators of exact factors' modes, `(m, B, M)`.
    """
    return (found.float().mean((0, 1)) - known.float().mean((0, 1))).abs().max().item()


def pixel_error(images: Tensor, nearest: Tensor) -> float:
    """Root mean square over pixels and channels of `x_hat - render(b, factors(x_hat))`, averaged: 0 is best.

    `b` is the target's content, so the second term is the member of the exact fiber with the sample's own factors. The
    metric does not use the subject: a sample that only misleads the subject, like an adversarial example, has a small
    fiber RMS and a large error here.

    Args:
        images: samples `(n, B, C, H, W)`.
        nearest: the members of the fibers with the samples' factors, of the same shape.
    """
    return torch.stack([distances.rms(*pair).mean() for pair in zip(images, nearest, strict=True)]).mean().item()
