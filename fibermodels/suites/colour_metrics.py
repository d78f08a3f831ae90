"""Consistency: do the samples have the distribution of the data on the fiber?

The colour law is the same on every fiber, so the colours of all targets are pooled. A slot is one sample of each
target. The background is estimated from a sample's first column; a metric is computed per slot and channel, and
averaged. Finite samples do not score 0, so compare each metric with its floor, the value of as many exact samples.

Reference: arXiv 2603.21782, section 4.1, and its public code (100 bins on [0, 1]).
"""

import torch
from torch import Tensor

from fibermodels.core import FiberSamples
from fibermodels.suites import colour

BINS = 100


def _histograms(samples: FiberSamples) -> tuple[Tensor, Tensor]:
    """Probabilities per bin: of each slot and channel `(n * 3, BINS)`, and of the law `(BINS,)`."""
    backgrounds = colour.estimate_backgrounds(samples.x_hat).double()  # (n, B, 3)
    edges = torch.linspace(0, 1, BINS + 1, dtype=torch.double)
    columns = backgrounds.transpose(1, 2).flatten(0, 1).cpu()
    counts = torch.stack([torch.histogram(column, edges).hist for column in columns])
    law = colour.density((edges[1:] + edges[:-1]) / 2)
    return counts / counts.sum(1, keepdim=True), law / law.sum()


def colour_kl(samples: FiberSamples) -> float:
    """`sum_b p_b log(p_b / q_b)` in nats, of the samples' colours `p` against the law `q` at bin centres."""
    p, q = _histograms(samples)
    return torch.special.xlogy(p, p / q).sum(1).mean().item()


def colour_w1(samples: FiberSamples) -> float:
    """Wasserstein-1 distance of the same histograms, `width * sum_b |CDF_p - CDF_q|`, in units of colour."""
    p, q = _histograms(samples)
    return ((p.cumsum(1) - q.cumsum(0)).abs().sum(1) / BINS).mean().item()


def contrast_error(samples: FiberSamples) -> float:
    """`|max_p m_hat_k(p) - max_p m_k(p)|` over pixels p, averaged over channels k: 0 is best.

    `m_k` is the intensity (`colour.decolorise`) of the target in channel k, and `m_hat_k` that of its sample. A subject
    that averages the channels does not notice if one channel gains contrast and another loses it; this metric does.
    """
    own = colour.decolorise(samples.x).flatten(-2).amax(-1)
    errors = [(colour.decolorise(slot).flatten(-2).amax(-1) - own).abs().mean().item() for slot in samples.x_hat]
    return sum(errors) / len(errors)
