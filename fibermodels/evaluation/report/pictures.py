"""Images as PNG inside a page."""

import base64
import io
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate

SMALLEST, LARGEST = 96, 160
"""The shortest and the longest side of a shown image, in pixels of the page."""


@dataclass(frozen=True)
class Picture:
    """A picture of a page."""

    uri: str
    """The PNG as a data URI."""
    width: int
    """Pixels of the PNG."""
    height: int
    """Pixels of the PNG."""
    label: str
    """What it shows, in words."""


def picture(image: Tensor, label: str) -> Picture:
    """An image `(C, H, W)` in [0, 1]; one that is larger than a page shows is averaged to the shown size.

    An image without three channels is shown as the mean of its channels in grey.
    """
    size = max(image.shape[1:])
    if size > LARGEST:
        small = [max(1, round(LARGEST * length / size)) for length in image.shape[1:]]
        image = interpolate(image[None], small, mode="area")[0]
    levels = (image.clamp(0, 1) * 255).round().to(torch.uint8)
    if len(levels) != 3:
        return of_image(Image.fromarray((image.clamp(0, 1).mean(0) * 255).round().to(torch.uint8).numpy()), label)
    return of_image(Image.fromarray(levels.permute(1, 2, 0).contiguous().numpy()), label)


def of_pixels(pixels: Tensor, label: str) -> Picture:
    """A picture `(3, H, W)` in [0, 1] as it is, in few colours."""
    levels = (pixels * 255).round().to(torch.uint8).permute(1, 2, 0).contiguous()
    return of_image(Image.fromarray(levels.numpy()).quantize(64), label)


def of_image(image: Image.Image, label: str) -> Picture:
    """A picture of an image of Pillow."""
    content = io.BytesIO()
    image.save(content, "PNG", optimize=True)
    uri = "data:image/png;base64," + base64.b64encode(content.getvalue()).decode()
    return Picture(uri, *image.size, label)


def of_file(path: Path, label: str, most: int) -> Picture:
    """A picture of a PNG file, smaller if its data URI would have more than `most` characters."""
    with Image.open(path) as file:
        image = file.convert("RGB")
    shown = of_image(image, label)
    while len(shown.uri) > most and min(image.size) > 1:
        image = image.reduce(2)
        shown = of_image(image, label)
    return shown


def side(width: int, height: int) -> int:
    """The width at which a page shows images of this size: at least `SMALLEST` on both sides, whole multiples of their
    pixels, so that all pixels look the same."""
    return width * max(1, -(-SMALLEST // min(width, height)))


def size(pictures: Iterable[Picture]) -> int:
    """The characters that pictures take in a page."""
    return sum(len(each.uri) for each in pictures)
