"""Digits in random colours, without their law: what the suites of colours share."""

import torch
from torch import Tensor

from fibermodels.core import FiberSamples
from fibermodels.data.digits import BaseName, Split, load_digits
from fibermodels.suites import colour, colour_metrics
from fibermodels.suites.suite import Suite


class Coloured(Suite):
    """Grey digits in random colours. The content is the grey digit, the factors are the colours of the background.

    Args:
        name: the name in results, without that of the digits.
        base: the grey digits.
        root: the data folder; None takes `$FIBERMODELS_DATA`, else `data`.
        batch_size: images per batch and process.
        seed: the seed of the colours and of the order of the training images.
    """

    noise_dim = 3

    def __init__(self, name: str, base: BaseName, root: str | None, batch_size: int, seed: int) -> None:
        super().__init__(name, batch_size, seed)
        self.base, self.root = base, root

    def contents(self, split: Split) -> Tensor:
        return load_digits(self.base, split, self.root)

    def content(self, images: Tensor) -> Tensor:
        return colour.digit(images)

    def render(self, content: Tensor, factors: Tensor) -> Tensor:
        return colour.colourise(content, factors)

    def factors(self, images: Tensor, x: Tensor) -> Tensor:
        return colour.estimate_backgrounds(images)

    def modes(self, factors: Tensor, content: Tensor) -> Tensor:
        """For each channel: near the narrow component at .5, near the dark one at .1, or elsewhere."""
        narrow, dark = (factors - 0.5).abs() < 0.05, factors < 0.3
        return torch.cat((narrow, dark, ~narrow & ~dark), -1)

    def law_scores(self, samples: FiberSamples, exact: FiberSamples) -> dict[str, float]:
        return super().law_scores(samples, exact) | {"contrast_error": colour_metrics.contrast_error(samples)}
