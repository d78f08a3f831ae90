"""What the variational latent spaces share: the encoder, the dictionary of patterns, and the bound.

    loss = KL(q(z|x,h) || N(0, I)) - log N(x; D(z,h), sigma^2 I)

The encoder sees the channels of an image through one dictionary of spatial patterns. Dimensions that
`z` does not need stay at the prior, where a density model has nothing to learn.

Reference: Kingma & Welling, arXiv 1312.6114.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any, Self

import torch
from torch import Tensor, nn

from fibermodels import distances
from fibermodels.core import LatentSpace, Trainable, seeded
from fibermodels.nn import ResidualMLP, Standardise


class Variational(LatentSpace, Trainable, ABC):
    """Latents of unit variance per dimension for images `(3, size, size)`.

    Args:
        size: height and width of the images, in pixels.
        dim: dimensions of the latent space.
        context: dimensions of what the encoder sees besides the image.
        width: width of the encoder.
        blocks: residual blocks of the encoder.
        patterns: size of the dictionary.
        sigma: standard deviation of a pixel about its reconstruction.
    """

    def __init__(self, size: int, dim: int, context: int, width: int, blocks: int, patterns: int, sigma: float) -> None:
        super().__init__()
        if not sigma > 0:
            raise ValueError(f"{type(self).__name__}: sigma must be positive, got {sigma}")
        self.image_shape = (3, size, size)
        self.latent_shape = (dim,)
        self.sigma = sigma
        self.look = nn.Linear(size * size, patterns)
        self.gate = nn.Linear(patterns, patterns)
        self.encoder = ResidualMLP(4 * patterns + context, 2 * dim, width, blocks)
        self.standardise = Standardise(dim)

    @abstractmethod
    def _draw(self, z: Tensor, h: Tensor | None) -> Tensor:
        """Images not yet clipped: training wants a gradient on both sides of the range."""

    @abstractmethod
    def _context(self, h: Tensor | None) -> list[Tensor]:
        """What the encoder sees besides the image."""

    def moments(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        mean, std = self._posterior(x, h)
        return self.standardise(mean), std / self.standardise.std

    def decode(self, z: Tensor, h: Tensor) -> Tensor:
        return self._draw(self.standardise.inverse(z), h).clamp(0, 1)

    def _posterior(self, x: Tensor, h: Tensor | None) -> tuple[Tensor, Tensor]:
        patterns = self.look(x.flatten(2) - 0.5)  # (B, 3, patterns)
        shape = (patterns * self.gate(patterns).tanh()).mean(1)  # a channel's contrast may have either sign
        seen = torch.cat((patterns.flatten(1), shape, *self._context(h)), -1)
        mean, log_std = self.encoder(seen).chunk(2, -1)
        return mean, (log_std - 2).clamp(-10, 2).exp()

    def loss(self, x: Tensor, h: Tensor | None) -> dict[str, Tensor]:
        mean, std = self._posterior(x, h)
        z = mean + std * torch.randn_like(std)
        return {
            "kl": 0.5 * (mean.square() + std.square() - 1).sum(1) - std.log().sum(1),
            "reconstruction": gaussian_nll(self._draw(z, h), x, self.sigma),
        } | self._further_terms(z, h)

    def _further_terms(self, z: Tensor, h: Tensor | None) -> dict[str, Tensor]:
        return {}

    def scores(self, x: Tensor, h: Tensor | None) -> dict[str, Tensor]:
        mean, _ = self._posterior(x, h)
        return {"reconstruction_rmse": distances.rms(x, self._draw(mean, h).clamp(0, 1))}

    @torch.no_grad()
    def product(self, batches: Iterable[dict[str, Tensor]]) -> Self:
        """This space alone, without a judge, its latents standardised on the images in `batches`.

        Posterior samples, not means, are measured: the mean of an unused dimension hardly moves.
        """
        generator, latents = seeded("standardise"), []
        for batch in batches:
            mean, std = self._posterior(batch["x"], batch.get("h"))
            latents.append(mean + std * torch.randn(std.shape, generator=generator))
        arguments: dict[str, Any] = {k: None if k in JUDGE else v for k, v in self.arguments.items()}
        product = type(self)(**arguments)
        own = {name: value for name, value in self.state_dict().items() if not name.startswith("subject.")}
        product.load_state_dict(own)
        product.standardise.measure(torch.cat(latents))
        return product


JUDGE = ("weights", "subject")
"""Arguments that matter in training alone."""


def gaussian_nll(value: Tensor, mean: Tensor, scale: float) -> Tensor:
    """Negative log-likelihood of a Gaussian without its constant, `(B,)`."""
    return 0.5 * ((value - mean) / scale).square().flatten(1).sum(1)
