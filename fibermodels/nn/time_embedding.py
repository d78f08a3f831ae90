"""Times in [0, 1]: how a network sees them, and how training draws them."""

import torch
from torch import Tensor, nn


class TimeEmbedding(nn.Module):
    """`(B,)` to `(B, dim)`: sines and cosines at `dim / 2` frequencies, from 1 to `max_frequency` half periods.

    Reference: Vaswani et al., Attention is all you need, section 3.5; here for times in [0, 1].
    """

    frequencies: Tensor

    def __init__(self, dim: int = 64, max_frequency: float = 100.0) -> None:
        super().__init__()
        if dim < 2 or dim % 2:
            raise ValueError(f"TimeEmbedding: dim must be even and positive, got {dim}")
        frequencies = torch.logspace(0, torch.log10(torch.tensor(max_frequency)).item(), dim // 2)
        self.register_buffer("frequencies", torch.pi * frequencies, persistent=False)

    def forward(self, t: Tensor) -> Tensor:
        angles = t[:, None] * self.frequencies
        return torch.cat((angles.sin(), angles.cos()), -1)


def spread_times(like: Tensor) -> Tensor:
    """Training times `(B,)` for the B rows of `like`: each uniform on [0, 1), all spread evenly.

    Losses depend strongly on time; times that are spread evenly take this share of their variance away.

    Reference: Kingma et al., Variational diffusion models, arXiv 2107.00630, appendix I.1.
    """
    rows = torch.arange(len(like), device=like.device, dtype=like.dtype)
    return (torch.rand((), device=like.device, dtype=like.dtype) + rows / len(like)) % 1
