"""A conditional coupling flow in a latent space: exact density, one pass to sample.

An invertible network `f(., h)` maps latents to standard normal noise, so

    log p(z | h) = log N(f(z, h); 0, I) + log |det df/dz|.

Reference: Ardizzone et al., arXiv 1907.02392; Rombach et al., arXiv 2008.01777 (as a fiber model).
"""

import math
from typing import Any

import torch
from torch import Tensor, nn

from fibermodels.core import HasLogProb, LatentSpace, Pushforward, TrainableFiberModel


class NormalizingFlow(TrainableFiberModel, Pushforward, HasLogProb):
    """Affine coupling blocks with fixed permutations; every coupling network sees `h`.

    It computes in float32 whatever the trainer's precision: in bfloat16 its inverse is wrong in the
    second digit.

    Args:
        latents: the frozen latent space.
        feature_dim: dimensions of the (flat) representation.
        width: width of the one hidden layer of each coupling network.
        blocks: coupling blocks.
        seed: of the fixed permutations.
    """

    network_calls = 1

    def __init__(
        self, latents: LatentSpace, feature_dim: int = 48, width: int = 512, blocks: int = 16, seed: int = 0
    ) -> None:
        super().__init__()
        if blocks < 1 or width < 1:
            raise ValueError(f"NormalizingFlow: blocks and width must be positive, got {blocks} and {width}")
        self.latents = latents.requires_grad_(False).eval()
        self.image_shape = latents.image_shape
        self.noise_shape = latents.latent_shape
        (dim,) = latents.latent_shape
        self.flow = _coupling_flow(dim, feature_dim, width, blocks, seed)

    def forward_flow(self, z: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        """Noise `f(z, h)` and `log |det df/dz|`."""
        with torch.autocast(z.device.type, enabled=False):
            noise, log_det = self.flow(z.float() if z.dtype != torch.float64 else z, [h.flatten(1).to(z.dtype)])
        return noise, log_det

    def inverse_flow(self, noise: Tensor, h: Tensor) -> Tensor:
        """Latents `f^-1(noise, h)`."""
        with torch.autocast(noise.device.type, enabled=False):
            z: Tensor = self.flow(noise, [h.flatten(1).to(noise.dtype)], rev=True)[0]
        return z

    def log_prob(self, z: Tensor, h: Tensor) -> Tensor:
        noise, log_det = self.forward_flow(z, h)
        return log_det - 0.5 * (noise.square() + math.log(2 * math.pi)).sum(1)

    def latent_loss(self, z: Tensor, h: Tensor) -> dict[str, Tensor]:
        return {"nll": -self.log_prob(z, h) / z.shape[1]}  # per dimension: the scale of other families' losses

    def push(self, noise: Tensor, h: Tensor) -> Tensor:
        return self.latents.decode(self.inverse_flow(noise, h), h)


def _coupling_flow(dim: int, feature_dim: int, width: int, blocks: int, seed: int) -> nn.Module:
    """FrEIA's blocks. It initialises them from numpy's global state, which is put back afterwards."""
    import numpy as np
    from FrEIA.framework import SequenceINN
    from FrEIA.modules import AllInOneBlock

    def subnet(inputs: int, outputs: int) -> nn.Module:
        last = nn.Linear(width, outputs)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        return nn.Sequential(nn.Linear(inputs, width), nn.SiLU(), last)

    state: Any = np.random.get_state()
    np.random.seed(seed)
    try:
        flow = SequenceINN(dim)
        for _ in range(blocks):
            flow.append(AllInOneBlock, cond=0, cond_shape=(feature_dim,), subnet_constructor=subnet)
    finally:
        np.random.set_state(state)
    return flow
