"""Zero mean and unit variance per dimension, with statistics that are measured once."""

import torch
from torch import Tensor, nn


class Standardise(nn.Module):
    """`(code - mean) / std` per dimension; the identity until it is measured."""

    mean: Tensor
    std: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("std", torch.ones(dim))

    def forward(self, code: Tensor) -> Tensor:
        return (code - self.mean) / self.std

    def inverse(self, code: Tensor) -> Tensor:
        """Undoes `forward`."""
        return code * self.std + self.mean

    def measure(self, codes: Tensor) -> None:
        """Takes mean and standard deviation from `codes` `(N, dim)`."""
        self.mean.copy_(codes.mean(0))
        self.std.copy_(codes.std(0))
