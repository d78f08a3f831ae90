"""A split of images on disk, which are decoded on demand."""

import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple, Self

import numpy as np
import torch
from rich.progress import track
from torch import Tensor
from torch.utils.data import Dataset

from fibermodels.core import Images
from fibermodels.data.image_files import ImageReader, UnreadableImage
from fibermodels.data.loading import stream
from fibermodels.noise import seeded

Unreadable = Literal["error", "skip"]

CHUNK = 64
"""Images that one worker decodes at a time when a whole set is read."""


class Listing(NamedTuple):
    """The files of a split, with labels and classes."""

    root: Path
    files: list[str]
    """Paths relative to `root`."""
    labels: Tensor | None
    """`(N,)` long, or `(N, K)` float in {0, 1, NaN}, with NaN for unlabelled or uncertain."""
    classes: list[str]
    confined: bool = False
    """Whether the paths come from a file, so that they must be checked not to lead out of the folder."""

    def take(self, rows: Tensor) -> Self:
        """The listing of the given rows, in this order."""
        labels = None if self.labels is None else self.labels[rows]
        return self._replace(files=[self.files[row] for row in rows.tolist()], labels=labels)


class ImageSet(Dataset[dict[str, Tensor]], Images):
    """Images of a listing, decoded on demand, in a fixed order.

    The flips depend only on the seed, the split's name, the epoch and the image's index, and not on batches, workers or
    processes.

    Args:
        listing: the files, in the order of the set.
        reader: decodes one file.
        seed: the seed of the flips.
        name: the split's name.
        flip: whether to mirror half of the images, chosen anew in every epoch.
        unreadable: `error` for a file that cannot be decoded, or `skip` to replace it by the next readable image with
            the same labels, with a warning that names the file. The length of the set does not change.
        workers: processes that decode when many images are read at once; 0 decodes in this process.
        cache: whether to decode all images now and keep their bytes in memory.

    Raises:
        UnreadableImage: with `cache`, a file cannot be decoded.
    """

    def __init__(
        self,
        listing: Listing,
        reader: ImageReader,
        seed: int,
        name: str,
        flip: bool = False,
        unreadable: Unreadable = "error",
        workers: int = 0,
        cache: bool = False,
    ) -> None:
        self.root, self.classes, self._labels = listing.root, listing.classes, listing.labels
        self._bounds = listing.root.resolve() if listing.confined else None
        self.reader, self.seed, self.name = reader, seed, name
        self.flip, self.unreadable, self.workers = flip, unreadable, workers
        # An array, because reading a list changes reference counts, so every worker would get a copy of its memory.
        self._files = np.array([os.fsencode(file) for file in listing.files])
        self._bytes: Tensor | None = None
        if cache:
            parts = stream(_Bytes(self), self._chunks(torch.arange(len(self)), CHUNK), workers)
            count = -(-len(self) // CHUNK)
            self._bytes = torch.cat(list(track(parts, f"decoding {len(self)} images ({name})", total=count)))
        self.set_epoch(0)

    def set_epoch(self, epoch: int) -> None:
        """Draws the flips of an epoch."""
        draws = torch.rand(len(self) if self.flip else 0, generator=seeded("flips", self.seed, self.name, epoch))
        self.flipped = draws < 0.5

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {name: value[0] for name, value in self.__getitems__([index]).items()}

    def __getitems__(self, indices: list[int]) -> dict[str, Tensor]:
        rows = torch.tensor(indices)
        x = self.pixels(indices).float().div_(255)
        if self.flip:
            x = torch.where(self.flipped[rows][:, None, None, None], x.flip(-1), x)
        return {"x": x} if self._labels is None else {"x": x, "y": self._labels[rows]}

    def batches(self, size: int) -> Iterator[dict[str, Tensor]]:
        """All images of the current epoch, in order, in batches of `size`: `{"x"}`, and `"y"` if there are labels."""
        return self._stream(torch.arange(len(self)), size)

    def images(self, indices: Tensor | slice = slice(None)) -> Tensor:
        """Images `(B, C, H, W)` of the current epoch."""
        rows = torch.arange(len(self))[indices]
        parts = [batch["x"] for batch in self._stream(rows, CHUNK)]
        return torch.cat(parts) if parts else torch.empty(0, *self.reader.shape)

    def labels(self) -> Tensor | None:
        """Labels of all images, in order; None if there are none."""
        return self._labels

    def file(self, index: int) -> Path:
        """The path of an image.

        Raises:
            ValueError: the listing is confined, and a link leads out of the root.
        """
        path = self.root / os.fsdecode(self._files[index])
        if self._bounds is not None and not path.resolve().is_relative_to(self._bounds):
            raise ValueError(f"'{path}' leads to '{path.resolve()}', outside the data set's folder")
        return path

    def pixels(self, indices: list[int]) -> Tensor:
        """Bytes `(B, C, H, W)`, without flips."""
        if self._bytes is not None:
            return self._bytes[indices]
        return torch.stack([self._decoded(index) for index in indices])

    def _stream(self, rows: Tensor, size: int) -> Iterator[dict[str, Tensor]]:
        here = self._bytes is not None or len(rows) <= size
        return stream(self, self._chunks(rows, size), 0 if here else self.workers)

    @staticmethod
    def _chunks(rows: Tensor, size: int) -> list[list[int]]:
        return [part.tolist() for part in rows.split(size)] if len(rows) else []

    def _decoded(self, index: int) -> Tensor:
        try:
            return self.reader(self.file(index))
        except UnreadableImage as error:
            if self.unreadable == "error":
                raise UnreadableImage(f"{error} (--data.unreadable skip continues without it)") from error
            warnings.warn(f"skipped: {error}", stacklevel=2)
        for other in self._alike(index):
            try:
                return self.reader(self.file(other))
            except UnreadableImage:
                continue  # a warning names it when it is read itself
        raise UnreadableImage(f"'{self.file(index)}' and all other images of its labels cannot be read")

    def _alike(self, index: int) -> Iterator[int]:
        """The other images with the same labels, first those after `index`, then those before it."""
        labels = torch.zeros(len(self), 1) if self._labels is None else self._labels.view(len(self), -1)
        same = (labels.nan_to_num(-1) == labels[index].nan_to_num(-1)).all(1).nonzero()[:, 0]
        yield from same[same > index].tolist()
        yield from same[same < index].tolist()


class _Bytes(Dataset[Tensor]):
    """The images of a set as bytes, for workers."""

    def __init__(self, images: ImageSet) -> None:
        self.images = images

    def __getitems__(self, indices: list[int]) -> Tensor:
        return self.images.pixels(indices)

    def __getitem__(self, index: int) -> Tensor:
        return self.images.pixels([index])[0]
