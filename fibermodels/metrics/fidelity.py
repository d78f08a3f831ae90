"""Fidelity: are the samples on the fiber?

`h` is the representation of a target, `h_hat` that of its sample, and `D` their number of dimensions. Every metric
averages over all pairs of a target and one of its samples.
"""

import torch
from torch import Tensor

from fibermodels import distances
from fibermodels.core import FiberSamples


def pair_rms(samples: FiberSamples) -> Tensor:
    """The fiber RMS of each pair of a target and one of its samples, `(n, B)`."""
    return torch.stack([distances.rms(samples.h, slot) for slot in samples.h_hat])  # maps are large: slot by slot


def fiber_rms(samples: FiberSamples) -> float:
    """`||h_hat - h||_2 / sqrt(D)`, 0 on the fiber (arXiv 2603.21782, eq. 3, as its code computes it)."""
    return pair_rms(samples).mean().item()


def fiber_rms_std(samples: FiberSamples) -> float:
    """Standard deviation of `||h_hat - h||_2 / sqrt(D)` over all pairs of all targets."""
    return pair_rms(samples).std(correction=0).item()


def fiber_l2_squared(samples: FiberSamples) -> float:
    """`||h_hat - h||_2^2`, as in the ImageNet tables of arXiv 2603.21782."""
    return torch.stack([(slot - samples.h).flatten(1).square().sum(-1) for slot in samples.h_hat]).mean().item()


def fiber_rms_shuffled(samples: FiberSamples) -> float:
    """`fiber_rms` of the same samples against the next target's representation.

    If it is not larger than `fiber_rms`, the model ignores its condition. NaN for a single target.
    """
    if len(samples.h) < 2:
        return float("nan")
    others = samples.h.roll(1, 0)
    return torch.stack([distances.rms(others, slot) for slot in samples.h_hat]).mean().item()


def cosine(samples: FiberSamples) -> float:
    """`cos(h, h_hat)`, in [-1, 1]; 1 is best."""
    return 1 - torch.stack([distances.cosine(samples.h, slot) for slot in samples.h_hat]).mean().item()


def cosine_per_location(samples: FiberSamples) -> float:
    """The cosine along the channels of maps `(B, C, h, w)`, averaged over locations, in [-1, 1]; 1 is best.

    It gives every location the same weight, as in FeatInv's tables; `cosine` compares whole maps. NaN for
    representations that are not maps.
    """
    if samples.h.ndim != 4:
        return float("nan")
    cosines = [torch.nn.functional.cosine_similarity(samples.h, slot, dim=1) for slot in samples.h_hat]
    return torch.stack([one.flatten(1).mean(1) for one in cosines]).mean().item()


def mean_reciprocal_rank(samples: FiberSamples) -> float:
    """1 / rank of the sample's own target among all targets by distance to `h_hat`, in (0, 1].

    It is 1 if every sample is nearer to its own target than to any other.
    """
    targets = samples.h.flatten(1)
    rows = max(32, min(1000, ELEMENTS // targets.shape[1]))
    total = 0.0
    for slot in samples.h_hat:
        for start in range(0, len(slot), rows):
            part = slot[start : start + rows].flatten(1)
            own = (part - targets[start : start + rows]).norm(dim=1)  # more exact than cdist
            nearer = torch.zeros(len(part))
            for low in range(0, len(targets), rows):
                distance = torch.cdist(part, targets[low : low + rows])
                if low == start:
                    distance.diagonal().copy_(own)
                nearer += (distance < own[:, None]).sum(1)
            total += (1 / (nearer + 1)).sum().item()
    return total / samples.h_hat.shape[:2].numel()


ELEMENTS = 2**24
"""The size of a block of representations whose distances are computed at once."""
