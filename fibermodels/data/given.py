"""Data of what users have at hand: a folder, a tensor, a file of numbers, a data set, a loader, or a data module."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sized
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from PIL import Image
from rich.progress import track
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from fibermodels.core import Data
from fibermodels.data.arrays import ENDINGS, Arrays, read_arrays
from fibermodels.data.image_files import ImageReader, image_shape
from fibermodels.data.image_folder import ImageFolder
from fibermodels.data.in_memory import InMemory
from fibermodels.data.table import Table
from fibermodels.spaces import InputSpace

KEYS = ("x", "image", "images", "pixel_values", "img")
"""What batches that are dictionaries call their images."""

CACHED, LARGEST, PROBED = 2e9, 64, 100
"""Bytes of a folder's images that are kept in memory, pixels per side, and images whose size is read: at most."""


def as_data(
    images: Any,
    size: int | None = None,
    batch_size: int = 64,
    seed: int = 0,
    flip: bool = False,
    channels: int | None = None,
) -> Any:
    """A data module with the splits train, val and test.

    Args:
        images: a folder of images (see `ImageFolder`); images `(N, C, H, W)`, floating point in [0, 1] or bytes; points
            or rows of a table `(N, D)`, or signals `(N, C, L)`, floating point; a file of these (see `Arrays`); a data
            set or a loader of these, of PIL's images, or of tuples or dictionaries with them; or a data module, such as
            `InMemory` for maps of any range.
        size: pixels per side, to which files and images of PIL are scaled and cropped; None takes the size of a
            folder's images (see `shape_for`), and leaves what is a tensor as it is.
        batch_size, seed, flip: as in `InMemory`.
        channels: of the images of a folder, 1 or 3; None takes 1 if all of them are grey.

    Raises:
        FileNotFoundError: no such folder, or no image in it.
        TypeError: something else.
        ValueError: images that are not in [0, 1], or not all of one shape; a file of another kind.
    """
    if isinstance(images, Data) and isinstance(images, LightningDataModule):
        return images
    own: dict[str, Any] = {"batch_size": batch_size, "seed": seed, "flip": flip}
    if isinstance(images, (str, Path)) and Path(images).suffix in ENDINGS:
        return Arrays(str(images), batch_size, seed)
    if isinstance(images, (str, Path)) and Path(images).is_file():
        raise ValueError(f"'{images}': expected a folder of images, or a file that ends in {', '.join(ENDINGS)}")
    if isinstance(images, (str, Path)):
        shape = shape_for(shapes(images), size, channels)
        count = len(ImageFolder(str(images), shape, **own).listing("train").files)
        return ImageFolder(str(images), shape, cache=count * math.prod(shape) < CACHED, **own)
    if isinstance(images, (Tensor, np.ndarray)):
        x = torch.as_tensor(images)
        if x.is_floating_point() and x.ndim in (2, 3):
            return InMemory(x, None, **own, name="inputs")
        if x.ndim in (2, 3):
            raise ValueError(
                "inputs: expected floating point for points, tables and signals, or images (N, C, H, W), got "
                f"{x.dtype} {list(x.shape)}"
            )
        return InMemory(as_bytes(x), None, **own)
    if isinstance(images, LightningDataModule):
        images.setup("fit")
        images = images.train_dataloader()
    pixels, labels = gathered(images, size)
    return InMemory(pixels, labels, name=type(getattr(images, "dataset", images)).__name__.lower(), **own)


def shapes(folder: str | Path) -> list[tuple[int, int, int]]:
    """Channels, height and width of some images of a folder, as they are on disk.

    Raises:
        FileNotFoundError: no such folder, or no image in it.
        UnreadableImage: one of them is no image.
    """
    found = ImageFolder(str(folder), [3, LARGEST, LARGEST]).split("train")
    return [image_shape(found.file(i)) for i in range(min(PROBED, len(found)))]


def shape_for(found: list[tuple[int, int, int]], size: int | None = None, channels: int | None = None) -> list[int]:
    """The shape to which the images of a folder are scaled and cropped.

    Images of one size of at most `LARGEST` pixels per side stay as they are, if their sides are multiples of 4. Others
    become squares: of the shorter side that is most frequent, at most `LARGEST`, and a multiple of 4.

    Args:
        found: the result of `shapes`.
        size: pixels per side instead.
        channels: 1 or 3; None takes 1 if all are grey.
    """
    colours = channels or max(channels for channels, _, _ in found)
    sizes = {(height, width) for _, height, width in found}
    height, width = next(iter(sizes))
    if size is not None:
        return [colours, size, size]
    if len(sizes) == 1 and max(height, width) <= LARGEST and not (height % 4 or width % 4):
        return [colours, height, width]
    side = Counter(min(height, width, LARGEST) for _, height, width in found).most_common(1)[0][0]
    return [colours, *2 * [max(4, side - side % 4)]]


