"""What inputs are: their shape, and the range of their numbers.

A network may look at images, and as well at points `(D,)`, rows of a table `(D,)`, signals `(C, L)`, or maps
`(C, H, W)`, such as the representations of another network. Images are the case with a range of their own.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fibermodels.checks import check_finite, check_images, check_shape
from fibermodels.component import Component


@dataclass(frozen=True)
class InputSpace:
    """Inputs `(B, *shape)` in their own units: any finite numbers.

    Raises:
        ValueError: on construction, for a shape without dimensions or with one that is not positive.
    """

    shape: tuple[int, ...]

    @property
    def word(self) -> str:
        """What the inputs are called in errors."""
        return "inputs"

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", tuple(int(size) for size in self.shape))
        if not self.shape or min(self.shape) < 1:
            raise ValueError(f"input_shape: expected at least one positive number, got {list(self.shape)}")

    def check_shape(self, x: Tensor, what: str | None = None) -> None:
        """Refuses anything but inputs `(B, *shape)` of floating point."""
        check_shape(x, self.shape, what or self.word, self.word)

    def check(self, x: Tensor, what: str | None = None) -> None:
        """Refuses inputs of another shape or type, and what is not finite."""
        self.check_shape(x, what)
        check_finite(x, what or self.word)

    def clip(self, x: Tensor) -> Tensor:
        """The inputs of this space nearest to `x`."""
        return x

    @property
    def centre(self) -> float:
        """The middle of the range; 0 where it has no ends."""
        return 0.0


@dataclass(frozen=True)
class ImageSpace(InputSpace):
    """Images `(B, C, H, W)` in [0, 1].

    Raises:
        ValueError: on construction, for another shape.
    """

    shape: tuple[int, int, int]

    @property
    def word(self) -> str:
        return "images"

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.shape) != 3:
            raise ValueError(f"image_shape: expected [channels, height, width], got {list(self.shape)}")

    def check(self, x: Tensor, what: str | None = None) -> None:
        """Refuses inputs of another shape or type, and values outside of [0, 1]."""
        check_images(x, self.shape, what or self.word)

    def clip(self, x: Tensor) -> Tensor:
        return x.clamp(0, 1)

    @property
    def centre(self) -> float:
        return 0.5


class HasInputSpace(Component):
    """An object that takes or makes inputs of one kind, its `input_space`.

    Who sets `input_shape` takes inputs of any finite numbers; who sets `image_shape` takes images in [0, 1].
    """

    input_space: InputSpace

    def __init_subclass__(cls, **options: Any) -> None:
        """Reads shapes that a class states as attributes."""
        super().__init_subclass__(**options)
        for name, kind in (("input_shape", InputSpace), ("image_shape", ImageSpace)):
            if isinstance(shape := vars(cls).get(name), (tuple, list)):
                cls.input_space = kind(tuple(shape))
                delattr(cls, name)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of one input."""
        return self.input_space.shape

    @input_shape.setter
    def input_shape(self, shape: Sequence[int]) -> None:
        self.input_space = InputSpace(tuple(shape))

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """The shape `(C, H, W)` of one image.

        Raises:
            ValueError: the inputs are no images.
        """
        if not isinstance(self.input_space, ImageSpace):
            raise ValueError(f"{type(self).__name__}: expected images in [0, 1], got inputs {list(self.input_shape)}")
        return self.input_space.shape

    @image_shape.setter
    def image_shape(self, shape: Sequence[int]) -> None:
        channels, height, width = shape
        self.input_space = ImageSpace((channels, height, width))


def space_of(owner: str, image_shape: Sequence[int] | None, input_shape: Sequence[int] | None) -> InputSpace:
    """The space that a constructor's arguments name: images in [0, 1] by `image_shape`, other inputs by `input_shape`.

    Raises:
        ValueError: both or none are given, or a shape is none.
    """
    if (image_shape is None) == (input_shape is None):
        given = "none" if image_shape is None else "both"
        raise ValueError(
            f"{owner}: expected image_shape for images in [0, 1], or input_shape for inputs of any range, got {given}"
        )
    try:
        if image_shape is not None:
            channels, height, width = image_shape
            return ImageSpace((channels, height, width))
    except ValueError as error:
        raise ValueError(f"image_shape: expected [channels, height, width], got {list(image_shape or ())}") from error
    return InputSpace(tuple(input_shape or ()))


def per_channel(values: Sequence[float], shape: Sequence[int]) -> Tensor:
    """Numbers, one for each entry of a vector or for each channel of a signal or map, shaped for inputs `(B, *shape)`.

    Raises:
        ValueError: not one for each.
    """
    if len(values) != shape[0]:
        raise ValueError(f"expected {shape[0]} numbers for inputs {list(shape)}, got {list(values)}")
    return torch.tensor(values, dtype=torch.float32).view(-1, *(1 for _ in shape[1:]))
