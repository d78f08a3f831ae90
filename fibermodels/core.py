"""The nouns of the project, as contracts.

A frozen `Subject` maps images to representations, `h = phi(x)`. The inputs with one representation
are its fiber. A `FiberModel` samples from it, `x_hat ~ p(x | phi(x) = h)`; `FiberSamples` holds what
it drew, and a metric is a function of that.

Shapes and ranges, at every border: images are float in [0, 1], `(B, C, H, W)`; samples lead,
`(n, B, C, H, W)`; time 0 is data and time 1 is noise.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Literal, Protocol, Self, final

import torch
from torch import Tensor

from fibermodels.checks import check_finite
from fibermodels.component import Component
from fibermodels.noise import pushed


class Subject(Component, ABC):
    """The network under study, frozen and differentiable: images `(B, *image_shape)` in [0, 1] to
    representations `(B, *feature_shape)`. It normalises its own input."""

    image_shape: tuple[int, int, int]
    feature_shape: tuple[int, ...]

    @abstractmethod
    def forward(self, images: Tensor) -> Tensor:
        """Representations `(B, *feature_shape)`, differentiable in `images`."""

    def freeze(self) -> Self:
        """Evaluation mode and no gradients for the weights; every constructor ends with it."""
        self.requires_grad_(False)
        return self.eval()

    def train(self, mode: bool = True) -> Self:
        """A subject is always in evaluation mode: a trainer that toggles it changes nothing."""
        return super().train(False)


class LatentSpace(Component, ABC):
    """A space in which densities are learned: an encoder `q(z | x, h)`, and a decoder `x = D(z, h)`.

    The encoder is Gaussian in coordinates of its own, in which `moments` speaks; `posterior_sample` leads from them to
    those of `z`, in which everything else does. A space that knows nothing of the subject ignores `h`; one that
    needs it raises a ValueError for None.
    """

    image_shape: tuple[int, int, int]
    latent_shape: tuple[int, ...]
    trivial: bool = False
    """Whether encoding costs nothing, so that there is nothing to gain from keeping latents."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the latents as a network sees them: `(C, H, W)` where they are maps, else `latent_shape`."""
        return self.latent_shape

    @abstractmethod
    def moments(self, x: Tensor, h: Tensor | None) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of the encoder, in its coordinates, each `(B, *latent_shape)`."""

    def posterior_sample(self, mean: Tensor, std: Tensor, noise: Tensor) -> Tensor:
        """Samples of `q(z | x, h)` from its moments and standard normal noise."""
        return mean + std * noise

    @abstractmethod
    def decode(self, z: Tensor, h: Tensor | None) -> Tensor:
        """Images `(B, *image_shape)` in [0, 1], differentiable in both arguments."""

    def encode(self, x: Tensor, h: Tensor | None) -> Tensor:
        """The middle of `q(z | x, h)`: its sample at noise 0."""
        mean, std = self.moments(x, h)
        return self.posterior_sample(mean, std, torch.zeros_like(std))


class MapLatents(LatentSpace, ABC):
    """A latent space whose flat latents `(B, D)` are maps `(C, H, W)`, row by row: what a UNet works on."""

    map_shape: tuple[int, int, int]
    """`(C, H, W)`, with `D = C H W`."""

    @property
    def shape(self) -> tuple[int, ...]:
        return self.map_shape


class FiberModel(Component, ABC):
    """Anything that samples images which the subject maps to a given representation."""

    network_calls: int
    """Evaluations of the generative network for one sample (its decoder and the subject excluded)."""

    @final
    @torch.no_grad()
    def sample(
        self, h: Tensor, n: int = 1, generator: torch.Generator | None = None, x: Tensor | None = None
    ) -> Tensor:
        """`n` samples for each target.

        Args:
            h: targets `(B, *feature_shape)`.
            n: samples per target.
            generator: a CPU generator. It gives one seed to each target, in order, so a target's
                samples do not depend on how the targets are batched.
            x: the queries `(B, C, H, W)` that the targets are the representations of, for a model that needs them
                (an augmentation, the oracle of a known law); the others ignore them.

        Returns:
            Images `(n, B, C, H, W)` in [0, 1], without gradients.

        Raises:
            ValueError: fewer than one sample asked for; targets that are not finite; no queries, of a model that
                needs them.
        """
        if n < 1:
            raise ValueError(f"n: expected at least 1 sample per target, got {n}")
        check_finite(h, "h")
        return self._sample(h, n, generator, x)

    @abstractmethod
    def _sample(self, h: Tensor, n: int, generator: torch.Generator | None, x: Tensor | None) -> Tensor:
        """What `sample` returns; called without gradients."""

    def queries(self, x: Tensor | None) -> Tensor:
        """The queries, of a model that needs them.

        Raises:
            ValueError: there are none.
        """
        if x is None:
            raise ValueError(f"{type(self).__name__}: expected the query images x beside their representations h")
        return x


class Pushforward(FiberModel, ABC):
    """A FiberModel that turns standard normal noise and a condition into an image, without other
    randomness. Whatever holds the noise and changes the condition is written against `push`."""

    noise_shape: tuple[int, ...]

    @abstractmethod
    def push(self, noise: Tensor, h: Tensor) -> Tensor:
        """Images `(B, C, H, W)` from noise `(B, *noise_shape)`, differentiable in both arguments
        and in the parameters."""

    def _sample(self, h: Tensor, n: int, generator: torch.Generator | None, x: Tensor | None) -> Tensor:
        return pushed(self.push, self.noise_shape, h, n, generator)


class Reports(ABC):
    """A model that decides something while it samples, and says what."""

    @abstractmethod
    def report(self) -> dict[str, float]:
        """Figures on the last call of `sample`, by name; averaged over targets they join the metrics of a result."""


@dataclass(frozen=True)
class FiberSamples:
    """What a FiberModel drew: all that a metric may look at.

    Raises:
        ValueError: on construction, when the four shapes do not belong together.
    """

    x: Tensor
    """Targets `(B, C, H, W)`."""
    h: Tensor
    """Their representations `(B, *feature_shape)`."""
    x_hat: Tensor
    """Samples `(n, B, C, H, W)`."""
    h_hat: Tensor
    """Their representations `(n, B, *feature_shape)`."""

    def __post_init__(self) -> None:
        if self.x_hat.shape[1:] != self.x.shape or self.h_hat.shape[1:] != self.h.shape:
            raise ValueError(f"FiberSamples: shapes do not belong together: {self.shapes()}")
        if len(self.x) != len(self.h) or len(self.x_hat) != len(self.h_hat):
            raise ValueError(f"FiberSamples: numbers of targets or samples differ: {self.shapes()}")

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of each tensor, by name."""
        return {field.name: tuple(getattr(self, field.name).shape) for field in fields(self)}


