"""FiberModels that need no training: they look a representation up among images they remember."""

from typing import Any, Literal, Self, final

import torch
from torch import Tensor

from fibermodels import colour
from fibermodels.core import LatentSpace, Pushforward
from fibermodels.noise import target_generators
from fibermodels.retrieval import Gallery, Retrieval


@final
class NearestNeighbour(Retrieval):
    """The `n` training images nearest in representation: what a data set alone can show.

    Of N images it keeps the N D numbers of their representations (of ImageNet's, 10 GB where D is 2,048), and fetches
    those it shows.

    Args:
        exclude_below: images whose representations differ from the target's by less than this mean square are left
            out: where the target may itself be among them.

    Reference: the audits of arXiv 2603.21782 leave out what is nearer than 1e-4.
    """

    bank = "train"

    def __init__(self, exclude_below: float = 0.0) -> None:
        super().__init__()
        if not exclude_below >= 0:
            raise ValueError(f"exclude_below: expected a mean square of 0 or more, got {exclude_below}")
        self.exclude_below = exclude_below

    def _sample(self, h: Tensor, n: int, generator: torch.Generator | None, x: Tensor | None) -> Tensor:
        _, index = self.nearest(h, n, self.exclude_below)
        return self.pictures(index.T)


@final
class Augmented(Retrieval):
    """The query under random augmentations: what an engineer may believe the subject ignores.

    Args:
        degrees: largest rotation.
        translate: largest shift, as a share of the image.
        brightness: largest relative change of brightness.
        contrast: largest relative change of contrast.
        hue: largest shift of the hue, in turns.
        fill: what comes in at the border: the `background` of coloured digits (the mean of the first pixel column), or
            the image, `reflect`ed, for natural ones.
    """

    bank = "targets"

    def __init__(
        self,
        degrees: float = 10.0,
        translate: float = 0.05,
        brightness: float = 0.2,
        contrast: float = 0.2,
        hue: float = 0.5,
        fill: Literal["background", "reflect"] = "background",
    ) -> None:
        super().__init__()
        if fill not in ("background", "reflect"):
            raise ValueError(f"fill: expected 'background' or 'reflect', got '{fill}'")
        self.degrees, self.translate = degrees, translate
        self.brightness, self.contrast, self.hue, self.fill = brightness, contrast, hue, fill

    def _sample(self, h: Tensor, n: int, generator: torch.Generator | None, x: Tensor | None) -> Tensor:
        images = self.recall(h)
        rows = [
            torch.stack([self._augment(image, own) for _ in range(n)])
            for image, own in zip(images, target_generators(len(h), generator), strict=True)
        ]
        return torch.stack(rows, 1)

    def _augment(self, image: Tensor, generator: torch.Generator) -> Tensor:
        from torchvision.transforms.v2 import functional as tv

        u: list[Any] = (2 * torch.rand(6, generator=generator) - 1).tolist()  # six draws in [-1, 1]
        height, width = image.shape[-2:]
        shift = [round(self.translate * width * u[1]), round(self.translate * height * u[2])]
        border = colour.estimate_backgrounds(image).tolist()
        if self.fill == "reflect":
            image = tv.pad(image, [width // 2, height // 2], padding_mode="reflect")
        image = tv.affine(image, self.degrees * u[0], shift, 1.0, [0.0, 0.0], fill=border)
        image = tv.center_crop(image, [height, width])
        image = tv.adjust_brightness(image, 1 + self.brightness * u[3])
        image = tv.adjust_contrast(image, 1 + self.contrast * u[4])
        return tv.adjust_hue(image, self.hue * u[5]).clamp(0, 1)


@final
class Oracle(Retrieval):
    """Exact samples of the colour law: the query's digit, colourised anew. The ceiling of every table."""

    bank = "targets"

    def _sample(self, h: Tensor, n: int, generator: torch.Generator | None, x: Tensor | None) -> Tensor:
        # The median over the channels is exact even where the law's tail clipped one of them.
        digits = colour.decolorise(self.recall(h)).median(-3, keepdim=True).values.clamp(0, 1)
        rows = [colour.sample_backgrounds(n, own) for own in target_generators(len(h), generator)]
        return colour.colourise(digits, torch.stack(rows, 1).to(h.device))


@final
class Reconstruction(Retrieval):
    """Exact samples, encoded and decoded: the floor that a latent space sets to every model in it.

    Args:
        latents: the latent space.
    """

    bank = "targets"

    def __init__(self, latents: LatentSpace) -> None:
        super().__init__()
        self.latents = latents
        self.oracle = Oracle()

    def remember(self, images: Tensor | Gallery, representations: Tensor) -> Self:
        self.oracle.remember(images, representations)
        return super().remember(images, representations)

    def _sample(self, h: Tensor, n: int, generator: torch.Generator | None, x: Tensor | None) -> Tensor:
        exact = self.oracle.sample(h, n, generator)
        return torch.stack([self.latents.decode(self.latents.encode(x, h), h) for x in exact])


@final
class DecodedNoise(Pushforward):
    """Standard normal noise, decoded: what a density model over a latent space has to beat.

    Args:
        latents: the latent space.
    """

    network_calls = 0

    def __init__(self, latents: LatentSpace) -> None:
        super().__init__()
        self.latents = latents
        self.image_shape, self.noise_shape = latents.image_shape, latents.latent_shape

    def push(self, noise: Tensor, h: Tensor) -> Tensor:
        return self.latents.decode(noise, h)
