"""Digits in one of two colours that agree with the label by chance: what causes a label, and what only goes with it.

The label says whether the digit is below 5, and is wrong for a quarter of the images. The colour is the label's, but
for a share of the images that differs between environments. So a network that follows the colour is right more often
than the digit allows, where the colours agree, and wrong where they do not.

Reference: Arjovsky et al., Invariant Risk Minimization, arXiv 1907.02893, section 5.2: 14 x 14 pixels, two channels,
and the networks. In their training environments 90 % and 80 % of colours agree, in that of the test 10 %.
"""

import torch
from torch import Tensor, nn

from fibermodels.checks import check_number, check_numbers
from fibermodels.config import Recorded
from fibermodels.core import Subject
from fibermodels.data.digits import BaseName, Split, load_labelled
from fibermodels.data.in_memory import TensorSet
from fibermodels.data.split_data import SplitData
from fibermodels.noise import seeded

SHAPE, FLIPPED = (2, 14, 14), 0.25
"""Channels, rows and columns; the share of wrong labels."""


class CausalDigits(SplitData, metaclass=Recorded):
    """Inputs `(B, 2, 14, 14)`: every second pixel of a grey digit in one channel, and zeros in the other; labels 0, 1.

    Args:
        agreement: the share of images whose channel is their label, in [0, 1].
        base: the grey digits, of 28 x 28 pixels: `digits`, `mnist`.
        root: the data folder; None takes `$FIBERMODELS_DATA`, else `data`.
        batch_size: inputs per batch.
        seed: of labels, colours and the order.

    Raises:
        ValueError: a number out of its range, or digits of another size.
    """

    def __init__(
        self,
        agreement: float = 0.8,
        base: BaseName = "mnist",
        root: str | None = None,
        batch_size: int = 256,
        seed: int = 0,
    ) -> None:
        super().__init__(f"causal_{base}", batch_size, seed)
        check_number("CausalDigits", "agreement", agreement, least=0, most=1)
        self.agreement, self.base, self.root = agreement, base, root
        self._splits: dict[Split, TensorSet] = {}

    def split(self, split: Split) -> TensorSet:
        """The inputs of a split; its labels do not depend on the agreement."""
        if split not in self._splits:
            grey, digit = load_labelled(self.base, split, self.root)
            if grey.shape[-1] != 2 * SHAPE[-1]:
                raise ValueError(f"CausalDigits: base: expected digits of 28 x 28 pixels, got {tuple(grey.shape[2:])}")
            order = torch.randperm(len(grey), generator=seeded("causal", self.seed, split, "order"))
            grey, digit = grey[order, :, ::2, ::2], digit[order]
            chance = torch.rand(2, len(grey), generator=seeded("causal", self.seed, split, "chance"))
            label = (digit < 5) ^ (chance[0] < FLIPPED)
            colour = label ^ (chance[1] >= self.agreement)
            self._splits[split] = TensorSet(painted(grey, colour.long()), label.long())
        return self._splits[split]


def painted(grey: Tensor, colour: Tensor) -> Tensor:
    """Grey digits `(B, 1, 14, 14)` in channel 0 or 1, `colour` `(B,)`: `(B, 2, 14, 14)`."""
    place = nn.functional.one_hot(colour, SHAPE[0]).to(grey)
    return grey * place[:, :, None, None]


def colour_of(x: Tensor) -> Tensor:
    """The channel with more light, 0 or 1, of inputs `(..., 2, 14, 14)`: `(...)`."""
    return x.sum((-2, -1)).argmax(-1)


def recoloured(x: Tensor) -> Tensor:
    """The inputs with their channels exchanged."""
    return x.flip(-3)


class CausalClassifier(Subject):
    """The logit of label 1, `(B, 2, 14, 14)` to `(B, 1)`, by a perceptron with two hidden layers.

    Args:
        width: of the hidden layers.
        grey: whether it sees the sum of the channels alone, so that it cannot see the colour.
        weights: a safetensors file of a trained network; None starts at random.
    """

    def __init__(self, width: int = 128, grey: bool = False, weights: str | None = None) -> None:
        super().__init__()
        check_numbers("CausalClassifier", {"width": width}, least=1)
        self.input_shape, self.feature_shape, self.grey = SHAPE, (1,), grey
        inputs = SHAPE[1] * SHAPE[2] * (1 if grey else SHAPE[0])
        self.network = nn.Sequential(
            *(nn.Linear(inputs, width), nn.ReLU()), *(nn.Linear(width, width), nn.ReLU()), nn.Linear(width, 1)
        )
        for layer in self.network:
            if isinstance(layer, nn.Linear):
                nn.init.xavier_uniform_(layer.weight)
                nn.init.zeros_(layer.bias)
        self.load_weights(weights)
        self.freeze()

    def forward(self, images: Tensor) -> Tensor:
        found: Tensor = self.network((images.sum(1) if self.grey else images).flatten(1))
        return found
