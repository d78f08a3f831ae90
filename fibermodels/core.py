"""The nouns of the project, as contracts.

A frozen `Subject` maps inputs to representations, `h = phi(x)`. The inputs with the same representation form its
fiber. A `FiberModel` samples from it, `x_hat ~ p(x | phi(x) = h)`; `FiberSamples` holds these samples, and metrics are
functions of `FiberSamples`.

All contracts use these shapes and ranges: inputs are float, `(B, *input_shape)`, in their own units; images are inputs
`(B, C, H, W)` in [0, 1]; `n` samples per target are `(n, B, *input_shape)`; time 0 is data and time 1 is noise.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Literal, Protocol, Self, final

import torch
from torch import Tensor

from fibermodels.checks import check_finite
from fibermodels.component import Component
from fibermodels.noise import pushed
from fibermodels.spaces import HasInputSpace, ImageSpace, InputSpace


class Subject(HasInputSpace, ABC):
    """The network under study, frozen and differentiable: inputs `(B, *input_shape)` to representations
    `(B, *feature_shape)`. It normalises its own input."""

    feature_shape: tuple[int, ...]

    def __call__(self, x: Tensor) -> Tensor:
        """Representations `(B, *feature_shape)` of inputs, whose shape and type are checked first. Their range is not:
        that would make an accelerator wait, and a solver may leave it for a moment.

        Raises:
            ValueError: no inputs `(B, *input_shape)` of floating point, or 64 bits for weights of 32.
        """
        what = f"{type(self).__name__}: {self.input_space.word}"
        self.input_space.check_shape(x, what)
        own = next(self.parameters(), x)
        if x.dtype == torch.float64 != own.dtype:
            raise ValueError(f"{what}: expected {own.dtype} as of its weights, got {x.dtype}")
        found: Tensor = super().__call__(x)
        return found

    @abstractmethod
    def forward(self, images: Tensor) -> Tensor:
        """Representations `(B, *feature_shape)` of inputs, differentiable in them."""

    def shares(self, other: "Subject") -> bool:
        """Whether `jointly` computes both for less than each alone."""
        return other is self

    def jointly(self, subjects: Sequence["Subject"], images: Tensor) -> list[Tensor]:
        """The representations by subjects that share with this one."""
        return [each(images) for each in subjects]

    def freeze(self) -> Self:
        """Sets evaluation mode and stops gradients of the weights; every constructor ends with this call."""
        self.requires_grad_(False)
        return self.eval()

    def train(self, mode: bool = True) -> Self:
        """A subject always stays in evaluation mode."""
        return super().train(False)


def together(subjects: Sequence[Subject], images: Tensor) -> list[Tensor]:
    """The representations by several subjects, in their order; layers of one network are read in one pass."""
    found: dict[int, Tensor] = {}
    for i, first in enumerate(subjects):
        if i not in found:
            same = [j for j in range(i, len(subjects)) if j not in found and first.shares(subjects[j])]
            found |= zip(same, first.jointly([subjects[j] for j in same], images), strict=True)
    return [found[i] for i in range(len(subjects))]


class LatentSpace(HasInputSpace, ABC):
    """A space in which densities are learned: an encoder `q(z | x, h)`, and a decoder `x = D(z, h)`.

    The encoder is Gaussian in its own coordinates: `moments` returns mean and deviation there, and `posterior_sample`
    maps them to `z`, which all other methods use. A space that does not use the subject ignores `h`; any other space
    raises a ValueError if `h` is None.
    """

    latent_shape: tuple[int, ...]
    trivial: bool = False
    """Whether encoding costs nothing, so that latents are not cached."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of latents for networks: `(C, H, W)` if they are maps, else `latent_shape`."""
        return self.latent_shape

    @abstractmethod
    def moments(self, x: Tensor, h: Tensor | None) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of the encoder, in its own coordinates, each `(B, *latent_shape)`."""

    def posterior_sample(self, mean: Tensor, std: Tensor, noise: Tensor) -> Tensor:
        """Samples of `q(z | x, h)` from its moments and standard normal noise."""
        return mean + std * noise

    @abstractmethod
    def decode(self, z: Tensor, h: Tensor | None) -> Tensor:
        """Inputs `(B, *input_shape)`, images in [0, 1], differentiable in both arguments."""

    def encode(self, x: Tensor, h: Tensor | None) -> Tensor:
        """The sample of `q(z | x, h)` at noise 0."""
        mean, std = self.moments(x, h)
        return self.posterior_sample(mean, std, torch.zeros_like(std))


class MapLatents(LatentSpace, ABC):
    """A latent space whose flat latents `(B, D)` can be reshaped to maps `(C, H, W)`, as a UNet needs them."""

    map_shape: tuple[int, int, int]
    """`(C, H, W)`, with `D = C H W`."""

    @property
    def shape(self) -> tuple[int, ...]:
        return self.map_shape


class FiberModel(Component, ABC):
    """A model that samples inputs with a given representation."""

    network_calls: int
    """Evaluations of the generative network for one sample, without the decoder and the subject."""

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
            x: the inputs `(B, *input_shape)` whose representations are the targets, for models that need them (such as
                an augmentation or the oracle); other models ignore them.

        Returns:
            Inputs `(n, B, *input_shape)`, images in [0, 1], without gradients.

        Raises:
            ValueError: `n` is below 1; targets are not finite, or not of floating point; the queries `x` are not in
                the model's `input_space`, or not as many as targets; the model needs them and got none.
        """
        name = type(self).__name__
        if n < 1:
            raise ValueError(f"{name}: n: expected at least 1 sample per target, got {n}")
        if not h.is_floating_point() or h.ndim == 0:
            raise ValueError(f"{name}: h: expected representations (B, ...) of floating point, got {h.dtype} {h.shape}")
        check_finite(h, "h")
        if x is not None:
            known: object = self
            space = known.input_space if isinstance(known, HasInputSpace) else InputSpace(tuple(x.shape[1:]))
            space.check(x, f"{name}: x")
            if len(x) != len(h):
                raise ValueError(f"{name}: x: expected as many queries as the {len(h)} targets, got {len(x)}")
        return self._sample(h, n, generator, x)

    @abstractmethod
    def _sample(self, h: Tensor, n: int, generator: torch.Generator | None, x: Tensor | None) -> Tensor:
        """Returns the samples; `sample` calls it without gradients."""

    def queries(self, x: Tensor | None) -> Tensor:
        """Returns the queries; models that need them call it.

        Raises:
            ValueError: `x` is None.
        """
        if x is None:
            raise ValueError(f"{type(self).__name__}: x: expected the query images of the representations h, got None")
        return x


