"""The condition of networks that work on flat vectors."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from fibermodels.nn.standardise import Standardise


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
