"""Digits in independent random colours: the suite of the paper.

Reference: arXiv 2603.21782, section 4.1.
"""

from typing import Literal

from torch import Tensor

from fibermodels.core import FiberSamples
from fibermodels.data.digits import BaseName
from fibermodels.suites import colour, colour_metrics
from fibermodels.suites.coloured import Coloured

Variant = Literal["correlated", "uncorrelated"]


class ColourDigits(Coloured):
    """Train, validation and test images of coloured digits.

    A fiber consists of all colourings of one digit. Its factors are the three background colours, which are independent
    of one another and of the digit.

    Args:
        base, root, batch_size, seed: as in `DigitSuite`.
        variant: `correlated` follows the law; `uncorrelated` draws the colours of the digit independently of those of
            the background: it is the data of out-of-distribution priors.
    """

    kind = "colour"

    def __init__(
        self,
        base: BaseName = "digits",
        root: str | None = None,
        batch_size: int = 256,
        variant: Variant = "correlated",
        seed: int = 0,
    ) -> None:
        if variant not in ("correlated", "uncorrelated"):
            raise ValueError(f"data.variant: expected 'correlated' or 'uncorrelated', got '{variant}'")
        super().__init__(base, root, batch_size, seed)
        self.name += "" if variant == "correlated" else f"_{variant}"
        self.variant, self.noise_dim = variant, 3 if variant == "correlated" else 6

    def draw(self, noise: Tensor, content: Tensor) -> Tensor:
        return colour.backgrounds(noise)

    def render(self, content: Tensor, factors: Tensor) -> Tensor:
        if factors.shape[-1] == 3:
            return super().render(content, factors)
        return colour.colourise(content, factors[..., :3], colour.foreground(factors[..., 3:]))

    def embed(self, factors: Tensor) -> Tensor:
        return factors[..., :3]

    def modes(self, factors: Tensor, content: Tensor) -> Tensor:
        return super().modes(self.embed(factors), content)

    def law_scores(self, samples: FiberSamples, exact: FiberSamples) -> dict[str, float]:
        scores: dict[str, float] = {}
        for metric in (colour_metrics.colour_kl, colour_metrics.colour_w1):
            scores |= {metric.__name__: metric(samples), f"{metric.__name__}_floor": metric(exact)}
        return super().law_scores(samples, exact) | scores