def as_bytes(images: Tensor) -> Tensor:
    """Images `(..., C, H, W)` as bytes.

    Raises:
        ValueError: they are floating point and not in [0, 1], or of another type.
    """
    if images.dtype == torch.uint8:
        return images
    if not images.is_floating_point():
        raise ValueError(f"images: expected floating point in [0, 1] or bytes, got {images.dtype}")
    least, most = float(images.min()), float(images.max())
    if not (least >= 0 and most <= 1):
        raise ValueError(
            f"images: expected values in [0, 1], got {least:.3g} to {most:.3g}; give images before their "
            "normalisation, and the normalisation as mean and std; maps that are no images are data.InMemory(maps)"
        )
    return (255 * images).round().to(torch.uint8)


def gathered(items: Any, size: int | None = None) -> tuple[Tensor, Tensor | None]:
    """All images of a data set or a loader as bytes `(N, C, H, W)`, or its points `(N, D)` or signals `(N, C, L)` as
    floating point; and their labels `(N,)` if each has one.

    Raises:
        TypeError: something else, or an item without an image.
        ValueError: images of several shapes, or none.
    """
    several = isinstance(items, DataLoader)
    count = len(items) if isinstance(items, Sized) else None
    if isinstance(items, Iterable):
        each: Iterable[Any] = items
    elif isinstance(items, Dataset) and count is not None:
        each = (items[i] for i in range(count))
    else:
        raise TypeError(
            "images: expected a folder, a tensor, a Dataset, a DataLoader or a LightningDataModule, got "
            f"{type(items).__name__}"
        )
    found, labels = [], []
    for item in track(each, "reading images", total=count):
        image, label = picture(item)
        numbers = entries(image, 1 + several)
        pixels = read(image, size) if numbers is None else numbers
        found.append(pixels if several else pixels[None])
        labels.append(label)
    shapes = sorted({tuple(pixels.shape[1:]) for pixels in found})
    if len(shapes) != 1:
        raise ValueError(f"images: expected images of one shape, got {shapes[:4] or 'none'}; say size")
    parts = [torch.as_tensor(label).reshape(-1) for label in labels if isinstance(label, (int, Tensor))]
    known = len(parts) == len(found) and sum(map(len, parts)) == sum(map(len, found))
    return torch.cat(found), torch.cat(parts).long() if known else None


def picture(item: Any) -> tuple[Any, Any]:
    """The image of an item or a batch, and its label; None if it has none.

    Raises:
        TypeError: an item without an image.
    """
    if isinstance(item, Mapping):
        name = next((key for key in KEYS if key in item), None)
        if name is None:
            raise TypeError(f"images: expected one of the keys {list(KEYS)} in a batch, got {sorted(map(str, item))}")
        return item[name], next((item[key] for key in ("y", "label", "labels") if key in item), None)
    if isinstance(item, (tuple, list)) and item:
        return item[0], item[1] if len(item) > 1 else None
    return item, None


def entries(given: Any, least: int) -> Tensor | None:
    """A point or a signal, or a batch of them, as floating point; None if it is anything else, such as an image.

    Args:
        given: an item or a batch of a data set: a tensor, or an array of points.
        least: dimensions of a point: 1, or 2 in a batch. A signal has one more.
    """
    if not isinstance(given, (Tensor, np.ndarray)):
        return None
    x, most = torch.as_tensor(given), least + isinstance(given, Tensor)  # an array of two dimensions may be an image
    return x.float() if x.is_floating_point() and least <= x.ndim <= most else None


def read_inputs(path: str | Path, space: InputSpace, data: Any = None) -> Tensor:
    """The inputs `(N, *input_shape)` in a file, as a subject of the data takes them.

    Args:
        path: as in `read_arrays`; rows of numbers take the shape of the subject's inputs.
        space: of the subject.
        data: of the training; rows for a `Table` are in the units of its file, and are standardised as its own rows. A
            CSV file of them may have the column of classes (see `Table.rows`).

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a file with other content than the subject takes.
    """
    if isinstance(data, Table) and Path(path).suffix == ".csv":
        return data.standardised(data.rows(path))
    x, _ = read_arrays(path)
    if x.ndim == 2 and x.shape[1] == math.prod(space.shape):
        x = x.reshape(-1, *space.shape)
    space.check(x, f"'{path}'")
    return data.standardised(x) if isinstance(data, Table) else x


def read(image: Any, size: int | None = None) -> Tensor:
    """An image, or a batch of them, as bytes `(..., C, H, W)`.

    Args:
        image: a tensor, an array `(H, W, C)`, an image of PIL, or the path of a file.
        size: pixels per side of what is no tensor; None keeps the size of an image of PIL, and takes 64 for a file.

    Raises:
        TypeError: something else.
        UnreadableImage: a file that cannot be decoded.
        ValueError: as in `as_bytes`.
    """
    if isinstance(image, Tensor):
        return as_bytes(image)
    if isinstance(image, (str, Path)):
        return ImageReader((3, size or 64, size or 64))(image)
    if isinstance(image, np.ndarray) and image.ndim == 3 and image.dtype == np.uint8:
        image = Image.fromarray(image)
    if isinstance(image, Image.Image):
        colour = image.convert("RGB")
        fitted = colour if size is None else ImageReader((3, size, size)).fitted(colour)
        return torch.from_numpy(np.array(fitted)).permute(2, 0, 1).contiguous()
    raise TypeError(f"images: expected a tensor, an image of PIL or the path of a file, got {type(image).__name__}")
