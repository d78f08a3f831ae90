"""A variational autoencoder for fiber models: what lies across fibers comes from `h`, the rest from `z`.

Every family that learns a density over a latent space is bounded by what the space can carry: where
`phi(D(E(x)))` misses `phi(x)`, no density can hit it. Two things bring this floor down. The
reconstruction has two Gaussian likelihoods, of the image and of its representation:

    loss = KL(q(z|x,h) || N(0, I)) - log N(x; D(z,h), sigma^2 I) - log N(phi(x); phi(D(z,h)), tau^2 I).

And encoder and decoder may see `h`, so that `z` need not repeat it; dimensions that `z` does not
need stay at the prior, where a density model has nothing to learn.

Reference: Kingma & Welling, arXiv 1312.6114, conditional as in Sohn et al., NeurIPS 2015; the second
likelihood is the fiber loss of arXiv 2603.21782, here in the latent space's own training.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from fibermodels import distances
from fibermodels.core import LatentSpace, Subject, Trainable, seeded
from fibermodels.nn import ResidualMLP, Standardise


class VAE(LatentSpace, Trainable):
    """Latents of unit variance per dimension for images `(3, size, size)`.

    The channels share one dictionary of spatial patterns, in the first layer and in the last, and
    what a channel shows of it is a product of two vectors, because colour multiplies shape.

    Args:
        weights: a safetensors file (`make vae` trains one); None starts at random.
        size: height and width of the images, in pixels.
        dim: dimensions of the latent space.
        feature_dim: dimensions of the representation that encoder and decoder see; 0 for a plain VAE,
            which ignores `h`.
        width: width of the residual networks between dictionary and latent.
        blocks: residual blocks in each.
        patterns: size of the dictionary.
        sigma: standard deviation of a pixel about its reconstruction.
        tau: standard deviation of a dimension of the representation about the reconstruction's;
            None leaves the representation out of the loss.
        subject: judges reconstructions in training; not part of the weights.
    """

    def __init__(
        self,
        weights: str | None = None,
        size: int = 28,
        dim: int = 54,
        feature_dim: int = 48,
        width: int = 384,
        blocks: int = 2,
        patterns: int = 224,
        sigma: float = 0.05,
        tau: float | None = None,
        subject: Subject | None = None,
    ) -> None:
        super().__init__()
        if not sigma > 0 or not (tau is None or tau > 0):
            raise ValueError(f"VAE: sigma and tau must be positive, got {sigma} and {tau}")
        self.image_shape = (3, size, size)
        self.latent_shape = (dim,)
        self.feature_dim, self.sigma, self.tau = feature_dim, sigma, tau
        self.look = nn.Linear(size * size, patterns)
        self.gate = nn.Linear(patterns, patterns)
        self.encoder = ResidualMLP(4 * patterns + feature_dim, 2 * dim, width, blocks)
        self.decoder = ResidualMLP(dim + feature_dim, 2 * 3 * patterns, width, blocks)
        self.draw = nn.Linear(patterns, size * size)
        self.standardise = Standardise(dim)
        self.load_weights(weights)
        self.subject = subject  # only now: the weights file is without it

    def moments(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        mean, std = self._posterior(x, h)
        return self.standardise(mean), std / self.standardise.std

    def decode(self, z: Tensor, h: Tensor) -> Tensor:
        return self._draw(self.standardise.inverse(z), h).clamp(0, 1)

    def _with(self, value: Tensor, h: Tensor | None) -> Tensor:
        if not self.feature_dim:
            return value
        if h is None:
            raise ValueError(f"VAE: feature_dim {self.feature_dim} needs a representation, that is a subject")
        return torch.cat((value, h.flatten(1)), -1)

    def _posterior(self, x: Tensor, h: Tensor | None) -> tuple[Tensor, Tensor]:
        patterns = self.look(x.flatten(2) - 0.5)  # (B, 3, patterns)
        shape = (patterns * self.gate(patterns).tanh()).mean(1)  # a channel's contrast may have either sign
        mean, log_std = self.encoder(self._with(torch.cat((patterns.flatten(1), shape), -1), h)).chunk(2, -1)
        return mean, (log_std - 2).clamp(-10, 2).exp()

    def _draw(self, z: Tensor, h: Tensor | None) -> Tensor:
        """Images not yet clipped: training wants a gradient on both sides of the range."""
        first, second = self.decoder(self._with(z, h)).chunk(2, -1)
        image = 0.5 + self.draw((first * second).unflatten(1, (3, -1)))
        return image.unflatten(2, self.image_shape[1:])

    def loss(self, x: Tensor, h: Tensor | None) -> dict[str, Tensor]:
        mean, std = self._posterior(x, h)
        image = self._draw(mean + std * torch.randn_like(std), h)
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
        mean, _ = self._posterior(x, h)
        image = self._draw(mean, h).clamp(0, 1)
        scores = {"reconstruction_rmse": distances.rms(x, image)}
        if self.subject is not None and h is not None:
            scores["fiber_rms"] = distances.rms(h, self.subject(image))
        return scores

    @torch.no_grad()
    def product(self, batches: Iterable[dict[str, Tensor]]) -> "VAE":
        """This space without its judge, its latents standardised on the images in `batches`.

        Posterior samples, not means, are measured: the mean of an unused dimension hardly moves.
        """
        generator, latents = seeded("standardise"), []
        for batch in batches:
            mean, std = self._posterior(batch["x"], batch.get("h"))
            latents.append(mean + std * torch.randn(std.shape, generator=generator))
        product = VAE(**self.arguments | {"weights": None, "subject": None})
        own = {name: value for name, value in self.state_dict().items() if not name.startswith("subject.")}
        product.load_state_dict(own)
        product.standardise.measure(torch.cat(latents))
        return product


def _nll(value: Tensor, mean: Tensor, scale: float) -> Tensor:
    """Negative log-likelihood of a Gaussian without its constant, `(B,)`."""
    return 0.5 * ((value - mean) / scale).square().flatten(1).sum(1)
