"""The objective of generators in few calls: a strictly proper score of their images.

    loss = E|s(x) - s(x_hat)| - 1/2 E|s(x_hat) - s(x_hat')|,   summed over statistics s

with two or more draws for every pair `(x, h)`. The expectation over the data is least where the draws have the law of
`s(x)` given `h`, and only there. There is no adversary, no likelihood, no solver, and the gradient is unbiased: with
`m` draws, the second term averages over their `m (m - 1)` ordered pairs.

The statistics are patches of several sizes, as vectors of pixels (an input without a grid is one patch), and the
channels of feature networks at every place.

References: Gneiting & Raftery, JASA 102, 2007 (section 4.3, the energy score); Pacchiardi et al., JMLR 25, 2024, and
Shen & Meinshausen, engression, 2024 (generators trained by it); De Bortoli et al., arXiv 2502.02483.
"""

from abc import ABC
from collections.abc import Iterable, Iterator, Sequence
from typing import Self, cast

import torch
from torch import Tensor, nn

from fibermodels.checks import check_number
from fibermodels.core import LatentSpace, Subject, together
from fibermodels.proper_scores import FLOOR, energy_score, patch_score
from fibermodels.trainable import TrainableFiberModel


class Scored(TrainableFiberModel, ABC):
    """A fiber model that is trained by the score of its decoded images.

    Args:
        latents, feature_shape: as in `TrainableFiberModel`.
        draws: per image and step, at least 2.
        patch_sizes: in pixels; None takes 4, 8 and 32, and a size that an image does not have is the whole image.
        feature_weight: of each feature network, which `score_features` names.

    Raises:
        ValueError: a number out of its range.
    """

    features: nn.ModuleList

    def __init__(
        self,
        latents: LatentSpace,
        feature_shape: Sequence[int],
        draws: int,
        patch_sizes: list[int] | None,
        feature_weight: float,
    ) -> None:
        super().__init__(latents, feature_shape)
        name = type(self).__name__
        check_number(name, "draws", draws, least=2)
        check_number(name, "feature_weight", feature_weight, least=0)
        self.draws, self.patch_sizes, self.feature_weight = draws, patch_sizes or [4, 8, 32], feature_weight
        for size in self.patch_sizes:
            check_number(name, "patch_sizes", size, least=1)

    def score_features(self, features: Sequence[Subject] | None) -> None:
        """Sets the networks whose outputs are scored too; after the weights, which do not contain them.

        Raises:
            ValueError: a network for other inputs.
        """
        for each in features or ():
            if each.input_shape != self.input_shape:
                raise ValueError(
                    f"{type(self).__name__}: features: expected networks for {self.input_space.word} "
                    f"{self.input_shape}, got {each.input_shape}"
                )
        self.features = nn.ModuleList(features or ())

    def product(self, batches: Iterable[dict[str, Tensor]]) -> Self:
        """The generator without the networks of its loss."""
        product = type(self)(**self.arguments | {"weights": None, "features": None})
        state = self.state_dict()
        product.load_state_dict({name: value for name, value in state.items() if not name.startswith("features.")})
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
        if self.features:
            terms = [energy_score(own, theirs) for own, theirs in self._features(x, draws)]
            scores["features"] = self.feature_weight * torch.stack(terms).sum(0)
        return scores, draws

    def _features(self, x: Tensor, draws: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Channels at every place, divided by their root mean square over the batch."""
        networks = [cast(Subject, each) for each in self.features]
        with torch.no_grad():
            seen = together(networks, x)
        for own, drawn in zip(seen, together(networks, draws.flatten(0, 1)), strict=True):
            scale = own.square().mean().sqrt() + FLOOR
            theirs = drawn.unflatten(0, draws.shape[:2])
            if own.ndim == 2:  # a vector is one place
                yield own[:, None] / scale, theirs[:, :, None] / scale
            else:
                yield (own / scale).flatten(2).mT, (theirs / scale).flatten(3).mT
