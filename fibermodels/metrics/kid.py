"""The kernel distance between two sets of features: the squared maximum mean discrepancy of a cubic kernel.

Its estimate is unbiased for any number of images: it is 0 on average for equal distributions, and can be negative.

Reference: Binkowski et al., arXiv 1801.01401 (KID); Gretton et al., JMLR 13 (2012), eq. 3 and 4.
"""

import torch
from torch import Tensor


def kernel(x: Tensor, y: Tensor) -> Tensor:
    """`(x . y / D + 1)^3` of all pairs, `(M, N)`, in float64."""
    return (x.double() @ y.double().T / x.shape[1] + 1) ** 3


def kernel_distance(x: Tensor, y: Tensor, paired: bool = False) -> float:
    """An unbiased estimate of `E k(x, x') + E k(y, y') - 2 E k(x, y)`.

    Args:
        x: features `(M, D)`.
        y: features `(N, D)`; each set contains independent draws of its distribution.
        paired: whether `y[i]` depends on `x[i]`; `k(x[i], y[i])` is then omitted (Gretton et al., eq. 4), because it
            would favour samples that resemble their targets.

    Raises:
        ValueError: a set has fewer than two vectors, or paired sets have different sizes.
    """
    if min(len(x), len(y)) < 2 or (paired and len(x) != len(y)):
        raise ValueError(f"kernel_distance: expected at least 2 vectors each, in equal numbers if paired; got "
                         f"{len(x)} and {len(y)}")  # fmt: skip
    across = kernel(x, y)
    between = _off_diagonal_mean(across) if paired else across.mean()
    return (_off_diagonal_mean(kernel(x, x)) + _off_diagonal_mean(kernel(y, y)) - 2 * between).item()


def _off_diagonal_mean(values: Tensor) -> Tensor:
    count = len(values)
    return (values.sum() - torch.diagonal(values).sum()) / (count * (count - 1))
