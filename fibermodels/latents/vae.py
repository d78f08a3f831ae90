"""A variational autoencoder that may be told what its images are for.

Every family that learns a density over a latent space is bounded by what the space can carry: where
`phi(decode(encode(x)))` misses `phi(x)`, no density can hit it. So the reconstruction has two
Gaussian likelihoods, of the image and of its representation:

    loss = KL(q(z|x) || N(0, I)) - log N(x; D(z), sigma^2 I) - log N(phi(x); phi(D(z)), tau^2 I).

Reference: Kingma & Welling, arXiv 1312.6114; the second likelihood is the fiber loss of
arXiv 2603.21782, here in the latent space's own training.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fibermodels import distances
from fibermodels.core import LatentSpace, Subject, Trainable
from fibermodels.nn import ResidualMLP, Standardise


class VAE(LatentSpace, Trainable):
    """Latents of unit variance per dimension for images `(3, size, size)`.

    The channels share one dictionary of spatial patterns, in the first layer and in the last; what
    a channel makes of it is a gated product, because colour multiplies shape.

    Args:
        weights: a safetensors file (`make vae` trains one); None starts at random.
        size: height and width of the images, in pixels.
        dim: dimensions of the latent space.
        width: width of the residual networks between dictionary and latent.
        blocks: residual blocks in each.
        patterns: size of the dictionary.
        subject: judges reconstructions in training; not part of the weights.
        sigma: standard deviation of a pixel about its reconstruction.
        tau: standard deviation of a dimension of the representation about the reconstruction's;
            None leaves the representation out of the loss.
    """

    def __init__(
        self,
        weights: str | None = None,
        size: int = 28,
        dim: int = 54,
        width: int = 384,
        blocks: int = 2,
        patterns: int = 224,
        subject: Subject | None = None,
        sigma: float = 0.03,
        tau: float | None = None,
    ) -> None:
        super().__init__()
        if not sigma > 0 or not (tau is None or tau > 0):
            raise ValueError(f"VAE: sigma and tau must be positive, got {sigma} and {tau}")
        self.image_shape = (3, size, size)
        self.latent_shape = (dim,)
        self.sigma, self.tau = sigma, tau
        self.look = nn.Linear(size * size, patterns)
        self.encoder = ResidualMLP(3 * patterns, 2 * dim, width, blocks)
        self.decoder = ResidualMLP(dim, 2 * 3 * patterns, width, blocks)
        self.draw = nn.Linear(patterns, size * size)
        self.standardise = Standardise(dim)
        self.load_weights(weights)
        self.__dict__["subject"] = subject  # a reference, not a submodule: its weights are its own

    def moments(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        mean, std = self._posterior(x)
        return self.standardise(mean), std / self.standardise.std

    def decode(self, z: Tensor, h: Tensor) -> Tensor:
        return self._draw(self.standardise.inverse(z)).clamp(0, 1)

    def _posterior(self, x: Tensor) -> tuple[Tensor, Tensor]:
        patterns = self.look(x.flatten(2) - 0.5).flatten(1)
        mean, log_std = self.encoder(patterns).chunk(2, -1)
        return mean, (log_std - 2).clamp(-10, 2).exp()

    def _draw(self, z: Tensor) -> Tensor:
        """Unclipped images: a gradient for pixels on both sides of the range."""
        patterns = F.glu(self.decoder(z)).unflatten(1, (3, -1))
        return (0.5 + self.draw(patterns)).unflatten(2, self.image_shape[1:])

    def loss(self, x: Tensor, h: Tensor | None) -> dict[str, Tensor]:
        mean, std = self._posterior(x)
        image = self._draw(mean + std * torch.randn_like(std))
        terms = {
            "kl": 0.5 * (mean.square() + std.square() - 1).sum(1) - std.log().sum(1),
            "reconstruction": _nll(image, x, self.sigma),
        }
        if self.tau is not None:
            if self.subject is None or h is None:
                raise ValueError(f"VAE: tau {self.tau} needs a subject to train with")
            terms["fiber"] = _nll(self.subject(image.clamp(0, 1)), h, self.tau)
        return terms

    def scores(self, x: Tensor, h: Tensor | None) -> dict[str, Tensor]:
        mean, _ = self._posterior(x)
        image = self._draw(mean).clamp(0, 1)
        scores = {"reconstruction_rmse": distances.rms(x, image)}
        if self.subject is not None and h is not None:
            scores["fiber_rms"] = distances.rms(h, self.subject(image))
        return scores

    @torch.no_grad()
    def product(self, batches: Iterable[dict[str, Tensor]]) -> "VAE":
        """This space, its latents standardised on the images in `batches`."""
        self.standardise.measure(torch.cat([self._posterior(batch["x"])[0] for batch in batches]))
        return self


def _nll(value: Tensor, mean: Tensor, scale: float) -> Tensor:
    """Negative log-likelihood of a Gaussian without its constant, `(B,)`."""
    return 0.5 * ((value - mean) / scale).square().flatten(1).sum(1)
