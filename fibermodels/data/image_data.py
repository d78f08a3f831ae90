"""The base of the data modules of images on disk: splits, their order, and reading."""

from abc import abstractmethod
from pathlib import Path
from typing import get_args

import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader

from fibermodels.config import Recorded, locate
from fibermodels.core import Data
from fibermodels.data.digits import Split
from fibermodels.data.image_files import Fit, ImageReader
from fibermodels.data.image_set import ImageSet, Listing, Unreadable
from fibermodels.data.loading import EpochSampler, loader
from fibermodels.noise import seeded


class ImageData(LightningDataModule, Data, metaclass=Recorded):  # type: ignore[misc]  # `name` is never None
    """Train, validation and test images below a folder.

    The seed determines the order of each split: its first `n` images are a random sample that does not depend on the
    order on disk, and a smaller subset is contained in every larger one.

    The derived classes document the arguments.
    """

    layout: str
    """The expected files below the root, for error messages."""

    def __init__(
        self,
        root: str,
        image_shape: list[int] = [3, 256, 256],  # noqa: B006  (read only)
        batch_size: int = 64,
        workers: int = 0,
        seed: int = 0,
        flip: bool = False,
        subset: int | None = None,
        val_size: int | float = 0.1,
        fit: Fit = "crop",
        unreadable: Unreadable = "error",
        cache: bool = False,
    ) -> None:
        super().__init__()
        for argument, value, least in (("batch_size", batch_size, 1), ("workers", workers, 0), ("subset", subset, 1)):
            if value is not None and value < least:
                raise ValueError(f"data.{argument}: expected at least {least}, got {value}")
        if unreadable not in get_args(Unreadable):
            raise ValueError(f"data.unreadable: expected one of {list(get_args(Unreadable))}, got '{unreadable}'")
        self.reader = ImageReader(tuple(image_shape), fit)  # type: ignore[arg-type]  # it looks at the length
        self.root, self.batch_size, self.workers, self.seed = root, batch_size, workers, seed
        self.flip, self.subset, self.unreadable, self.cache = flip, subset, unreadable, cache
        self.val_size = val_size
        self.name = Path(root).absolute().name.lower()  # in results
        self._splits: dict[Split, ImageSet] = {}

    @abstractmethod
    def listing(self, split: Split) -> Listing:
        """The files of a split, in the order of the set.

        Raises:
            FileNotFoundError: they do not exist; the message gives the expected layout.
            ValueError: they have another layout.
        """

    def split(self, split: Split) -> ImageSet:
        """One split, which is listed on first use; only training images are flipped."""
        if split not in ("train", "val", "test"):
            raise ValueError(f"split: expected 'train', 'val' or 'test', got '{split}'")
        if split not in self._splits:
            listing = self.listing(split)
            if self.subset is not None:
                listing = listing.take(torch.arange(min(self.subset, len(listing.files))))
            flip = self.flip and split == "train"
            self._splits[split] = ImageSet(
                listing, self.reader, self.seed, split, flip, self.unreadable, self.workers, self.cache
            )
        return self._splits[split]

    def folder(self) -> Path:
        """The root, in the working directory or below the data root.

        Raises:
            FileNotFoundError: it does not exist; the message gives the expected layout.
        """
        try:
            return locate(self.root)
        except FileNotFoundError as error:
            raise FileNotFoundError(
                f"{type(self).__name__}: {error}.\nExpected there:\n{self.layout}\n"
                "Set FIBERMODELS_DATA to the folder that holds it, or --data.root to the folder itself."
            ) from error

    def order(self, count: int, part: str) -> Tensor:
        """A random order of `count` files, drawn from the seed and the part's name."""
        return torch.randperm(count, generator=seeded("images", self.seed, part))

    def divided(self, whole: Listing, split: Split, held: tuple[Split, ...]) -> Listing:
        """One split of a listing: each split in `held` gets `val_size` of the files, and training the rest.

        Raises:
            ValueError: a split would be empty.
        """
        rows, size = self.order(len(whole.files), "train"), 0
        if held:
            size = held_out(self.val_size, len(rows), len(held), str(whole.root))
        for name in held:
            if split == name:
                return whole.take(rows[:size])
            rows = rows[size:]
        return whole.take(rows)

    def train_dataloader(self) -> DataLoader[dict[str, Tensor]]:
        """Shuffled batches `{"x": (B, C, H, W)}`, with `"y"` if there are labels; flips are new in each epoch."""
        return loader(EpochSampler(self.split("train"), self.seed), self.batch_size, self.workers)

    def val_dataloader(self) -> DataLoader[dict[str, Tensor]]:
        """Validation images in fixed order."""
        return loader(EpochSampler(self.split("val"), shuffle=False), self.batch_size, self.workers)


def held_out(size: int | float, count: int, parts: int, where: str) -> int:
    """The size of a held-out part of `count` images, from a number or a share; there are `parts` such parts.

    Raises:
        ValueError: a part, or the rest, would be empty.
    """
    share = isinstance(size, float)
    number = round(size * count) if share else size
    if (share and size >= 1) or number < 1 or parts * number >= count:
        raise ValueError(
            f"data.val_size: expected a share in (0, 1) or a number that leaves training images, got {size} "
            f"(of {count} in '{where}')"
        )
    return int(number)
