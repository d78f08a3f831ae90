"""Diversity: do the samples of one target differ as the data on its fiber do?"""

from fibermodels import distances
from fibermodels.core import FiberSamples


def pairwise_distance(samples: FiberSamples) -> float:
    """RMS pixel distance between two samples of the same target, averaged over pairs and targets.

    Read it beside that of exact samples: less is collapse, more is noise. NaN for a single sample.
    """
    n = len(samples.x_hat)
    if n < 2:
        return float("nan")
    total = 0.0
    for i in range(n):
        for j in range(i):
            total += distances.rms(samples.x_hat[i], samples.x_hat[j]).mean().item()
    return total / (n * (n - 1) / 2)
