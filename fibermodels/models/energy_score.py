"""A generator in one network call, trained by a strictly proper score of its images.

    x_hat = decode(G(e, h)),  e ~ N(0, I)
    loss = E|s(x) - s(x_hat)| - 1/2 E|s(x_hat) - s(x_hat')|,   summed over statistics s

with two or more draws for every pair `(x, h)`. The expectation over the data is least where the draws have the law of
`s(x)` given `h`, and only there. There is no adversary, no likelihood, no solver, and the gradient is unbiased: with
`m` draws, the second term averages over their `m (m - 1)` ordered pairs.

The statistics are patches of several sizes, as vectors of pixels (an input without a grid is one patch), the channels
of feature networks at every place, and single numbers, each by itself. The score of one number is the continuous ranked
probability score. The score of a vector is dominated by what varies most in it, so a number that matters, such as the
contrast of an image, gets its spread only where it is scored alone.

References: Gneiting & Raftery, JASA 102, 2007 (section 4.2, the score of one number, and 4.3, the energy score);
Pacchiardi et al., JMLR 25, 2024, and Shen & Meinshausen, engression, 2024 (generators trained by it); De Bortoli et
al., arXiv 2502.02483.
"""

from collections.abc import Iterable, Sequence
from typing import Self, cast

import torch
from torch import Tensor, nn

from fibermodels.checks import check_number
from fibermodels.core import LatentSpace, Subject, together
from fibermodels.nn import Network, Regression
from fibermodels.proper_scores import FLOOR, energy_score, patch_score
from fibermodels.trainable import TrainableFiberModel


