"""Models that a known law or a latent space alone defines: nothing is trained."""

from typing import final

import torch
from torch import Tensor

from fibermodels.core import FiberModel, HasLaw, LatentSpace, Pushforward
from fibermodels.spaces import HasInputSpace


@final
class Oracle(FiberModel):
    """Exact samples of the fiber of each query.

    Args:
        law: the data whose fibers are known; `evaluate.py` gives the data of the model file.
    """

    network_calls = 0

    def __init__(self, law: HasLaw) -> None:
        super().__init__()
        self.law = law

    def _sample(self, h: Tensor, n: int, generator: torch.Generator | None, x: Tensor | None) -> Tensor:
        return self.law.members(self.queries(x), n, generator)


@final
class Reconstruction(FiberModel):
    """Exact samples, encoded and decoded: the error of the latent space, which every model over it shares.

    Args:
        latents: the latent space.
        law: as in `Oracle`.
    """

    network_calls = 0

    def __init__(self, latents: LatentSpace, law: HasLaw) -> None:
        super().__init__()
        self.latents, self.law = latents, law

    def _sample(self, h: Tensor, n: int, generator: torch.Generator | None, x: Tensor | None) -> Tensor:
        exact = self.law.members(self.queries(x), n, generator)
        return torch.stack([self.latents.decode(self.latents.encode(slot, h), h) for slot in exact])


@final
class DecodedNoise(Pushforward, HasInputSpace):
    """Standard normal noise, decoded: a model over this latent space without a density.

    Args:
        latents: the latent space.
    """

    network_calls = 0

    def __init__(self, latents: LatentSpace) -> None:
        super().__init__()
        self.latents = latents
        self.input_space, self.noise_shape = latents.input_space, latents.latent_shape

    def push(self, noise: Tensor, h: Tensor) -> Tensor:
        return self.latents.decode(noise, h)
