"""Metrics: pure functions of `FiberSamples`, each returning one float.

Metrics that need another network than the subject are in `classifiers` and `features`; `agreement`, `shape_texture`,
`frechet` and `kid` contain their formulas.
"""

from fibermodels.metrics.columns import column_w1
from fibermodels.metrics.diversity import pairwise_distance
from fibermodels.metrics.fidelity import (
    cosine,
    cosine_per_location,
    fiber_l2_squared,
    fiber_rms,
    fiber_rms_shuffled,
    fiber_rms_std,
    mean_reciprocal_rank,
)
from fibermodels.metrics.likelihood import nll_bits_per_dim

__all__ = [
    "column_w1",
    "cosine",
    "cosine_per_location",
    "fiber_l2_squared",
    "fiber_rms",
    "fiber_rms_shuffled",
    "fiber_rms_std",
    "mean_reciprocal_rank",
    "nll_bits_per_dim",
    "pairwise_distance",
]
