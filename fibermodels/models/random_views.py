"""The query as self-supervised training shows it: what a network is taught to ignore."""

from typing import Any, final

import torch
from torch import Tensor

from fibermodels.noise import target_generators
from fibermodels.retrieval import Retrieval


@final
class RandomViews(Retrieval):
    """The query under the augmentations of DINOv2's first global crop: a random crop in the image's size, mirrored,
    with other colours or none, blurred.

    Args:
        scale: least and largest area of the crop, as shares of the image; its proportions are between 3:4 and 4:3.
        flip: probability to be mirrored.
        jitter: probability of a change of colours, of these four in random order:
        brightness: largest relative change of brightness.
        contrast: largest relative change of contrast.
        saturation: largest relative change of saturation.
        hue: largest shift of the hue, in turns.
        grey: probability to lose all colour.
        blur: least and largest standard deviation of the Gaussian blur, in pixels, of nine by nine.

    Reference: Oquab et al., arXiv 2304.07193, as its public code sets it; the baseline of arXiv 2603.21782.
    """

    bank = "targets"

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
        blur: list[float] = [0.1, 2.0],  # noqa: B006
    ) -> None:
        super().__init__()
        if len(scale) != 2 or not 0 < scale[0] <= scale[1] <= 1:
            raise ValueError(f"scale: expected two shares in (0, 1], the smaller first, got {scale}")
        if len(blur) != 2 or not 0 < blur[0] <= blur[1]:
            raise ValueError(f"blur: expected two positive numbers, the smaller first, got {blur}")
        largest = {"brightness": 1.0, "contrast": 1.0, "saturation": 1.0, "hue": 0.5}
        shares = {"flip": flip, "jitter": jitter, "grey": grey}
        changes = {"brightness": brightness, "contrast": contrast, "saturation": saturation, "hue": hue}
        for name, value in (shares | changes).items():
            if not 0 <= value <= largest.get(name, 1.0):
                raise ValueError(f"{name}: expected a number in [0, {largest.get(name, 1.0)}], got {value}")
        self.scale, self.blur, self.flip, self.jitter, self.grey = scale, blur, flip, jitter, grey
        self.changes = changes

    def _sample(self, h: Tensor, n: int, generator: torch.Generator | None, x: Tensor | None) -> Tensor:
        images = self.recall(h)
        rows = [
            torch.stack([self.view(image, own) for _ in range(n)])
            for image, own in zip(images, target_generators(len(h), generator), strict=True)
        ]
        return torch.stack(rows, 1)

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
        sigma = self.blur[0] + (self.blur[1] - self.blur[0]) * blur
        return tv.gaussian_blur(image, [9, 9], [sigma, sigma]).clamp(0, 1)


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
