"""A prior as a FiberModel, sampled as it is."""

from functools import partial

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from fibermodels.core import Pushforward
from fibermodels.diffusion import DDIM, Prior, Sampler, unguided


class Unguided(Pushforward):
    """A prior and a sampler: what every guidance starts from, and what it is at strength 0.

    An unconditional prior ignores the target; a conditional one is bound to it.

    Args:
        prior: the prior.
        sampler: how it is sampled; None takes 50 steps of DDIM.
        checkpointing: where gradients run through the sampler, compute each call of the network again in the
            backward pass instead of keeping it: the memory of one step, for twice the time forward.
    """

    def __init__(self, prior: Prior, sampler: Sampler | None = None, checkpointing: bool = False) -> None:
        super().__init__()
        self.prior, self.sampler, self.checkpointing = prior, sampler or DDIM(), checkpointing
        self.image_shape = prior.latents.image_shape
        self.noise_shape = self.sampler.noise_shape(prior.latents.latent_shape)
        self.network_calls = self.sampler.calls

    def push(self, noise: Tensor, h: Tensor) -> Tensor:
        return self.estimates(noise, h, 1)[0]

    def estimates(self, noise: Tensor, h: Tensor, count: int) -> Tensor:
        """Images `(count, B, C, H, W)` of the clean latents that the last `count` steps expect, differentiable.

        The last of them is what `push` returns.
        """
        if not 1 <= count <= self.sampler.steps:
            raise ValueError(f"Unguided: count must be from 1 to the {self.sampler.steps} steps, got {count}")
        denoise, decode = self.prior.denoiser(h), self.prior.decode
        if self.checkpointing:
            denoise, decode = (partial(checkpoint, part, use_reentrant=False) for part in (denoise, decode))
        *earlier, last = self.sampler.trajectory(unguided(denoise), self.prior.schedule, noise)
        expected = [data for _, data in earlier][len(earlier) + 1 - count :]
        return torch.stack([decode(z, h) for z in (*expected, last[0])])
