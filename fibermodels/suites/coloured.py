"""Digits in random colours, without their law: what the suites of colours share."""

import torch
from torch import Tensor

from fibermodels.core import FiberSamples
from fibermodels.suites import colour, colour_metrics
from fibermodels.suites.digit_suite import DigitSuite


class Coloured(DigitSuite):
    """Grey digits in random colours. The content is the grey digit, the factors are the colours of the background."""

    noise_dim = 3

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
