"""The base of data modules whose splits have random access: what trains and validates on them."""

from abc import ABC
from typing import Any

from lightning.pytorch import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader

from fibermodels.core import Data
from fibermodels.data.loading import EpochSampler, loader


class SplitData(LightningDataModule, Data, ABC):
    """Batches of the splits, read in this process.

    Raises:
        ValueError: `batch_size` is below 1.
    """

    def __init__(self, name: str, batch_size: int, seed: int) -> None:
        super().__init__()
        if batch_size < 1:
            raise ValueError(f"data.batch_size: expected at least 1, got {batch_size}")
        self.batch_size, self.seed = batch_size, seed
        self.name: str = name  # in results

    def train_dataloader(self) -> DataLoader[dict[str, Tensor]]:
        """Shuffled batches `{"x": (B, *input_shape)}`, with `"y"` if there are labels, of a new epoch each time."""
        return loader(EpochSampler(self._items("train"), self.seed), self.batch_size)

    def val_dataloader(self) -> DataLoader[dict[str, Tensor]]:
        """Validation inputs in fixed order."""
        return loader(EpochSampler(self._items("val"), shuffle=False), self.batch_size)

    def _items(self, split: Any) -> Any:
        return self.split(split)
