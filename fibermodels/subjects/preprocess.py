"""Resize, centre crop and normalisation of images, as in the evaluation transforms of torchvision and timm, and the
normalisation of other inputs.

They work on tensors and are differentiable in the inputs.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from fibermodels.spaces import ImageSpace, InputSpace, per_channel, space_of

Interpolation = Literal["bilinear", "bicubic"]


def resized(images: Tensor, size: tuple[int, int], interpolation: Interpolation) -> Tensor:
    """Images `(B, C, *size)`, resized with antialiasing as in Pillow.

    Bicubic weights overshoot at edges, so values are clipped to [0, 1] after the rows and again after the columns, as
    in Pillow.
    """
    kind, images = images.dtype, images.float() if images.element_size() < 4 else images  # CPUs do it in 32 bits only
    for target in ((images.shape[-2], size[1]), size):
        if tuple(images.shape[-2:]) != target:
            images = nn.functional.interpolate(images, target, mode=interpolation, antialias=True, align_corners=False)
            images = images.clamp(0, 1) if interpolation == "bicubic" else images
    return images.to(kind)


def centre_cropped(images: Tensor, size: tuple[int, int]) -> Tensor:
    """The central part `(B, C, *size)`; half pixels are rounded as in torchvision."""
    (height, width), (h, w) = images.shape[-2:], size
    top, left = round((height - h) / 2), round((width - w) / 2)
    return images[..., top : top + h, left : left + w]


class Normalise(nn.Module):
    """Maps inputs `(B, *shape)` of any range to `(x - mean) / std`.

    Args:
        shape: of one input.
        mean, std: a number for each entry of a vector, or for each channel of a signal or a map.

    Raises:
        ValueError: other numbers than one for each, or a `std` that is not positive.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, shape: Sequence[int], mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.input_space = InputSpace(tuple(shape))
        self.input_shape = self.input_space.shape
        """Of the network's input."""
        if len(mean) != shape[0] or len(std) != shape[0] or min(std) <= 0:
            raise ValueError(
                f"mean, std: expected {shape[0]} numbers each and every std positive, for inputs {list(shape)}, got "
                f"{list(mean)} and {list(std)}"
            )
        self.register_buffer("mean", per_channel(mean, shape), persistent=False)
        self.register_buffer("std", per_channel(std, shape), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean) / self.std

    @property
    def kind(self) -> tuple[object, ...]:
        """What it does besides the normalisation, to compare two of them."""
        return ()


class Preprocess(nn.Module):
    """Maps images `(B, *image_shape)` in [0, 1] to a network's input `(B, channels, *crop)`.

    It computes `(crop(resize(x)) - mean) / std`, and repeats the channel of grey images if the network takes more.

    Args:
        image_shape: `(C, H, W)` of the images.
        mean, std: statistics of each channel of the network's input.
        shorter: length of the shorter side after a resize that keeps the aspect ratio; None keeps the size.
        size: height and width after a resize that may change the aspect ratio, instead of `shorter`.
        crop: height and width of the centre crop; None does not crop.
        interpolation: `bilinear` or `bicubic`.

    Raises:
        ValueError: the crop is larger than the resized image, or the channels do not fit.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        image_shape: list[int],
        mean: list[float],
        std: list[float],
        shorter: int | None = None,
        size: tuple[int, int] | None = None,
        crop: tuple[int, int] | None = None,
        interpolation: Interpolation = "bicubic",
    ) -> None:
        super().__init__()
        if len(image_shape) != 3 or min(image_shape) < 1:
            raise ValueError(f"image_shape: expected [channels, height, width], got {list(image_shape)}")
        channels, height, width = image_shape
        if len(mean) != len(std) or channels not in (1, len(mean)) or min(std) <= 0:
            raise ValueError(
                f"mean, std: expected {channels if channels > 1 else 'as many'} numbers each, one per channel of the "
                f"network's input and every std positive, got {list(mean)} and {list(std)}"
            )
        if interpolation not in ("bilinear", "bicubic"):
            raise ValueError(f"interpolation: expected bilinear or bicubic, got '{interpolation}'")
        if shorter is not None:  # the longer side is rounded down, as in torchvision
            long, short = max(height, width), min(height, width)
            other = int(shorter * long / short)
            size = (shorter, other) if height <= width else (other, shorter)
        self.size = size or (height, width)
        self.crop = crop or self.size
        if self.crop[0] > self.size[0] or self.crop[1] > self.size[1]:
            raise ValueError(f"crop: expected at most the resized image's {list(self.size)}, got {list(self.crop)}")
        self.input_space, self.interpolation = ImageSpace((channels, height, width)), interpolation
        self.input_shape = (len(mean), *self.crop)
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(-1, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        cropped = centre_cropped(resized(images, self.size, self.interpolation), self.crop)
        return (cropped - self.mean) / self.std

    @property
    def kind(self) -> tuple[object, ...]:
        """What it does besides the normalisation, to compare two of them."""
        return self.size, self.crop, self.interpolation


def preprocessing(
    owner: str,
    image_shape: list[int] | None,
    input_shape: list[int] | None,
    mean: list[float] | None,
    std: list[float] | None,
    input_size: list[int] | None = None,
    interpolation: Interpolation = "bicubic",
) -> Preprocess | Normalise:
    """What a network's input is made by: `Preprocess` for images, `Normalise` for other inputs.

    Args:
        owner: the class whose arguments these are.
        image_shape, input_shape: one of them.
        mean, std: None for inputs as they are.
        input_size: `[height, width]`, to which images are resized.
        interpolation: for the resize.

    Raises:
        ValueError: arguments that do not belong together.
    """
    shape = space_of(owner, image_shape, input_shape).shape
    own_mean, own_std = mean or [0.0] * shape[0], std or [1.0] * shape[0]
    if input_size is not None and len(input_size) != 2:
        raise ValueError(f"input_size: expected [height, width], got {input_size}")
    if image_shape is not None:
        size = None if input_size is None else (input_size[0], input_size[1])
        return Preprocess(image_shape, own_mean, own_std, size=size, interpolation=interpolation)
    if input_size is not None:
        raise ValueError(f"{owner}: input_size: expected none with input_shape, because only images are resized")
    return Normalise(shape, own_mean, own_std)
