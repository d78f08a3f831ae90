"""Images that are in memory: a tensor, or what a data set gives."""

from collections.abc import Iterator

import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from fibermodels.core import Data, Images
from fibermodels.data.digits import Split
from fibermodels.data.image_data import held_out
from fibermodels.data.loading import EpochSampler, loader
from fibermodels.noise import seeded


class InMemory(LightningDataModule, Data):  # type: ignore[misc]  # `name` is never None
    """Images in memory, with training, validation and test images that the seed selects.

    Args:
        images: `(N, C, H, W)`, bytes.
        labels: `(N,)`; None if there are none.
        batch_size: images per batch.
        seed: of the splits, the order and the mirror images.
        flip: whether to mirror half of the training images, chosen anew in every epoch.
        val_size: number or share of validation images, and of test images.
        name: of the data in results.

    Raises:
        ValueError: too few images, labels of another number, or other images than bytes `(N, C, H, W)`.
    """

    def __init__(
        self,
        images: Tensor,
        labels: Tensor | None = None,
        batch_size: int = 64,
        seed: int = 0,
        flip: bool = False,
        val_size: int | float = 0.1,
        name: str = "images",
    ) -> None:
        super().__init__()
        if images.ndim != 4 or images.dtype != torch.uint8 or images.shape[1] not in (1, 3):
            raise ValueError(
                f"images: expected bytes (N, 1 or 3, H, W), got {images.dtype} {tuple(images.shape)}; InMemory takes "
                "what `as_data` makes of other images"
            )
        if labels is not None and len(labels) != len(images):
            raise ValueError(f"labels: expected as many as the {len(images)} images, got {len(labels)}")
        self.batch_size, self.seed, self.name = batch_size, seed, name
        size = held_out(val_size, len(images), 2, name)
        rows = torch.randperm(len(images), generator=seeded("images", seed, "train"))
        parts = {"test": rows[:size], "val": rows[size : 2 * size], "train": rows[2 * size :]}
        self._splits = {
            part: ArraySet(images[own], None if labels is None else labels[own], seed, flip and part == "train")
            for part, own in parts.items()
        }

    def split(self, split: Split) -> "ArraySet":
        """The images of a split."""
        return self._splits[split]

    def train_dataloader(self) -> DataLoader[dict[str, Tensor]]:
        """Shuffled batches `{"x": (B, C, H, W)}`, with `"y"` if there are labels."""
        return loader(EpochSampler(self.split("train"), self.seed), self.batch_size)

    def val_dataloader(self) -> DataLoader[dict[str, Tensor]]:
        """Validation images in fixed order."""
        return loader(EpochSampler(self.split("val"), shuffle=False), self.batch_size)


class ArraySet(Dataset[dict[str, Tensor]], Images):
    """A split of images in memory.

    Args:
        pixels: `(N, C, H, W)`, bytes.
        labels: `(N,)`; None if there are none.
        seed: of the mirror images.
        flip: whether to mirror half of the images, chosen anew in every epoch.
    """

    def __init__(self, pixels: Tensor, labels: Tensor | None, seed: int, flip: bool) -> None:
        self.pixels, self._labels, self.seed, self.flip = pixels, labels, seed, flip
        self.set_epoch(0)

    def set_epoch(self, epoch: int) -> None:
        """Draws the mirror images of an epoch."""
        draws = torch.rand(len(self) if self.flip else 0, generator=seeded("flips", self.seed, "train", epoch))
        self.flipped = draws < 0.5

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {name: value[0] for name, value in self.__getitems__([index]).items()}

    def __getitems__(self, indices: list[int]) -> dict[str, Tensor]:
        rows = torch.tensor(indices)
        x = self.images(rows)
        return {"x": x} if self._labels is None else {"x": x, "y": self._labels[rows]}

    def images(self, indices: Tensor | slice = slice(None)) -> Tensor:
        """Images `(B, C, H, W)` of the current epoch."""
        x = self.pixels[indices].float().div_(255)
        return torch.where(self.flipped[indices][:, None, None, None], x.flip(-1), x) if self.flip else x

    def batches(self, size: int) -> Iterator[dict[str, Tensor]]:
        """All images in order, in batches of `size`."""
        for rows in torch.arange(len(self)).split(size):
            yield self.__getitems__(rows.tolist())

    def labels(self) -> Tensor | None:
        """Labels of all images, in order; None if there are none."""
        return self._labels
