"""Digits in colours that depend on the digit and on one another.

A background colour follows the mixture of `colour.py`, but its weights depend on the digit's ink `a` and slant `s`
(`digit_traits.py`): they are the softmax of `(log .60 + a, log .35 - a, log .05 + 1.5 s)`. The three channels are
joined by a Gaussian copula with the correlation `.45 (1 + s)` between any two. A model that ignores the digit, or draws
its channels independently, has the wrong distribution on every fiber.
"""

import torch
from torch import Tensor

from fibermodels.suites import colour
from fibermodels.suites.coloured import Coloured
from fibermodels.suites.digit_traits import correlated, traits


class DependentColours(Coloured):
    """Train, validation and test images of digits whose colours depend on the digit and on one another.

    Args:
        base, root, batch_size, seed: as in `DigitSuite`.
    """

    kind = "dependent_colours"

    def draw(self, noise: Tensor, content: Tensor) -> Tensor:
        ink, slant = traits(content)
        logits = torch.tensor(colour.WEIGHTS, device=noise.device).log() + torch.stack((ink, -ink, 1.5 * slant), -1)
        weights = logits.softmax(-1)[..., None, :]  # the same for the three channels
        return colour.backgrounds(correlated(noise, 0.45 * (1 + slant)), weights)
