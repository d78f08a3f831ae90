"""Zero mean and unit variance, with statistics that are measured once, on the training set."""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from fibermodels.checks import check_feature_shape
from fibermodels.nn.measured import Measured

SMALLEST = 1e-3
"""A standard deviation below this share of their root mean square is replaced by that root mean square, so that a
dimension that never changed in training is not blown up."""


class Standardise(Measured):
    """`(h - mean) / std`: per dimension for vectors, per channel for maps `(C, H, W)`.

    It is the identity until it is measured, and so it is for weights that were saved without statistics.

    Args:
        shape: of one row of what is standardised.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, shape: Sequence[int]) -> None:
        super().__init__()
        self.shape = tuple(shape)
        own = (shape[0], 1, 1) if len(shape) == 3 else self.shape
        self.register_buffer("mean", torch.zeros(own))
        self.register_buffer("std", torch.ones(own))

    def forward(self, value: Tensor) -> Tensor:
        """Standardised rows `(B, *shape)`."""
        check_feature_shape("Standardise", value, self.shape)
        return (value - self.mean) / self.std

    def inverse(self, value: Tensor) -> Tensor:
        """Undoes `forward`."""
        return value * self.std + self.mean

    @torch.no_grad()
    def measure(self, rows: Tensor | Iterable[Tensor]) -> None:
        """Takes mean and standard deviation from rows `(N, *shape)`, or from batches of such rows.

        Raises:
            ValueError: no rows, rows of another shape, or rows that are not finite.
        """
        count, mean, square = 0, torch.zeros_like(self.mean).double(), torch.zeros_like(self.mean).double()
        for part in [rows] if isinstance(rows, Tensor) else rows:
            check_feature_shape("Standardise", part, self.shape)
            dims = (0, 2, 3) if len(self.shape) == 3 else (0,)
            exact, size = part.double(), part.numel() // max(1, self.mean.numel())
            if not exact.isfinite().all():
                raise ValueError("Standardise: expected finite representations to measure, got NaN or infinity")
            if not size:
                continue
            own = exact.mean(dims).view_as(mean)
            offset = own - mean
            square += (exact - own).square().sum(dims).view_as(mean) + offset.square() * (count * size / (count + size))
            mean += offset * (size / (count + size))
            count += size
        if not count:
            raise ValueError("Standardise: expected representations to measure, got none")
        std = (square / count).sqrt()
        usual = std.square().mean().sqrt() if std.any() else torch.ones_like(std).mean()
        self.mean.copy_(mean)
        self.std.copy_(torch.where(std < SMALLEST * usual, usual, std))
        self.measured = self.settled = True


class FlatCondition(nn.Module):
    """Representations `(B, *feature_shape)` to standardised vectors `(B, dim)`.

    Args:
        feature_shape: of one representation; empty for an unconditional network, whose condition has no dimensions.
    """

    def __init__(self, feature_shape: Sequence[int]) -> None:
        super().__init__()
        self.standardise = Standardise(feature_shape) if feature_shape else None
        self.dim = torch.Size(feature_shape).numel() if feature_shape else 0

    def forward(self, h: Tensor) -> Tensor:
        return h.new_zeros(len(h), 0) if self.standardise is None else self.standardise(h).flatten(1)

    @property
    def spread(self) -> Tensor:
        """The root mean square deviation of the dimensions of the representations; 1 until it is measured."""
        return torch.ones(()) if self.standardise is None else self.standardise.std.square().mean().sqrt()
