"""Two fiber models in a row: one for the representations of an earlier layer, one for the inputs.

Let `g = r(f)` be a late layer `g` that follows from an earlier one `f`. Then a fiber of `g` is made of fibers of `f`,

    p(x | g(x) = h) = integral of p(x | f(x) = m) p(m | r(m) = h) dm,

so a density over the representations `m` and a generator of inputs from `m` sample it: `m = push_1(e_1, h)`,
`x = push_2(e_2, m)`. A late layer has little left of an input, and much to choose: the first model chooses among small
maps, cheaply, and the second one, which may serve several late layers, draws.

Reference: cascades of conditional models, Ho et al., arXiv 2106.15282; the fibers are our own.
"""

import math

from torch import Tensor

from fibermodels.core import Pushforward
from fibermodels.spaces import HasInputSpace
from fibermodels.trainable import TrainableFiberModel


class Cascade(Pushforward, HasInputSpace):
    """A model of the fibers of a late layer, from two trained models.

    Args:
        first: samples representations of the earlier layer from those of the late one (see `data.Representations`).
        second: samples inputs from representations of the earlier layer: a trained model, the nearest of its draws
            (`guidance.BestOf`), or a cascade.

    Raises:
        ValueError: the second model does not say what its inputs and its condition are, or has another condition than
            the first one samples.
    """

    def __init__(self, first: TrainableFiberModel, second: Pushforward) -> None:
        super().__init__()
        theirs = getattr(second, "feature_shape", None)
        if theirs is None or not isinstance(second, HasInputSpace):
            raise ValueError(
                "Cascade: second: expected a trained model, the nearest of its draws or a cascade, "
                f"got {type(second).__name__}"
            )
        if tuple(first.input_shape) != tuple(theirs):
            raise ValueError(
                f"Cascade: second: expected a model of representations {list(first.input_shape)}, which the first one "
                f"samples, got one of {list(theirs)}"
            )
        self.first, self.second = first.requires_grad_(False).eval(), second.requires_grad_(False).eval()
        self.input_space, self.feature_shape = second.input_space, first.feature_shape
        self.sizes = (math.prod(first.noise_shape), math.prod(second.noise_shape))
        self.noise_shape = (sum(self.sizes),)
        self.network_calls = first.network_calls + second.network_calls

    def push(self, noise: Tensor, h: Tensor) -> Tensor:
        own, rest = noise.split(self.sizes, 1)
        earlier = self.first.push(own.unflatten(1, self.first.noise_shape), h)
        return self.second.push(rest.unflatten(1, self.second.noise_shape), earlier)
