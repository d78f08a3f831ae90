"""A variational autoencoder that knows nothing of the subject: the usual latent space.

What its images cannot carry of `h` is lost to every density model over it, and a fiber loss can then
only pay with the distribution; see `fiber_autoencoder.py`.

Reference: Kingma & Welling, arXiv 1312.6114.
"""

from torch import Tensor, nn

from fibermodels.latents.variational import Variational
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
        super().__init__(size, dim, 0, width, blocks, patterns, sigma)
        self.decoder = ResidualMLP(dim, 2 * 3 * patterns, width, blocks)
        self.draw = nn.Linear(patterns, size * size)
        self.load_weights(weights)

    def _context(self, h: Tensor | None) -> list[Tensor]:
        return []

    def _draw(self, z: Tensor, h: Tensor | None) -> Tensor:
        first, second = self.decoder(z).chunk(2, -1)
        image = 0.5 + self.draw((first * second).unflatten(1, (3, -1)))
        return image.unflatten(2, self.image_shape[1:])
