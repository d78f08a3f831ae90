"""Likelihood of real data under a model with an exact density."""

import math

import torch
from torch import Tensor

from fibermodels.core import HasLogProb, LatentSpace


@torch.no_grad()
def nll_bits_per_dim(model: HasLogProb, latents: LatentSpace, x: Tensor, h: Tensor) -> float:
    """`-log2 p(z | h) / D` of the latents `z = encode(x, h)` of real images, in bits.

    Compare it only between models over the same latent space.
    """
    parts = [
        model.log_prob(latents.encode(images, targets), targets)
        for images, targets in zip(x.split(1000), h.split(1000), strict=True)
    ]
    return -torch.cat(parts).mean().item() / (math.prod(latents.latent_shape) * math.log(2))
