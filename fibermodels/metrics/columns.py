"""Vectors, column by column: their marginal laws, how far they move along a fiber, and what the network sees.

All are in units of the targets' deviation in each column, so they do not depend on the columns' units.
"""

import torch
from torch import Tensor

from fibermodels.core import FiberSamples, Subject


def wasserstein(a: Tensor, b: Tensor) -> Tensor:
    """The Wasserstein distance of order 1 between the columns of rows `(N, D)` and `(M, D)`: the integral of the
    distance of their distribution functions, `(D,)`."""
    values, order = torch.cat((a, b)).sort(0)
    jump = torch.cat((a.new_full((len(a),), 1 / len(a)), b.new_full((len(b),), -1 / len(b))))
    return (jump[order].cumsum(0)[:-1].abs() * values.diff(dim=0)).sum(0)


def column_distances(samples: FiberSamples) -> Tensor:
    """The Wasserstein distance of all samples from all targets in each column, `(D,)`."""
    return wasserstein(samples.x_hat.flatten(0, 1), samples.x) / deviation(samples.x)


def column_w1(samples: FiberSamples) -> float:
    """`column_distances`, averaged over columns. If the targets are draws of the data, exact samples of their fibers
    are so, too. NaN for inputs that are no vectors, and for a single target."""
    if samples.x.ndim != 2 or len(samples.x) < 2:
        return float("nan")
    return float(column_distances(samples).mean())


def movement(samples: FiberSamples) -> Tensor:
    """The root mean square of sample minus target in each column, `(D,)`: about 0 where the fiber is pinned, and 1.4
    where samples do not depend on the target."""
    return (samples.x_hat - samples.x).square().mean((0, 1)).sqrt() / deviation(samples.x)


def sensitivity(subject: Subject, x: Tensor) -> Tensor:
    """How much the representation changes with each column: the norm of the Jacobian's column, averaged over inputs
    `x` `(B, D)`; `(D,)`."""

    def total(units: Tensor) -> Tensor:
        return subject(units).flatten(1).sum(0)

    with torch.enable_grad():
        jacobian: Tensor = torch.autograd.functional.jacobian(total, x.detach())  # (K, B, D): rows are independent
    return jacobian.square().sum(0).sqrt().mean(0) * deviation(x)


def deviation(x: Tensor) -> Tensor:
    """The deviation of each column of `x` `(B, D)`; 1 where it is 0."""
    own = x.std(0, correction=0)
    return torch.where(own > 0, own, torch.ones_like(own))
