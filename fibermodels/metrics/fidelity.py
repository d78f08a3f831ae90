"""Fidelity: are the samples on the fiber?

With `D` dimensions of the representation, `h` of a target and `h_hat` of its sample; every metric
averages over all pairs of a target and one of its samples.
"""

import torch
from torch import Tensor

from fibermodels import distances
from fibermodels.core import FiberSamples


def _pairs(samples: FiberSamples) -> Tensor:
    return distances.rms(samples.h, samples.h_hat, batch_dims=2)


def fiber_rms(samples: FiberSamples) -> float:
    """`||h_hat - h||_2 / sqrt(D)`; 0 is on the fiber (arXiv 2603.21782, eq. 3, as its code computes it)."""
    return _pairs(samples).mean().item()


def fiber_rms_std(samples: FiberSamples) -> float:
    """Standard deviation of the same over all pairs: the spread between targets included."""
    return _pairs(samples).std(correction=0).item()


def fiber_l2_squared(samples: FiberSamples) -> float:
    """`||h_hat - h||_2^2`, summed over dimensions (the unit of the same paper's ImageNet tables)."""
    return (samples.h_hat - samples.h).flatten(2).square().sum(-1).mean().item()


def fiber_rms_shuffled(samples: FiberSamples) -> float:
    """`fiber_rms` of the same samples against the next target's representation.

    Where it is no larger than `fiber_rms`, the model ignores its condition. NaN for a single target.
    """
    if len(samples.h) < 2:
        return float("nan")
    return distances.rms(samples.h.roll(1, 0), samples.h_hat, batch_dims=2).mean().item()


def cosine(samples: FiberSamples) -> float:
    """`cos(h, h_hat)`, in [-1, 1]; 1 is best."""
    return 1 - distances.cosine(samples.h, samples.h_hat, batch_dims=2).mean().item()


def mean_reciprocal_rank(samples: FiberSamples) -> float:
    """1 / rank of the sample's own target among all targets by distance to `h_hat`, in (0, 1].

    1 means that every sample is nearer to its own target than to any other.
    """
    targets = samples.h.flatten(1)
    total = 0.0
    for slot in samples.h_hat.flatten(2):
        for start in range(0, len(slot), 1000):
            part = slot[start : start + 1000]
            distance = torch.cdist(part, targets)
            own = (part - targets[start : start + 1000]).norm(dim=1)  # exact where cdist has rounded
            rows = torch.arange(len(part))
            distance[rows, start + rows] = own
            total += (1 / (distance < own[:, None]).sum(1).add(1)).sum().item()
    return total / samples.h_hat.shape[:2].numel()
