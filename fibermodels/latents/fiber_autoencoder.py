"""A latent space for fibers: `h` determines the fiber, and `z` the position on it.

The latent space limits every density model over it: if `phi(D(z, h))` differs from `h`, no density over `z` can correct
this. Here the encoder and the decoder see `h`, and the decoder is trained to hit it:

    loss = KL(q(z|x,h) || N(0, I)) - log N(x; D(z,h), sigma^2 I) + F/2 log(1 + r^2 / (tau s)^2),    z ~ q(z|x,h),

with the fiber RMS `r` of `D(z, h)`, the number `F` of dimensions of `h` and their root mean square deviation `s`. The
last term is a Gaussian's near the fiber; far from it, where some subjects amplify every error, it grows only as a
logarithm, and the reconstruction leads. What `h` says need not be in `z`, so a few dimensions are enough, and a density
over `z` given `h` is learned quickly. The fiber loss is taken at the latents of the image itself: there, the
reconstruction tells the decoder what to draw. At latents of other images, nothing does, and the decoder learns to draw
what pleases the subject: the fiber RMS falls, and the samples leave the law.

The decoder paints each channel as a sum of `K` products, because the two halves of an image, such as its colours and
its shapes, often vary independently:

    D(z, h)_c = b_c + sum_k a_ck m_k,

with numbers `a` (C x K) and `b` (C), and maps `m` (K x H x W) that end with convolutions, from networks of `(z, h)`.

Reference: our own; a conditional VAE (Sohn et al., NeurIPS 2015) with the fiber loss of arXiv 2603.21782. Products of
factors: Tenenbaum & Freeman, Neural Computation 12, 2000.
"""

import math

import torch
from torch import Tensor

from fibermodels import distances
from fibermodels.checks import check_numbers
from fibermodels.core import Subject
from fibermodels.latents.variational import Variational, deviation, gaussian_nll
from fibermodels.nn import FlatCondition, ResidualMLP, patch_decoder, patch_encoder, patch_grid


class FiberAutoencoder(Variational):
    """A latent space with few dimensions for the position on a fiber, and a decoder whose images stay on the fiber.

    Args:
        image_shape: `(C, H, W)`; height and width are multiples of 4.
        feature_shape: the shape of one representation.
        dim: dimensions of the latent space, at least those of the fiber; dimensions that are not needed stay noise.
        channels: of the maps of patches, a multiple of 8.
        width: width of the networks of vectors.
        blocks: residual blocks of each network.
        products: `K`, at least 1.
        circular: whether images go on at their other side, as on a torus.
        sigma: standard deviation of a pixel about its reconstruction, positive.
        tau: the fiber RMS, as a share of `s`, below which the last term is a Gaussian's, positive; None omits the term.
        subject: the subject of the last term; it is not part of the weights.
        weights: a safetensors file of a trained space; None starts at random.

    Raises:
        ValueError: a number out of its range, or an image size that patches do not tile.
    """

    def __init__(
        self,
        image_shape: list[int],
        feature_shape: list[int],
        dim: int = 32,
        channels: int = 48,
        width: int = 384,
        blocks: int = 2,
        products: int = 4,
        circular: bool = False,
        sigma: float = 0.05,
        tau: float | None = 0.05,
        subject: Subject | None = None,
        weights: str | None = None,
    ) -> None:
        super().__init__(image_shape, dim)
        sizes = {"channels": channels, "width": width, "blocks": blocks, "products": products}
        check_numbers("FiberAutoencoder", sizes, least=1)
        check_numbers("FiberAutoencoder", {"sigma": sigma, "tau": tau}, above=0)
        self.sigma, self.tau = sigma, tau
        grid, colours = patch_grid("FiberAutoencoder", image_shape, channels), self.image_shape[0]
        self.condition = FlatCondition(feature_shape)
        size, told = math.prod(grid), self.condition.dim
        self.look = patch_encoder(colours, channels, blocks, circular)
        self.encoder = ResidualMLP(size + told, 2 * dim, width, blocks)
        self.mix = ResidualMLP(dim + told, colours * (1 + products), width, blocks)
        self.maps = ResidualMLP(dim + told, size, width, blocks)
        self.paint = patch_decoder(grid, products, blocks, circular)
        self.load_weights(weights)
        self.subject = subject  # after the weights, which do not contain it

    def moments(self, x: Tensor, h: Tensor | None) -> tuple[Tensor, Tensor]:
        mean, log_std = self.encoder(torch.cat((self.look(x - 0.5), self._told(h)), -1)).chunk(2, -1)
        return mean, deviation(log_std)

    def _draw(self, z: Tensor, h: Tensor | None) -> Tensor:
        told = torch.cat((z, self._told(h)), -1)
        mix = self.mix(told).unflatten(1, (self.image_shape[0], -1))  # (B, C, 1 + K)
        maps = self.paint(self.maps(told)).flatten(2)  # (B, K, H W)
        return (0.5 + mix[..., :1] + mix[..., 1:] @ maps).unflatten(2, self.image_shape[1:])

    def _told(self, h: Tensor | None) -> Tensor:
        if h is None:
            raise ValueError("FiberAutoencoder: h: expected representations, got None; give a subject")
        told: Tensor = self.condition(h)
        return told

    def _fit(self, x: Tensor, z: Tensor, h: Tensor | None) -> dict[str, Tensor]:
        image = self._draw(z, h)
        terms = {"reconstruction": gaussian_nll(image, x, self.sigma)}
        if self.tau is None or h is None:
            return terms
        if self.subject is None:
            raise ValueError(f"FiberAutoencoder: subject: expected one to train with tau {self.tau}, got None")
        error = distances.squared(h, self.subject(image.clamp(0, 1))) / (self.tau * self.condition.spread).square()
        return terms | {"fiber": 0.5 * self.condition.dim * error.log1p()}
