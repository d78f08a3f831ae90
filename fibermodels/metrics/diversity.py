"""Diversity: do the samples of one target differ as much as the data on its fiber?"""

import torch
from torch import Tensor

from fibermodels import distances
from fibermodels.core import FiberSamples


def pairwise_distance(samples: FiberSamples) -> float:
    """RMS pixel distance between two samples of the same target, averaged over pairs and targets.

    Compare it with the value of exact samples: a smaller value means mode collapse, a larger value noise. NaN for a
    single sample.
    """
    n = len(samples.x_hat)
    if n < 2:
        return float("nan")
    total = 0.0
    for i in range(n):
        for j in range(i):
            total += distances.rms(samples.x_hat[i], samples.x_hat[j]).mean().item()
    return total / (n * (n - 1) / 2)


class Spread:
    """The mean distance of a target's samples in a network's features, from one slot after another.

    `d(f, g)` is the squared difference of features that are normalised along their channels, summed over channels and
    averaged over locations: LPIPS (Zhang et al., arXiv 1801.03924) on one layer, without learned weights, in [0, 4].
    Its mean over all pairs of `n` samples follows from their sum, so no features are stored:
    `sum_{i<j} |f_i - f_j|^2 = n sum_i |f_i|^2 - |sum_i f_i|^2`.
    """

    def __init__(self) -> None:
        self.count = 0
        self.sum = self.squares = torch.zeros(())

    def update(self, features: Tensor) -> None:
        """Adds the features of one sample of each target: maps `(B, C, h, w)` or vectors `(B, C)`."""
        own = torch.nn.functional.normalize(features.double().reshape(*features.shape[:2], -1), dim=1)
        self.count += 1
        self.sum = self.sum + own
        self.squares = self.squares + own.square().sum(1)

    def mean(self) -> Tensor:
        """The mean of `d` over the pairs of each target's samples, `(B,)`; NaN for a single sample."""
        pairs = self.count * (self.count - 1) / 2
        if not pairs:
            return torch.full((len(self.sum),), float("nan"))
        total = self.count * self.squares - self.sum.square().sum(1)
        return total.mean(1).clamp(min=0) / pairs