class Pushforward(FiberModel, ABC):
    """A FiberModel that maps standard normal noise and a condition to an input, without other randomness."""

    noise_shape: tuple[int, ...]

    @abstractmethod
    def push(self, noise: Tensor, h: Tensor) -> Tensor:
        """Inputs `(B, *input_shape)` from noise `(B, *noise_shape)`, differentiable in both arguments
        and in the parameters."""

    def _sample(self, h: Tensor, n: int, generator: torch.Generator | None, x: Tensor | None) -> Tensor:
        return pushed(self.push, self.noise_shape, h, n, generator)


class Reports(ABC):
    """A model that reports numbers on its sampling, such as the strengths that it chose."""

    @abstractmethod
    def report(self) -> dict[str, float]:
        """Numbers on the last call of `sample`, by name; a result's metrics contain their means over targets."""


@dataclass(frozen=True)
class FiberSamples:
    """Targets and samples with their representations: the input of every metric.

    Raises:
        ValueError: on construction, if the four shapes do not fit, or samples are not finite.
    """

    x: Tensor
    """Targets `(B, *input_shape)`."""
    h: Tensor
    """Their representations `(B, *feature_shape)`."""
    x_hat: Tensor
    """Samples `(n, B, *input_shape)`."""
    h_hat: Tensor
    """Their representations `(n, B, *feature_shape)`."""

    def __post_init__(self) -> None:
        if self.x_hat.shape[1:] != self.x.shape or self.h_hat.shape[1:] != self.h.shape:
            raise ValueError(f"FiberSamples: shapes do not belong together: {self.shapes()}")
        if len(self.x) != len(self.h) or len(self.x_hat) != len(self.h_hat):
            raise ValueError(f"FiberSamples: numbers of targets or samples differ: {self.shapes()}")
        for name in ("x_hat", "h_hat"):
            finite = getattr(self, name).isfinite().flatten(2).all(2)
            if not finite.all():
                slot, target = (~finite).nonzero()[0].tolist()
                raise ValueError(
                    f"FiberSamples: {name}, slot {slot}, target {target}: expected finite numbers, got NaN or infinity"
                )

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of each tensor, by name."""
        return {field.name: tuple(getattr(self, field.name).shape) for field in fields(self)}


class Inputs(ABC):
    """The inputs of one split, `N` of them, in a fixed order."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def inputs(self, indices: Tensor | slice) -> Tensor:
        """Inputs `(B, *input_shape)` of the current epoch."""

    def space(self) -> InputSpace:
        """What they are."""
        return InputSpace(tuple(self.inputs(slice(1)).shape[1:]))

    @abstractmethod
    def batches(self, size: int) -> Iterator[dict[str, Tensor]]:
        """All inputs in order, in batches `{"x": (B, *input_shape)}` of `size`, with labels `"y"` if there are any."""

    @abstractmethod
    def labels(self) -> Tensor | None:
        """The labels of all inputs, `(N,)` or `(N, K)`; None if there are none."""

    @abstractmethod
    def set_epoch(self, epoch: int) -> None:
        """Draws the random choices of an epoch (colours, flips) from the seed and the number of the epoch only."""


