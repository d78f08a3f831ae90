"""The base of variational latent spaces: the variational bound, and latents that are standard normal.

    loss = KL(q(z|x,h) || N(0, I)) - log p(x | D(z,h))

Dimensions of `z` that the decoder does not need keep the distribution of the prior.

Reference: Kingma & Welling, arXiv 1312.6114.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Self

import torch
from torch import Tensor

from fibermodels import distances
from fibermodels.checks import check_number
from fibermodels.core import LatentSpace, Subject
from fibermodels.nn import Gaussianise
from fibermodels.noise import seeded
from fibermodels.trainable import Trainable

DRAWS = 8
"""The number of posterior samples of each image that are measured."""


class Variational(LatentSpace, Trainable, ABC):
    """A latent space in which each dimension of the latents is standard normal; arguments as in `VAE`."""

    def __init__(self, image_shape: list[int], dim: int) -> None:
        super().__init__()
        check_number(type(self).__name__, "dim", dim, least=1)
        channels, height, width = image_shape
        self.image_shape, self.pixels = (channels, height, width), height * width
        self.latent_shape = (dim,)
        self.gaussianise = Gaussianise(dim)
        self.subject: Subject | None = None  # with which the loss sees images, if it does

    @abstractmethod
    def _draw(self, z: Tensor, h: Tensor | None) -> Tensor:
        """Images before clipping, because training needs gradients outside the range, too."""

    @abstractmethod
    def _fit(self, x: Tensor, z: Tensor, h: Tensor | None) -> dict[str, Tensor]:
        """The terms of the loss that judge what is drawn from the latents `z` of `x`, each `(B,)`.

        The term `reconstruction` is `-log p(x | D(z, h))` without its constant, or a score in its place.
        """

    def posterior_sample(self, mean: Tensor, std: Tensor, noise: Tensor) -> Tensor:
        return self.gaussianise(super().posterior_sample(mean, std, noise))

    def decode(self, z: Tensor, h: Tensor | None) -> Tensor:
        return self._draw(self.gaussianise.inverse(z), h).clamp(0, 1)

    def loss(self, x: Tensor, h: Tensor | None) -> dict[str, Tensor]:
        mean, std = self.moments(x, h)
        kl = 0.5 * (mean.square() + std.square() - 1).sum(1) - std.log().sum(1)
        return {"kl": kl} | self._fit(x, mean + std * torch.randn_like(std), h)

    def scores(self, x: Tensor, h: Tensor | None) -> dict[str, Tensor]:
        mean, _ = self.moments(x, h)
        scores = {"reconstruction_rmse": distances.rms(x, self._draw(mean, h).clamp(0, 1))}
        if self.subject is not None and h is not None:
            for name, z in {"fiber_rms": mean, "fiber_rms_swapped": mean.roll(1, 0)}.items():
                scores[name] = distances.rms(h, self.subject(self._draw(z, h).clamp(0, 1)))
        return scores

    @torch.no_grad()
    def product(self, batches: Iterable[dict[str, Tensor]]) -> Self:
        """A copy of this space without the subject of its loss, with latents that are standard normal on `batches`.

        It measures posterior samples, not means, because the mean of an unused dimension hardly varies.
        """
        generator, codes = seeded("gaussianise"), []
        for batch in batches:
            mean, std = self.moments(batch["x"], batch.get("h"))
            codes += [mean + std * torch.randn(std.shape, generator=generator) for _ in range(DRAWS)]
        judge = self.arguments.keys() & {"weights", "subject"}
        product = type(self)(**self.arguments | dict.fromkeys(judge))
        state = self.state_dict()
        product.load_state_dict({name: value for name, value in state.items() if not name.startswith("subject.")})
        product.gaussianise.measure(torch.cat(codes))
        return product


def gaussian_nll(value: Tensor, mean: Tensor, scale: float) -> Tensor:
    """Negative log-likelihood of a Gaussian without its constant, `(B,)`."""
    return 0.5 * ((value - mean) / scale).square().flatten(1).sum(1)


def deviation(log_std: Tensor) -> Tensor:
    """The deviations of an encoder from what its network says: .14 at 0, within 10 powers of e."""
    return (log_std - 2).clamp(-10, 2).exp()
