"""Inputs that are in memory: a tensor, or what a data set gives."""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.utils.data import Dataset

from fibermodels.checks import check_finite
from fibermodels.core import Images, Inputs
from fibermodels.data.digits import Split
from fibermodels.data.image_data import held_out
from fibermodels.data.split_data import SplitData
from fibermodels.noise import seeded


class InMemory(SplitData):
    """Inputs in memory, with training, validation and test inputs that the seed selects.

    Args:
        inputs: images `(N, C, H, W)` as bytes, or other inputs `(N, *input_shape)` in their own units, floating point:
            points and rows of tables `(N, D)`, signals `(N, C, L)`, maps `(N, C, H, W)`.
        labels: `(N,)`; None if there are none.
        batch_size: inputs per batch.
        seed: of the splits, the order and the mirror images.
        flip: whether to mirror half of the training images, chosen anew in every epoch.
        val_size: number or share of validation inputs, and of test inputs.
        name: of the data in results.

    Raises:
        ValueError: too few inputs, labels of another number, or neither bytes `(N, 1 or 3, H, W)` nor finite numbers.
    """

    def __init__(
        self,
        inputs: Tensor,
        labels: Tensor | None = None,
        batch_size: int = 64,
        seed: int = 0,
        flip: bool = False,
        val_size: int | float = 0.1,
        name: str = "images",
    ) -> None:
        super().__init__(name, batch_size, seed)
        images = inputs.dtype == torch.uint8
        if inputs.ndim < 2 or (inputs.ndim != 4 or inputs.shape[1] not in (1, 3) if images else flip):
            raise ValueError(
                f"inputs: expected images as bytes (N, 1 or 3, H, W), or floating point (N, ...) without flip, got "
                f"{inputs.dtype} {tuple(inputs.shape)}"
            )
        if not images:
            if not inputs.is_floating_point():
                raise ValueError(f"inputs: expected bytes or floating point, got {inputs.dtype}")
            inputs = inputs.float()
            check_finite(inputs, "inputs")
        if labels is not None and len(labels) != len(inputs):
            raise ValueError(f"labels: expected as many as the {len(inputs)} inputs, got {len(labels)}")
        size = held_out(val_size, len(inputs), 2, name)
        rows = torch.randperm(len(inputs), generator=seeded("images", seed, "train"))
        parts = {"test": rows[:size], "val": rows[size : 2 * size], "train": rows[2 * size :]}
        self._splits: dict[str, TensorSet | ArraySet] = {}
        for part, own in parts.items():
            y = None if labels is None else labels[own]
            pixels = ArraySet(inputs[own], y, seed, flip and part == "train") if images else None
            self._splits[part] = pixels or TensorSet(inputs[own], y)

    def split(self, split: Split) -> "TensorSet | ArraySet":
        """The inputs of a split."""
        return self._splits[split]


class TensorSet(Dataset[dict[str, Tensor]], Inputs):
    """A split of inputs in memory, the same in every epoch.

    Args:
        x: `(N, *input_shape)`.
        labels: `(N,)`; None if there are none.
    """

    def __init__(self, x: Tensor, labels: Tensor | None = None) -> None:
        self.x, self._labels = x, labels

    def set_epoch(self, epoch: int) -> None:
        """Nothing is random."""

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {name: value[0] for name, value in self.__getitems__([index]).items()}

    def __getitems__(self, indices: list[int]) -> dict[str, Tensor]:
        rows = torch.tensor(indices)
        return {"x": self.x[rows]} if self._labels is None else {"x": self.x[rows], "y": self._labels[rows]}

    def inputs(self, indices: Tensor | slice = slice(None)) -> Tensor:
        """Inputs `(B, *input_shape)`."""
        return self.x[indices]

    def batches(self, size: int) -> Iterator[dict[str, Tensor]]:
        """All inputs in order, in batches of `size`."""
        for rows in torch.arange(len(self)).split(size):
            yield self.__getitems__(rows.tolist())

    def labels(self) -> Tensor | None:
        """Labels of all inputs, in order; None if there are none."""
        return self._labels


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
