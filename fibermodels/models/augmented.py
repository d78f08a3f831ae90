"""The query under augmentations: what an engineer, or a training, expects the subject to ignore."""

from collections.abc import Callable
from typing import Any, Literal, final

import torch
from torch import Tensor

from fibermodels.checks import check_choice, check_number
from fibermodels.core import FiberModel
from fibermodels.noise import target_generators


def views(
    view: Callable[[Tensor, torch.Generator], Tensor], images: Tensor, n: int, generator: torch.Generator | None
) -> Tensor:
    """`n` views `(n, B, C, H, W)` of each image."""
    own = target_generators(len(images), generator)
    rows = [torch.stack([view(image, one) for _ in range(n)]) for image, one in zip(images, own, strict=True)]
    return torch.stack(rows, 1)


@final
class Augmented(FiberModel):
    """The query under random augmentations that an engineer may expect the subject to ignore.

    Args:
        degrees: largest rotation.
        translate: largest shift, as a share of the image.
        brightness: largest relative change of brightness.
        contrast: largest relative change of contrast.
        hue: largest shift of the hue, in turns.
        fill: what comes in at the border: the `mean` colour of the image's border, or the image, mirrored (`reflect`).
    """

    network_calls = 0

    def __init__(
        self,
        degrees: float = 10.0,
        translate: float = 0.05,
        brightness: float = 0.2,
        contrast: float = 0.2,
        hue: float = 0.5,
        fill: Literal["mean", "reflect"] = "mean",
    ) -> None:
        super().__init__()
        check_choice("Augmented", "fill", fill, ("mean", "reflect"))
        self.degrees, self.translate = degrees, translate
        self.brightness, self.contrast, self.hue, self.fill = brightness, contrast, hue, fill

    def _sample(self, h: Tensor, n: int, generator: torch.Generator | None, x: Tensor | None) -> Tensor:
        return views(self.view, self.queries(x), n, generator)

    def view(self, image: Tensor, generator: torch.Generator) -> Tensor:
        """One augmented image `(C, H, W)` in [0, 1]."""
        from torchvision.transforms.v2 import functional as tv

        u: list[Any] = (2 * torch.rand(6, generator=generator) - 1).tolist()  # six draws in [-1, 1]
        height, width = image.shape[-2:]
        shift = [round(self.translate * width * u[1]), round(self.translate * height * u[2])]
        edge = torch.cat((image[:, 0], image[:, -1], image[:, 1:-1, 0], image[:, 1:-1, -1]), -1)
        border = edge.mean(-1).tolist()
        if self.fill == "reflect":
            image = tv.pad(image, [width // 2, height // 2], padding_mode="reflect")
        image = tv.affine(image, self.degrees * u[0], shift, 1.0, [0.0, 0.0], fill=border)
        image = tv.center_crop(image, [height, width])
        image = tv.adjust_brightness(image, 1 + self.brightness * u[3])
        image = tv.adjust_contrast(image, 1 + self.contrast * u[4])
        return tv.adjust_hue(image, self.hue * u[5]).clamp(0, 1)


@final
class RandomViews(FiberModel):
    """The query under the augmentations of DINOv2's first global crop: a random crop, resized to the image's size, then
    mirrored, recoloured or made grey, and blurred, each with a probability of its own.

    Args:
        scale: least and largest area of the crop, as shares of the image; its proportions are between 3:4 and 4:3.
        flip: probability to be mirrored.
        jitter: probability of a change of colours, of these four in random order:
        brightness: largest relative change of brightness.
        contrast: largest relative change of contrast.
        saturation: largest relative change of saturation.
        hue: largest shift of the hue, in turns.
        grey: probability to lose all colour.
        blur: least and largest standard deviation of the Gaussian blur, in pixels, with a kernel of nine by nine;
            None does not blur.

    Reference: Oquab et al., arXiv 2304.07193, as its public code sets it; the baseline of arXiv 2603.21782.
    """

    network_calls = 0

    def __init__(
        self,
        scale: list[float] = [0.32, 1.0],  # noqa: B006  (read only)
        flip: float = 0.5,
        jitter: float = 0.8,
        brightness: float = 0.4,
        contrast: float = 0.4,
        saturation: float = 0.2,
        hue: float = 0.1,
        grey: float = 0.2,
        blur: list[float] | None = [0.1, 2.0],  # noqa: B006
    ) -> None:
        super().__init__()
        if len(scale) != 2 or not 0 < scale[0] <= scale[1] <= 1:
            raise ValueError(f"scale: expected two shares in (0, 1], the smaller first, got {scale}")
        if blur is not None and (len(blur) != 2 or not 0 < blur[0] <= blur[1]):
            raise ValueError(f"blur: expected two positive numbers, the smaller first, got {blur}")
        shares = {"flip": flip, "jitter": jitter, "grey": grey}
        changes = {"brightness": brightness, "contrast": contrast, "saturation": saturation, "hue": hue}
        for name, value in (shares | changes).items():
            check_number("RandomViews", name, value, least=0, most=0.5 if name == "hue" else 1)
        self.scale, self.blur, self.flip, self.jitter, self.grey = scale, blur, flip, jitter, grey
        self.changes = changes

    def _sample(self, h: Tensor, n: int, generator: torch.Generator | None, x: Tensor | None) -> Tensor:
        return views(self.view, self.queries(x), n, generator)

    def view(self, image: Tensor, generator: torch.Generator) -> Tensor:
        """One augmented image `(C, H, W)` in [0, 1]."""
        from torchvision.transforms.v2 import InterpolationMode
        from torchvision.transforms.v2 import functional as tv

        size = list(image.shape[-2:])
        box = crop_box(size[0], size[1], self.scale, generator)
        image = tv.resized_crop(image, *box, size, InterpolationMode.BICUBIC, antialias=True).clamp(0, 1)
        flip, jitter, grey, blur = torch.rand(4, generator=generator).tolist()
        change = (2 * torch.rand(4, generator=generator) - 1).tolist()
        order = torch.randperm(4, generator=generator).tolist()  # drawn whether or not it is used: one stream for all
        if flip < self.flip:
            image = tv.horizontal_flip(image)
        if jitter < self.jitter:
            adjust: list[Any] = [tv.adjust_brightness, tv.adjust_contrast, tv.adjust_saturation, tv.adjust_hue]
            names = list(self.changes)
            for k in order:
                by = self.changes[names[k]] * change[k]
                image = adjust[k](image, by if names[k] == "hue" else 1 + by)
        if grey < self.grey and len(image) == 3:
            image = tv.rgb_to_grayscale(image, num_output_channels=3)
        if self.blur is not None:
            sigma = self.blur[0] + (self.blur[1] - self.blur[0]) * blur
            image = tv.gaussian_blur(image, [9, 9], [sigma, sigma])
        return image.clamp(0, 1)


def crop_box(height: int, width: int, scale: list[float], generator: torch.Generator) -> tuple[int, int, int, int]:
    """Top, left, height and width of a random crop: its area's share uniform in `scale`, the logarithm of its
    proportions uniform between 3:4 and 4:3. What does not fit into the image in ten draws is the whole of it."""
    for _ in range(10):
        share, proportion, top, left = torch.rand(4, generator=generator).tolist()
        area = height * width * (scale[0] + (scale[1] - scale[0]) * share)
        ratio = (3 / 4) ** (1 - 2 * proportion)
        h, w = round((area / ratio) ** 0.5), round((area * ratio) ** 0.5)
        if 0 < h <= height and 0 < w <= width:
            return int(top * (height - h + 1)), int(left * (width - w + 1)), h, w
    return 0, 0, height, width