class Images(ABC):
    """The images of one split, `N` of them, in a fixed order."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def images(self, indices: Tensor | slice) -> Tensor:
        """Images `(B, C, H, W)` in [0, 1] of the current epoch."""

    @abstractmethod
    def batches(self, size: int) -> Iterator[dict[str, Tensor]]:
        """All images in order, in batches `{"x": (B, C, H, W)}` of `size`, with labels `"y"` where there are any."""

    @abstractmethod
    def labels(self) -> Tensor | None:
        """The labels of all images, `(N,)` or `(N, K)`; None where there are none."""

    @abstractmethod
    def set_epoch(self, epoch: int) -> None:
        """Draws what is random in an epoch (colours, flips) from the seed and the epoch's number alone."""


class Data(ABC):
    """A data set: its splits, and what training needs to know of it."""

    name: str
    """Of the data set, in results."""
    batch_size: int
    """Images per batch and process."""
    seed: int
    """Of the order of training images, and of what is random in them."""

    @abstractmethod
    def split(self, split: Literal["train", "val", "test"]) -> Images:
        """The images of a split."""


class HasLaw(ABC):
    """Data whose fibers are known exactly."""

    @abstractmethod
    def members(self, x: Tensor, n: int, generator: torch.Generator | None = None) -> Tensor:
        """Exact samples `(n, B, C, H, W)` of the fibers of images `x` `(B, C, H, W)`; a target's samples do not depend
        on the other targets of the batch."""

    @abstractmethod
    def factors(self, images: Tensor) -> Tensor:
        """What varies along a fiber, read back from images `(..., C, H, W)`: `(..., K)`."""

    @abstractmethod
    def law_scores(self, samples: FiberSamples, exact: FiberSamples) -> dict[str, float]:
        """Metrics of consistency with the law, by name; a metric `m` has its floor beside it as `m_floor`.

        Args:
            samples: what is scored.
            exact: as many exact samples of the same targets, which set the floors.
        """


class HasCategories(ABC):
    """Data whose labels are categories of several classes each."""

    @abstractmethod
    def categories(self) -> list[list[int]]:
        """The classes that make up each category, in the order of the labels."""


class Remembers(ABC):
    """A model that answers from images whose representations it remembers."""

    @abstractmethod
    def remember(self, images: Images | Tensor, representations: Tensor) -> Self:
        """Keeps the representations `(N, *feature_shape)` of N images, and the way to fetch these."""


class HasLogProb(ABC):
    """A model with an exact density over its latent space."""

    @abstractmethod
    def log_prob(self, z: Tensor, h: Tensor) -> Tensor:
        """`log p(z | h)` in nats, `(B,)`, for latents `(B, *latent_shape)`."""


class Metric(Protocol):
    """A pure function of what was drawn."""

    __name__: str

    def __call__(self, samples: FiberSamples, /) -> float:
        """One number; NaN where the metric does not apply to these samples."""