class EnergyScore(TrainableFiberModel):
    """A one-step generator over the latents of a frozen space; the score compares decoded images.

    With `regression`, the network adds to a linear prediction of the latents, which is measured before the first step:
    `z = L(h) + G(e, h)`. A vector says nothing about places, and a short training has no time to learn them.

    Args:
        latents: the latent space; `Identity` generates pixels.
        feature_shape: of one representation.
        network: maps standard normal noise and the representation to a latent.
        draws: per image and step, at least 2.
        patch_sizes: in pixels; None takes 4, 8 and 32, and a size that an image does not have is the whole image.
        features: networks whose outputs are scored too, such as the first stages of the subject (`Cut`).
        feature_weight: of each of them.
        marginals: networks whose outputs are scored number by number, each in deviations over the batch, such as
            `subjects.FilterEnergies` and `subjects.LowFrequencies`.
        marginal_weight: of the mean over the numbers of each of them.
        regression: whether there is a linear part (`nn.Regression`), for representations that are vectors.
        weights: a safetensors file of a trained model; None starts at random.

    Raises:
        ValueError: a number out of its range, or a network of `features` or `marginals` for other inputs.
    """

    network_calls = 1
    features: nn.ModuleList
    marginals: nn.ModuleList

    def __init__(
        self,
        latents: LatentSpace,
        feature_shape: list[int],
        network: Network,
        draws: int = 2,
        patch_sizes: list[int] | None = None,
        features: list[Subject] | None = None,
        feature_weight: float = 0.5,
        marginals: list[Subject] | None = None,
        marginal_weight: float = 2.0,
        regression: bool = False,
        weights: str | None = None,
    ) -> None:
        super().__init__(latents, feature_shape)
        check_number("EnergyScore", "draws", draws, least=2)
        check_number("EnergyScore", "feature_weight", feature_weight, least=0)
        check_number("EnergyScore", "marginal_weight", marginal_weight, least=0)
        self.draws, self.patch_sizes = draws, patch_sizes or [4, 8, 32]
        self.feature_weight, self.marginal_weight = feature_weight, marginal_weight
        for size in self.patch_sizes:
            check_number("EnergyScore", "patch_sizes", size, least=1)
        self.network = network.build(latents.shape, feature_shape)
        self.linear = Regression(latents.shape, feature_shape) if regression else None
        self.load_density(weights)
        self.features = self._scored("features", features)  # after the weights, which do not contain them
        self.marginals = self._scored("marginals", marginals)

    def transport(self, noise: Tensor, h: Tensor) -> Tensor:
        start = torch.ones_like(noise[:, 0])  # the noise is a state at time 1
        output: Tensor = self.network(noise, (start,), self.network.condition(h))
        return output if self.linear is None else output + self.linear(h)

    def _scored(self, name: str, networks: Sequence[Subject] | None) -> nn.ModuleList:
        """The networks whose outputs are scored too, checked."""
        for each in networks or ():
            if each.input_shape != self.input_shape:
                raise ValueError(
                    f"EnergyScore: {name}: expected networks for {self.input_space.word} "
                    f"{self.input_shape}, got {each.input_shape}"
                )
        return nn.ModuleList(networks or ())

    def product(self, batches: Iterable[dict[str, Tensor]]) -> Self:
        """The generator without the networks of its loss."""
        product = type(self)(**self.arguments | {"weights": None, "features": None, "marginals": None})
        state = self.state_dict()
        own = {name: value for name, value in state.items() if not name.startswith(("features.", "marginals."))}
        product.load_state_dict(own)
        return product

    def latent_loss(self, z: Tensor, h: Tensor) -> dict[str, Tensor]:
        return self.drawn_loss(z, h)[0]

    def drawn_loss(self, z: Tensor, h: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        with torch.no_grad():
            x = self.latents.decode(z, h)
        noise = torch.randn(self.draws * len(z), *self.noise_shape, device=z.device, dtype=z.dtype)
        repeated = h.repeat(self.draws, *([1] * (h.ndim - 1)))
        draws = self.push(noise, repeated).unflatten(0, (self.draws, len(z)))
        scores = {"patches": patch_score(x, draws, self.patch_sizes)}
        if self.features or self.marginals:
            scores |= self._seen_scores(x, draws)
        return scores, draws

    def _seen_scores(self, x: Tensor, draws: Tensor) -> dict[str, Tensor]:
        """The scores of what networks see, each `(B,)`."""
        networks = [cast(Subject, each) for each in (*self.features, *self.marginals)]
        with torch.no_grad():
            own = together(networks, x)
        drawn = [each.unflatten(0, draws.shape[:2]) for each in together(networks, draws.flatten(0, 1))]
        pairs, count, scores = list(zip(own, drawn, strict=True)), len(self.features), {}
        if count:
            terms = [energy_score(*at_places(*pair)) for pair in pairs[:count]]
            scores["features"] = self.feature_weight * torch.stack(terms).sum(0)
        if count < len(pairs):
            terms = [energy_score(*one_by_one(*pair)) for pair in pairs[count:]]
            scores["marginals"] = self.marginal_weight * torch.stack(terms).sum(0)
        return scores


def at_places(own: Tensor, drawn: Tensor) -> tuple[Tensor, Tensor]:
    """Channels at every place, `(B, places, C)` and `(m, B, places, C)`, in root mean squares over the batch."""
    scale = own.square().mean().sqrt() + FLOOR
    if own.ndim == 2:  # a vector is one place
        return own[:, None] / scale, drawn[:, :, None] / scale
    return (own / scale).flatten(2).mT, (drawn / scale).flatten(3).mT


def one_by_one(own: Tensor, drawn: Tensor) -> tuple[Tensor, Tensor]:
    """Numbers in deviations over the batch, as places of one channel: `(B, K, 1)` and `(m, B, K, 1)`. What is the same
    in the whole batch is divided by its root mean square."""
    own, drawn = own.flatten(1).float(), drawn.flatten(2).float()
    size, spread = own.square().mean(0).sqrt(), own.std(0, correction=0)
    scale = torch.where(spread > 1e-4 * size, spread, size) + FLOOR
    return (own / scale)[..., None], (drawn / scale)[..., None]
