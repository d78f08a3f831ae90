"""A variational autoencoder that knows nothing of the subject: the usual latent space.

What its images cannot carry of `h` is lost to every density model over it, and a fiber loss can then
only pay with the distribution; see `fiber_autoencoder.py`.

Reference: Kingma & Welling, arXiv 1312.6114.
"""

import torch
from torch import Tensor, nn

from fibermodels.latents.variational import Variational, check_positive, gaussian_nll
from fibermodels.nn import ResidualMLP


class VAE(Variational):
    """A dictionary of patterns is shared by the channels, in the encoder and in the decoder; how much a
    channel shows of each is a product of two numbers, because colour multiplies shape.

    Args:
        weights: a safetensors file (`make vae` trains one); None starts at random.
        size: height and width of the images, in pixels.
        dim: dimensions of the latent space.
        width: width of the residual networks between dictionary and latent.
        blocks: residual blocks in each.
        patterns: size of each dictionary.
        sigma: standard deviation of a pixel about its reconstruction.
    """

    def __init__(
        self,
        weights: str | None = None,
        size: int = 28,
        dim: int = 54,
        width: int = 384,
        blocks: int = 2,
        patterns: int = 224,
        sigma: float = 0.05,
    ) -> None:
        super().__init__(size, dim, patterns)
        check_positive(self, sigma=sigma)
        self.sigma = sigma
        self.encoder = ResidualMLP(4 * patterns, 2 * dim, width, blocks)
        self.decoder = ResidualMLP(dim, 2 * 3 * patterns, width, blocks)
        self.draw = nn.Linear(patterns, size * size)
        self.load_weights(weights)

    def _encode(self, patterns: Tensor, shape: Tensor, h: Tensor | None) -> tuple[Tensor, Tensor]:
        mean, log_std = self.encoder(torch.cat((patterns.flatten(1), shape), -1)).chunk(2, -1)
        return mean, log_std

    def _misfit(self, image: Tensor, x: Tensor) -> Tensor:
        return gaussian_nll(image, x, self.sigma)

    def _draw(self, z: Tensor, h: Tensor | None) -> Tensor:
        first, second = self.decoder(z).chunk(2, -1)
        image = 0.5 + self.draw((first * second).unflatten(1, (3, -1)))
        return image.unflatten(2, self.image_shape[1:])
