"""A generator in one network call, trained by a strictly proper scoring rule.

    x_hat = decode(G(e, h)),  e ~ N(0, I)
    loss  = E|s(x) - s(x_hat)| - 1/2 E|s(x_hat) - s(x_hat')|,   summed over statistics s

with two or more draws for every pair `(x, h)`. The expectation over the data is least where the draws have the law of
`s(x)` given `h`, and only there. There is no adversary, no likelihood, no solver, and the gradient is unbiased: with
`m` draws, the second term averages over their `m (m - 1)` ordered pairs.

The statistics are patches of several sizes, as vectors of pixels, and the channels of feature networks at every place.
An energy distance over many dimensions hardly feels the finer structure of its vectors; small patches and features do.

References: Gneiting & Raftery, JASA 102, 2007 (section 4.3, the energy score); Pacchiardi et al., JMLR 25, 2024, and
Shen & Meinshausen, engression, 2024 (generators trained by it); De Bortoli et al., arXiv 2502.02483.
"""

from collections.abc import Iterable, Iterator
from typing import Self, cast

import torch
from torch import Tensor, nn

from fibermodels.checks import check_number
from fibermodels.core import LatentSpace, Subject
from fibermodels.nn import Network
from fibermodels.trainable import TrainableFiberModel

FLOOR = 1e-12
"""Added to squared distances: the square root has no derivative at 0."""


def energy_score(x: Tensor, draws: Tensor) -> Tensor:
    """The energy score `(B,)` of draws `(m, B, ..., d)` for observations `(B, ..., d)`, averaged over places.

    Distances are Euclidean over the last dimension, divided by `sqrt(d)`.

    Raises:
        ValueError: fewer than two draws.
    """
    if len(draws) < 2:
        raise ValueError(f"energy_score: expected at least 2 draws, got {len(draws)}")
    pairs = [(i, j) for i in range(len(draws)) for j in range(i)]
    near = torch.stack([_distance(x, draw) for draw in draws]).mean(0)
    apart = torch.stack([_distance(draws[i], draws[j]) for i, j in pairs]).mean(0)
    return near - 0.5 * apart


def _distance(a: Tensor, b: Tensor) -> Tensor:
    square = (a - b).square().mean(-1)
    return (square + FLOOR).sqrt().flatten(1).mean(1)


def patches(images: Tensor, size: int) -> Tensor:
    """Images `(..., C, H, W)` as `(..., places, C * size * size)`; a rest at the border is left out.

    It reshapes, because the backward pass of `unfold` is many times slower on a CPU.
    """
    *lead, channels, height, width = images.shape
    rows, columns = height // size, width // size
    cut = images[..., : rows * size, : columns * size]
    blocks = cut.reshape(*lead, channels, rows, size, columns, size)
    n = len(lead)
    order = (*range(n), n + 1, n + 3, n, n + 2, n + 4)
    return blocks.permute(order).reshape(*lead, rows * columns, channels * size * size)


class EnergyScore(TrainableFiberModel):
    """A one-step generator over the latents of a frozen space; the score compares decoded images.

    Args:
        latents: the latent space; `Identity` generates pixels.
        feature_shape: of one representation.
        network: maps standard normal noise and the representation to a latent.
        draws: per image and step, at least 2.
        patch_sizes: in pixels; None takes 4, 8 and 32, and a size that an image does not have is the whole image.
        features: networks whose outputs are scored too, such as the first stages of the subject (`Cut`).
        feature_weight: of each of them.
        weights: a safetensors file of a trained model; None starts at random.

    Raises:
        ValueError: a number out of its range, or a feature network for other images.
    """

    network_calls = 1

    def __init__(
        self,
        latents: LatentSpace,
        feature_shape: list[int],
        network: Network,
        draws: int = 2,
        patch_sizes: list[int] | None = None,
        features: list[Subject] | None = None,
        feature_weight: float = 0.5,
        weights: str | None = None,
    ) -> None:
        super().__init__(latents, feature_shape)
        check_number("EnergyScore", "draws", draws, least=2)
        check_number("EnergyScore", "feature_weight", feature_weight, least=0)
        self.draws, self.patch_sizes, self.feature_weight = draws, patch_sizes or [4, 8, 32], feature_weight
        for size in self.patch_sizes:
            check_number("EnergyScore", "patch_sizes", size, least=1)
        for each in features or ():
            if tuple(each.image_shape) != tuple(self.image_shape):
                raise ValueError(
                    f"EnergyScore: features: expected networks for images {tuple(self.image_shape)}, "
                    f"got {tuple(each.image_shape)}"
                )
        self.network = network.build(latents.shape, feature_shape)
        self.load_density(weights)  # which holds no features
        self.features = nn.ModuleList(features or ())

    def product(self, batches: Iterable[dict[str, Tensor]]) -> Self:
        """The generator without the networks of its loss."""
        product = type(self)(**self.arguments | {"weights": None, "features": None})
        state = self.state_dict()
        product.load_state_dict({name: value for name, value in state.items() if not name.startswith("features.")})
        return product

    def transport(self, noise: Tensor, h: Tensor) -> Tensor:
        start = torch.ones_like(noise[:, 0])  # the noise is a state at time 1
        output: Tensor = self.network(noise, (start,), self.network.condition(h))
        return output

    def latent_loss(self, z: Tensor, h: Tensor) -> dict[str, Tensor]:
        with torch.no_grad():
            x = self.latents.decode(z, h)
        noise = torch.randn(self.draws * len(z), *self.noise_shape, device=z.device, dtype=z.dtype)
        repeated = h.repeat(self.draws, *([1] * (h.ndim - 1)))
        draws = self.push(noise, repeated).unflatten(0, (self.draws, len(z)))
        terms = [energy_score(own, theirs) for own, theirs in self._pixels(x, draws)]
        scores = {"patches": torch.stack(terms).mean(0)}
        if self.features:
            terms = [energy_score(own, theirs) for own, theirs in self._features(x, draws)]
            scores["features"] = self.feature_weight * torch.stack(terms).sum(0)
        return scores

    def _pixels(self, x: Tensor, draws: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        for size in self.patch_sizes:
            if size > min(x.shape[-2:]):
                yield x.flatten(1)[:, None], draws.flatten(2)[:, :, None]
            else:
                yield patches(x, size), patches(draws, size)

    def _features(self, x: Tensor, draws: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Channels at every place, divided by their root mean square over the batch."""
        for network in cast(list[Subject], self.features):
            with torch.no_grad():
                seen = network(x).flatten(2) if len(network.feature_shape) > 1 else network(x)[..., None]
                scale = seen.square().mean().sqrt() + FLOOR
            drawn = network(draws.flatten(0, 1)).reshape(self.draws, *seen.shape)
            yield (seen / scale).mT, (drawn / scale).mT
