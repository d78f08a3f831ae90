"""A variational autoencoder that does not use the subject: the usual latent space.

If decoded images lose information about `h`, no density over this space can recover it; see `fiber_autoencoder.py`.

Reference: Kingma & Welling, arXiv 1312.6114.
"""

import torch
from torch import Tensor, nn

from fibermodels.checks import check_number
from fibermodels.latents.dictionary import Dictionary
from fibermodels.latents.variational import gaussian_nll
from fibermodels.nn import ResidualMLP


class VAE(Dictionary):
    """A VAE whose channels share a dictionary of patterns in the encoder, and another one in the decoder. The weight of
    a pattern in a channel is a product of two numbers, because colour multiplies shape.

    Args:
        image_shape: `(C, H, W)`.
        dim: dimensions of the latent space, at least 1.
        width: width of the residual networks between dictionary and latent.
        blocks: residual blocks in each.
        patterns: size of each dictionary, at least 1.
        sigma: standard deviation of a pixel about its reconstruction, positive.
        weights: a safetensors file of a trained space; None starts at random.

    Raises:
        ValueError: a number out of its range.
    """

    def __init__(
        self,
        image_shape: list[int],
        dim: int,
        width: int = 384,
        blocks: int = 2,
        patterns: int = 224,
        sigma: float = 0.05,
        weights: str | None = None,
    ) -> None:
        super().__init__(image_shape, dim, patterns)
        check_number("VAE", "sigma", sigma, above=0)
        self.sigma = sigma
        channels = self.image_shape[0]
        self.encoder = ResidualMLP((channels + 1) * patterns, 2 * dim, width, blocks)
        self.decoder = ResidualMLP(dim, 2 * channels * patterns, width, blocks)
        self.draw = nn.Linear(patterns, self.pixels)
        self.load_weights(weights)

    def _encode(self, patterns: Tensor, shape: Tensor, h: Tensor | None) -> tuple[Tensor, Tensor]:
        mean, log_std = self.encoder(torch.cat((patterns.flatten(1), shape), -1)).chunk(2, -1)
        return mean, log_std

    def _fit(self, x: Tensor, z: Tensor, h: Tensor | None) -> dict[str, Tensor]:
        return {"reconstruction": gaussian_nll(self._draw(z, h), x, self.sigma)}

    def _draw(self, z: Tensor, h: Tensor | None) -> Tensor:
        first, second = self.decoder(z).chunk(2, -1)
        image = 0.5 + self.draw((first * second).unflatten(1, (self.image_shape[0], -1)))
        return image.unflatten(2, self.image_shape[1:])
