"""FiberModels that need no training: they look a representation up among images they remember."""

from typing import Any, Self, final

import torch
from torch import Tensor

from fibermodels import colour
from fibermodels.core import LatentSpace, Pushforward
from fibermodels.noise import target_generators
from fibermodels.retrieval import Retrieval


@final
class NearestNeighbour(Retrieval):
    """The `n` training images nearest in representation: what a data set alone can show."""

    bank = "train"

    def _sample(self, h: Tensor, n: int, generator: torch.Generator | None) -> Tensor:
        _, index = self.nearest(h, n)
        return self.images[index.T.to(self.images.device)].to(h.device)


@final
class Augmented(Retrieval):
    """The query under random augmentations: what an engineer may believe the subject ignores.

    Args:
        degrees: largest rotation.
        translate: largest shift, as a share of the image.
        brightness: largest relative change of brightness.
        contrast: largest relative change of contrast.
        hue: largest shift of the hue, in turns.
    """

    bank = "targets"

    def __init__(
        self,
        degrees: float = 10.0,
        translate: float = 0.05,
        brightness: float = 0.2,
        contrast: float = 0.2,
        hue: float = 0.5,
    ) -> None:
        super().__init__()
        self.degrees, self.translate = degrees, translate
        self.brightness, self.contrast, self.hue = brightness, contrast, hue

    def _sample(self, h: Tensor, n: int, generator: torch.Generator | None) -> Tensor:
        images = self.recall(h)
        rows = [
            torch.stack([self._augment(image, own) for _ in range(n)])
            for image, own in zip(images, target_generators(len(h), generator), strict=True)
        ]
        return torch.stack(rows, 1)

    def _augment(self, image: Tensor, generator: torch.Generator) -> Tensor:
        from torchvision.transforms.v2 import functional as tv

        u: list[Any] = (2 * torch.rand(6, generator=generator) - 1).tolist()  # six draws in [-1, 1]
        size = image.shape[-1]
        shift = [round(self.translate * size * u[1]), round(self.translate * size * u[2])]
        border = colour.estimate_backgrounds(image).tolist()
        image = tv.affine(image, self.degrees * u[0], shift, 1.0, [0.0, 0.0], fill=border)
        image = tv.adjust_brightness(image, 1 + self.brightness * u[3])
        image = tv.adjust_contrast(image, 1 + self.contrast * u[4])
        return tv.adjust_hue(image, self.hue * u[5]).clamp(0, 1)


@final
class Oracle(Retrieval):
    """Exact samples of the colour law: the query's digit, colourised anew. The ceiling of every table."""

    bank = "targets"

    def _sample(self, h: Tensor, n: int, generator: torch.Generator | None) -> Tensor:
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

    def remember(self, images: Tensor, representations: Tensor) -> Self:
        self.oracle.remember(images, representations)
        return super().remember(images, representations)

    def _sample(self, h: Tensor, n: int, generator: torch.Generator | None) -> Tensor:
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