class Images(Inputs, ABC):
    """The images of one split."""

    @abstractmethod
    def images(self, indices: Tensor | slice) -> Tensor:
        """Images `(B, C, H, W)` in [0, 1] of the current epoch."""

    def inputs(self, indices: Tensor | slice) -> Tensor:
        return self.images(indices)

    def space(self) -> ImageSpace:
        channels, height, width = self.images(slice(1)).shape[1:]
        return ImageSpace((channels, height, width))


class Data(ABC):
    """A data set with its splits."""

    name: str
    """The name of the data set in results."""
    batch_size: int
    """Inputs per batch and process."""
    seed: int
    """The seed of the order of training inputs, and of random choices such as colours and flips."""

    @abstractmethod
    def split(self, split: Literal["train", "val", "test"]) -> Inputs:
        """The inputs of a split."""


class HasLaw(ABC):
    """Data with exactly known fibers."""

    @abstractmethod
    def members(self, x: Tensor, n: int, generator: torch.Generator | None = None) -> Tensor:
        """Exact samples `(n, B, *input_shape)` of the fibers of inputs `x` `(B, *input_shape)`; a target's samples do
        not depend on the other targets of the batch."""

    @abstractmethod
    def factors(self, images: Tensor, x: Tensor) -> Tensor:
        """The factors that vary along a fiber, read from inputs `(..., B, *input_shape)`, samples of targets `x`
        `(B, *input_shape)`: `(..., B, K)`."""

    @abstractmethod
    def law_scores(self, samples: FiberSamples, exact: FiberSamples) -> dict[str, float]:
        """Metrics of consistency with the law, by name; the floor of a metric `m` is called `m_floor`.

        Args:
            samples: the samples to score.
            exact: as many exact samples of the same targets, for the floors.
        """


class HasCategories(ABC):
    """Data with labels that are categories of several classes each."""

    @abstractmethod
    def categories(self) -> list[list[int]]:
        """The classes of each category, in the order of the labels."""


class Remembers(ABC):
    """A model that returns inputs from a stored set, selected by their representations."""

    @abstractmethod
    def remember(self, images: Inputs | Tensor, representations: Tensor) -> Self:
        """Stores N inputs, or access to them, with their representations `(N, *feature_shape)`."""


class HasLogProb(ABC):
    """A model with an exact density over its latent space."""

    @abstractmethod
    def log_prob(self, z: Tensor, h: Tensor) -> Tensor:
        """`log p(z | h)` in nats, `(B,)`, for latents `(B, *latent_shape)`."""


class Metric(Protocol):
    """A pure function of `FiberSamples`."""

    __name__: str

    def __call__(self, samples: FiberSamples, /) -> float:
        """One number; NaN if the metric does not apply to these samples."""
