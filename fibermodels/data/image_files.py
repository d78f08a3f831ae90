"""Finding image files below a folder, and decoding them to a given shape."""

import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

Fit = Literal["crop", "stretch"]

ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".ppm", ".pgm")
"""The endings of image files, in lower case."""

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "PPM")
"""PIL's names of the formats that are read. Others could start programs."""

LARGER = 16
"""An image that would be scaled to more than so many times the pixels that are kept is cut first."""

_DAMAGE = (OSError, SyntaxError, ValueError, EOFError, struct.error, Image.DecompressionBombError)
"""PIL's errors for files that are truncated, of another format, or larger than its decompression limit."""


class UnreadableImage(ValueError):
    """An image cannot be decoded; the message names the file.

    If a worker reports the error as a traceback, only its last line is kept.
    """

    def __init__(self, text: str) -> None:
        super().__init__(text.strip().rpartition("UnreadableImage: ")[2])


@dataclass(frozen=True)
class ImageReader:
    """Decodes an image file to bytes `(C, H, W)`.

    Args:
        shape: `(C, H, W)`; grey where C is 1, else RGB.
        fit: `crop` scales the image until it covers H x W and keeps the centre, as torchvision does for squares;
            `stretch` scales both sides independently.

    Raises:
        ValueError: on construction, for another shape or fit.
    """

    shape: tuple[int, int, int]
    fit: Fit = "crop"

    def __post_init__(self) -> None:
        if len(self.shape) != 3 or self.shape[0] not in (1, 3) or min(self.shape) < 1:
            raise ValueError(f"image_shape: expected [1 or 3, height, width], got {list(self.shape)}")
        if self.fit not in get_args(Fit):
            raise ValueError(f"fit: expected one of {list(get_args(Fit))}, got '{self.fit}'")

    def __call__(self, path: str | Path) -> Tensor:
        """The image as bytes `(C, H, W)`, rotated by its EXIF tag and resampled by PIL's bicubic filter, which
        antialiases.

        Raises:
            UnreadableImage: the file is missing, truncated, not an image of a known format and range, or larger than
                PIL's decompression limit.
        """
        if not os.path.isfile(path):  # opening a pipe would wait forever
            raise UnreadableImage(f"cannot read the image '{path}': there is no such file")
        try:
            with Image.open(path, formats=FORMATS) as file:
                image = _eight_bits(ImageOps.exif_transpose(file))
                image = self.fitted(image.convert("L" if self.shape[0] == 1 else "RGB"))
        except _DAMAGE as error:
            raise UnreadableImage(f"cannot read the image '{path}': {error}") from error
        pixels = np.array(image)
        return torch.from_numpy(pixels).view(*self.shape[1:], -1).permute(2, 0, 1).contiguous()

    def fitted(self, image: Image.Image) -> Image.Image:
        """An image of PIL, scaled and cut to the height and the width."""
        _, height, width = self.shape
        if image.size == (width, height):
            return image
        if self.fit == "stretch":
            return image.resize((width, height), Image.Resampling.BICUBIC)
        if image.width * height > image.height * width:  # relatively wider than the target
            covering = image.width * height // image.height, height
        else:
            covering = width, image.height * width // image.width
        if covering[0] * covering[1] > LARGER * width * height:
            part = min(image.width, image.height * width / height), min(image.height, image.width * height / width)
            left, top = (image.width - part[0]) / 2, (image.height - part[1]) / 2
            box = (left, top, left + part[0], top + part[1])
            return image.resize((width, height), Image.Resampling.BICUBIC, box)
        left, top = round((covering[0] - width) / 2), round((covering[1] - height) / 2)
        scaled = image.resize(covering, Image.Resampling.BICUBIC)
        return scaled.crop((left, top, left + width, top + height))


def image_shape(path: str | Path) -> tuple[int, int, int]:
    """Channels (1 for grey, else 3), height and width of an image file, without decoding it.

    Raises:
        UnreadableImage: it is no image of a known format.
    """
    try:
        with Image.open(path, formats=FORMATS) as file:
            return (1 if file.mode[0] in "1LIF" else 3), file.height, file.width
    except _DAMAGE as error:
        raise UnreadableImage(f"cannot read the image '{path}': {error}") from error


def _eight_bits(image: Image.Image) -> Image.Image:
    """Reduces an image with 16 bits per pixel (radiographs in PNG) to its upper eight bits; PIL would clip it.

    Raises:
        ValueError: its pixels are floating-point numbers, whose range is not known.
    """
    if image.mode == "F":
        raise ValueError("its pixels are floating-point numbers of an unknown range; save it with 8 or 16 bits")
    if not image.mode.startswith("I"):
        return image
    return Image.fromarray((np.asarray(image).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8))


def find_images(folder: Path) -> list[str]:
    """Sorted relative paths of all image files below a folder, at any depth, without hidden ones.

    Links to folders are followed, but not those to a folder around them, which would never end.

    Raises:
        ValueError: the folder is the root of the file system.
    """
    if os.path.realpath(folder) == os.path.realpath(os.sep):
        raise ValueError(f"root: expected a folder of images, got the whole file system, '{folder}'")
    found: list[str] = []
    for where, folders, files in os.walk(folder, followlinks=True):
        folders[:] = sorted(name for name in folders if not is_hidden(name) and not _leads_back(where, name))
        inside = os.path.relpath(where, folder)
        images = [name for name in files if name.lower().endswith(ENDINGS) and not is_hidden(name)]
        found += images if inside == "." else [f"{inside}/{name}" for name in images]
    return sorted(found)


def _leads_back(where: str, name: str) -> bool:
    path = os.path.join(where, name)
    if not os.path.islink(path):
        return False
    target, own = os.path.realpath(path), os.path.realpath(where)
    return os.path.commonpath((target, own)) == target


def is_hidden(name: str) -> bool:
    """Whether a name is hidden, such as `.DS_Store`, `__MACOSX` and `.ipynb_checkpoints`."""
    return name.startswith((".", "__"))
