"""A variational autoencoder of convolutions, for images that show the same thing at many places.

The encoder sees patches of 4 x 4 pixels, and the decoder ends with them. Between the maps of patches and the latent
there are residual networks of vectors, as in the VAE of arXiv 2603.21782 (appendix B.1.2).

Reference: Kingma & Welling, arXiv 1312.6114.
"""

import math

from torch import Tensor

from fibermodels.checks import check_number, check_numbers
from fibermodels.latents.variational import Variational, deviation, gaussian_nll
from fibermodels.nn import ResidualMLP, patch_decoder, patch_encoder, patch_grid


class ConvVAE(Variational):
    """A VAE of convolutions that does not use the subject.

    Args:
        image_shape: `(C, H, W)`; height and width are multiples of 4.
        dim: dimensions of the latent space, at least 1.
        channels: of the maps, a multiple of 8.
        blocks: residual blocks of the maps, and of the networks between maps and latent.
        width: width of these networks.
        circular: whether images go on at their other side, as on a torus.
        sigma: standard deviation of a pixel about its reconstruction, positive.
        weights: a safetensors file of a trained space; None starts at random.

    Raises:
        ValueError: a number out of its range, or an image size that patches do not tile.
    """

    def __init__(
        self,
        image_shape: list[int],
        dim: int,
        channels: int = 48,
        blocks: int = 2,
        width: int = 512,
        circular: bool = False,
        sigma: float = 0.05,
        weights: str | None = None,
    ) -> None:
        super().__init__(image_shape, dim)
        check_numbers("ConvVAE", {"channels": channels, "blocks": blocks, "width": width}, least=1)
        check_number("ConvVAE", "sigma", sigma, above=0)
        self.sigma = sigma
        grid, colours = patch_grid("ConvVAE", image_shape, channels), self.image_shape[0]
        size = math.prod(grid)
        self.look = patch_encoder(colours, channels, blocks, circular)
        self.encoder = ResidualMLP(size, 2 * dim, width, blocks)
        self.decoder = ResidualMLP(dim, size, width, blocks)
        self.paint = patch_decoder(grid, colours, blocks, circular)
        self.load_weights(weights)

    def moments(self, x: Tensor, h: Tensor | None) -> tuple[Tensor, Tensor]:
        mean, log_std = self.encoder(self.look(x - 0.5)).chunk(2, -1)
        return mean, deviation(log_std)

    def _fit(self, x: Tensor, z: Tensor, h: Tensor | None) -> dict[str, Tensor]:
        return {"reconstruction": gaussian_nll(self._draw(z, h), x, self.sigma)}

    def _draw(self, z: Tensor, h: Tensor | None) -> Tensor:
        image: Tensor = 0.5 + self.paint(self.decoder(z))
        return image
