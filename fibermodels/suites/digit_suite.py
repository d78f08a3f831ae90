"""What the suites of digits share: the grey digits that are their contents, and their arguments."""

from torch import Tensor

from fibermodels.data.digits import BaseName, Split, load_digits
from fibermodels.suites.suite import Suite


class DigitSuite(Suite):
    """A suite whose images are made of grey digits; the derived classes say how.

    Args:
        base: the grey digits.
        root: the data folder; None takes `$FIBERMODELS_DATA`, else `data`.
        batch_size: images per batch and process.
        seed: the seed of the factors and of the order of the training images.
    """

    kind: str
    """The name in results, without that of the digits."""

    def __init__(
        self, base: BaseName = "digits", root: str | None = None, batch_size: int = 256, seed: int = 0
    ) -> None:
        super().__init__(f"{self.kind}_{base}", batch_size, seed)
        self.base, self.root = base, root

    def contents(self, split: Split) -> Tensor:
        """The grey digits `(N, 1, H, W)` of a split."""
        return load_digits(self.base, split, self.root)
