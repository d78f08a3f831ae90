"""FiberModels that need no training: they look a representation up among images they remember."""

from abc import ABC
from typing import Any, ClassVar, Literal, Self, final

import torch
from torch import Tensor

from fibermodels import colour
from fibermodels.core import FiberModel, LatentSpace, Pushforward, check_images, target_generators

Bank = Literal["train", "targets"]


class Retrieval(FiberModel, ABC):
    """A FiberModel that answers from images whose representations it remembers.

    `bank` says which images it wants to remember: those of the training set, or the targets
    themselves (for what transforms the query).
    """

    network_calls = 0
    bank: ClassVar[Bank]

    def __init__(self) -> None:
        super().__init__()
        self.images = torch.empty(0)
        self.representations = torch.empty(0)

    def remember(self, images: Tensor, representations: Tensor) -> Self:
        """Keeps images `(N, C, H, W)` and their representations `(N, *feature_shape)`."""
        check_images(images, tuple(images.shape[1:]), f"{type(self).__name__}.remember")
        if len(images) != len(representations) or not len(images):
            raise ValueError(
                f"{type(self).__name__}: expected as many images as representations and at least one, "
                f"got {len(images)} and {len(representations)}"
            )
        self.images, self.representations = images, representations.flatten(1)
        return self

    def nearest(self, h: Tensor, k: int = 1) -> tuple[Tensor, Tensor]:
        """Distances and indices `(B, k)` of the nearest remembered representations, nearest first."""
        if not len(self.images):
            raise ValueError(f"{type(self).__name__}: nothing remembered yet; call remember(images, representations)")
        if not 1 <= k <= len(self.images):
            raise ValueError(f"{type(self).__name__}: expected 1 to {len(self.images)} samples per target, got {k}")
        known = self.representations.to(h)
        parts = [torch.cdist(part, known).topk(k, largest=False) for part in h.flatten(1).split(512)]
        return torch.cat([p.values for p in parts]), torch.cat([p.indices for p in parts])

    def recall(self, h: Tensor) -> Tensor:
        """The remembered image of each representation.

        Raises:
            ValueError: a representation that none of the remembered images has.
        """
        _, index = self.nearest(h)
        index = index[:, 0]
        gap = (self.representations.to(h)[index] - h.flatten(1)).abs().amax(1)
        if gap.max() > 1e-3:
            raise ValueError(
                f"{type(self).__name__}: target {int(gap.argmax())} is not among the {len(self.images)} images it "
                f"remembers (off by {gap.max():.3g}); it answers for those alone"
            )
        return self.images[index.to(self.images.device)].to(h.device)


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
