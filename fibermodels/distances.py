"""Distances between representations, for training, guidance and metrics.

Each takes two tensors `(*batch, *feature_shape)` and the number of leading batch dimensions, and returns one number per
batch element, `(*batch,)`.
"""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

DistanceName = Literal["rms", "squared", "cosine", "l2", "l2_squared", "l1", "soft_cross_entropy"]


def rms(h: Tensor, h_hat: Tensor, batch_dims: int = 1) -> Tensor:
    """Root mean square over the D dimensions, `||h_hat - h||_2 / sqrt(D)`.

    Its gradient at `h_hat = h` is 0.

    Reference: the fiber loss of arXiv 2603.21782, eq. 3, as its public code computes it.
    """
    difference = (h_hat - h).flatten(batch_dims)
    return torch.linalg.vector_norm(difference, dim=-1) / difference.shape[-1] ** 0.5


def squared(h: Tensor, h_hat: Tensor, batch_dims: int = 1) -> Tensor:
    """Mean square over the dimensions: `rms` squared."""
    return (h_hat - h).flatten(batch_dims).square().mean(-1)


def cosine(h: Tensor, h_hat: Tensor, batch_dims: int = 1) -> Tensor:
    """`1 - cos(h, h_hat)`, in [0, 2]."""
    h, h_hat = torch.broadcast_tensors(h, h_hat)
    return 1 - torch.nn.functional.cosine_similarity(h.flatten(batch_dims), h_hat.flatten(batch_dims), dim=-1)


def l2(h: Tensor, h_hat: Tensor, batch_dims: int = 1) -> Tensor:
    """The Euclidean norm `||h_hat - h||_2`; its gradient at `h_hat = h` is 0."""
    return torch.linalg.vector_norm((h_hat - h).flatten(batch_dims), dim=-1)


def l2_squared(h: Tensor, h_hat: Tensor, batch_dims: int = 1) -> Tensor:
    """The sum of squares `||h_hat - h||_2^2`: `squared` times the number of dimensions.

    Reference: EquiDiff, algorithm 1.
    """
    return (h_hat - h).flatten(batch_dims).square().sum(-1)


def l1(h: Tensor, h_hat: Tensor, batch_dims: int = 1) -> Tensor:
    """Mean absolute difference over the dimensions."""
    return (h_hat - h).flatten(batch_dims).abs().mean(-1)


def soft_cross_entropy(h: Tensor, h_hat: Tensor, batch_dims: int = 1) -> Tensor:
    """Cross-entropy in nats of `softmax(h_hat)` under the law `softmax(h)`, for representations that are logits.

    Its minimum, at `h_hat = h`, is the entropy of `softmax(h)`.
    """
    h, h_hat = torch.broadcast_tensors(h, h_hat)
    target, found = h.flatten(batch_dims).softmax(-1), h_hat.flatten(batch_dims).log_softmax(-1)
    return -(target * found).sum(-1)


DISTANCES: dict[DistanceName, Callable[..., Tensor]] = {
    "rms": rms,
    "squared": squared,
    "cosine": cosine,
    "l2": l2,
    "l2_squared": l2_squared,
    "l1": l1,
    "soft_cross_entropy": soft_cross_entropy,
}
