"""Digits in random colours: a data set with exactly known fibers."""

from collections.abc import Iterator
from typing import Literal

import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from fibermodels.config import Recorded
from fibermodels.core import Data, FiberSamples, HasLaw, Images
from fibermodels.data.digits import BaseName, Split, load_digits
from fibermodels.data.loading import EpochSampler, loader
from fibermodels.metrics import pairwise_distance
from fibermodels.noise import seeded, target_generators
from fibermodels.suites import colour, colour_metrics

Variant = Literal["correlated", "uncorrelated"]


class ColouredDigits(Dataset[dict[str, Tensor]], Images):
    """Grey digits in random colours, which are new in every epoch.

    The colours depend only on the seed, the split, the epoch and the digit's index, and not on batches, workers or
    processes.

    Args:
        digits: grey images `(N, 1, H, W)`.
        seed: the seed of the colours.
        name: the split's name; splits have different colours.
        variant: `correlated` follows the law; `uncorrelated` draws the foreground independently.
    """

    def __init__(self, digits: Tensor, seed: int, name: str, variant: Variant = "correlated") -> None:
        self.digits, self.seed, self.name, self.variant = digits, seed, name, variant
        self.set_epoch(0)

    def set_epoch(self, epoch: int) -> None:
        generator = seeded("colours", self.seed, self.name, epoch)
        self.backgrounds = colour.sample_backgrounds(len(self.digits), generator)
        other = colour.sample_backgrounds(len(self.digits), generator)
        self.foregrounds = colour.foreground(self.backgrounds if self.variant == "correlated" else other)

    def __len__(self) -> int:
        return len(self.digits)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {"x": self.images(torch.tensor([index]))[0]}

    def __getitems__(self, indices: list[int]) -> dict[str, Tensor]:
        return {"x": self.images(torch.tensor(indices))}

    def batches(self, size: int) -> Iterator[dict[str, Tensor]]:
        for start in range(0, len(self), size):
            yield {"x": self.images(slice(start, start + size))}

    def labels(self) -> None:
        return None

    def images(self, indices: Tensor | slice = slice(None)) -> Tensor:
        return colour.colourise(self.digits[indices], self.backgrounds[indices], self.foregrounds[indices])


class ColourDigits(LightningDataModule, Data, HasLaw, metaclass=Recorded):  # type: ignore[misc]  # `name` is never None
    """Train, validation and test images of coloured digits.

    A fiber consists of all colourings of one digit. Its factors are the three background colours, which are independent
    of one another and of the digit.

    Args:
        base: the grey digits.
        root: the data folder; None takes `$FIBERMODELS_DATA`, else `data`.
        batch_size: images per batch and process.
        variant: `correlated` follows the law; `uncorrelated` is the data of out-of-distribution priors.
        seed: the seed of the colours and of the order of the training images.
    """

    def __init__(
        self,
        base: BaseName = "digits",
        root: str | None = None,
        batch_size: int = 256,
        variant: Variant = "correlated",
        seed: int = 0,
    ) -> None:
        super().__init__()
        if batch_size < 1:
            raise ValueError(f"data.batch_size: expected at least 1, got {batch_size}")
        if variant not in ("correlated", "uncorrelated"):
            raise ValueError(f"data.variant: expected 'correlated' or 'uncorrelated', got '{variant}'")
        self.base, self.root, self.variant, self.seed = base, root, variant, seed
        self.batch_size = batch_size
        self.name = f"colour_{base}" + ("" if variant == "correlated" else f"_{variant}")  # in results
        self._splits: dict[Split, ColouredDigits] = {}

    def split(self, split: Split) -> ColouredDigits:
        """One split, loaded on first use; validation and test keep the colours of epoch 0."""
        if split not in self._splits:
            digits = load_digits(self.base, split, self.root)
            self._splits[split] = ColouredDigits(digits, self.seed, f"{self.base}/{split}", self.variant)
        return self._splits[split]

    def members(self, x: Tensor, n: int, generator: torch.Generator | None = None) -> Tensor:
        digits = colour.digit(x)
        rows = [colour.sample_backgrounds(n, own) for own in target_generators(len(x), generator)]
        return colour.colourise(digits, torch.stack(rows, 1).to(x.device))

    def factors(self, images: Tensor) -> Tensor:
        return colour.estimate_backgrounds(images)

    def law_scores(self, samples: FiberSamples, exact: FiberSamples) -> dict[str, float]:
        return {
            "colour_kl": colour_metrics.colour_kl(samples),
            "colour_kl_floor": colour_metrics.colour_kl(exact),
            "colour_w1": colour_metrics.colour_w1(samples),
            "colour_w1_floor": colour_metrics.colour_w1(exact),
            "contrast_error": colour_metrics.contrast_error(samples),
            "pixel_error": colour_metrics.pixel_error(samples),
            "pairwise_distance_truth": pairwise_distance(exact),
        }

    def train_dataloader(self) -> DataLoader[dict[str, Tensor]]:
        """Shuffled batches `{"x": (B, 3, H, W)}`, in new colours in each epoch."""
        return loader(EpochSampler(self.split("train"), self.seed), self.batch_size)

    def val_dataloader(self) -> DataLoader[dict[str, Tensor]]:
        """Validation images in fixed order and colours."""
        return loader(EpochSampler(self.split("val"), shuffle=False), self.batch_size)
