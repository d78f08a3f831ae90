"""The base of the suites: images that are made of a content, which the subject sees, and of factors, which it does not.

A suite states its law as a map of noise: the factors of an image with content `b` are `draw(e, b)` with `e ~ N(0, I)`,
and the image is `render(b, factors)`. Since the subject sees `b` only, the fiber of an image consists of all renderings
of its content, and `draw` is the distribution on it.
"""

from abc import abstractmethod
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.utils.data import Dataset

from fibermodels.config import Recorded
from fibermodels.core import FiberSamples, HasLaw, Images
from fibermodels.data.digits import Split
from fibermodels.data.split_data import SplitData
from fibermodels.metrics import pairwise_distance
from fibermodels.noise import seeded, target_noise
from fibermodels.suites import law_metrics

EXACT = 64
"""Exact factors of each target with which the factors of its samples are compared."""


class Suite(SplitData, HasLaw, metaclass=Recorded):
    """Train, validation and test images of a known law.

    The derived classes document the arguments.
    """

    noise_dim: int
    """Dimensions of the noise that `draw` maps to the factors of one image."""

    def __init__(self, name: str, batch_size: int, seed: int) -> None:
        super().__init__(name, batch_size, seed)
        self._splits: dict[Split, Rendered] = {}

    @abstractmethod
    def contents(self, split: Split) -> Tensor:
        """The contents `(N, *content_shape)` of a split, in a fixed order."""

    @abstractmethod
    def content(self, images: Tensor) -> Tensor:
        """The contents `(B, *content_shape)` of images `(B, C, H, W)` of this suite, exactly."""

    @abstractmethod
    def draw(self, noise: Tensor, content: Tensor) -> Tensor:
        """Factors `(..., B, K)` of contents `(B, *content_shape)` from standard normal noise `(..., B, noise_dim)`."""

    @abstractmethod
    def render(self, content: Tensor, factors: Tensor) -> Tensor:
        """Images `(..., B, C, H, W)` in [0, 1] of contents `(B, *content_shape)` with factors `(..., B, K)`."""

    @abstractmethod
    def modes(self, factors: Tensor, content: Tensor) -> Tensor:
        """The mode of the law that each of the factors `(..., B, K)` belongs to: indicators `(..., B, M)`."""

    def embed(self, factors: Tensor) -> Tensor:
        """Coordinates `(..., E)` of factors `(..., K)` whose Euclidean distances compare them; the factors themselves
        unless they lie on circles."""
        return factors

    def split(self, split: Split) -> "Rendered":
        """One split, loaded on first use; validation and test keep the factors of epoch 0."""
        if split not in self._splits:
            self._splits[split] = Rendered(self, self.contents(split), split)
        return self._splits[split]

    def members(self, x: Tensor, n: int, generator: torch.Generator | None = None) -> Tensor:
        content = self.content(x)
        noise = target_noise(n, len(x), (self.noise_dim,), generator).to(x.device)
        return torch.stack([self.render(content, self.draw(own, content)) for own in noise])

    def law_scores(self, samples: FiberSamples, exact: FiberSamples) -> dict[str, float]:
        content = self.content(samples.x)
        noise = target_noise(EXACT, len(content), (self.noise_dim,), seeded("law", self.seed))
        truth = torch.stack([self.draw(own, content) for own in noise])
        scores = self._scores(samples, content, truth)
        floors = {f"{name}_floor": value for name, value in self._scores(exact, content, truth).items()}
        return scores | floors | {"pairwise_distance_truth": pairwise_distance(exact)}

    def _scores(self, samples: FiberSamples, content: Tensor, truth: Tensor) -> dict[str, float]:
        """Scores of samples of targets with these contents, against exact factors `(EXACT, B, K)` of these."""
        slots = [self.factors(slot, samples.x) for slot in samples.x_hat]
        found, known = torch.stack([self.embed(slot) for slot in slots]), self.embed(truth)
        nearest = torch.stack([self.render(content, slot) for slot in slots])
        modes = torch.stack([self.modes(slot, content) for slot in slots])
        return {
            "factor_ks": law_metrics.factor_ks(found, known),
            "joint_distance": law_metrics.joint_distance(found, known, samples.h),
            "mode_error": law_metrics.mode_error(modes, self.modes(truth, content)),
            "pixel_error": law_metrics.pixel_error(samples.x_hat, nearest),
        }


class Rendered(Dataset[dict[str, Tensor]], Images):
    """The images of a split, whose factors are new in every epoch.

    The factors depend only on the suite's seed, the split, the epoch and the image's index, and not on batches, workers
    or processes.

    Args:
        suite: the law.
        contents: `(N, *content_shape)`.
        name: the split's name; splits have different factors.
    """

    def __init__(self, suite: Suite, contents: Tensor, name: str) -> None:
        self.suite, self.contents, self.name = suite, contents, name
        self.set_epoch(0)

    def set_epoch(self, epoch: int) -> None:
        generator = seeded("factors", self.suite.seed, self.suite.name, self.name, epoch)
        noise = torch.randn(len(self.contents), self.suite.noise_dim, generator=generator)
        blocks = zip(noise.split(BLOCK), self.contents.split(BLOCK), strict=True)
        self.factors = torch.cat([self.suite.draw(own, content) for own, content in blocks])

    def __len__(self) -> int:
        return len(self.contents)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {"x": self.images(torch.tensor([index]))[0]}

    def __getitems__(self, indices: list[int]) -> dict[str, Tensor]:
        return {"x": self.images(torch.tensor(indices))}

    def batches(self, size: int) -> Iterator[dict[str, Tensor]]:
        for start in range(0, len(self), size):
            yield {"x": self.images(slice(start, start + size))}

    def labels(self) -> None:
        return None

    def images(self, indices: Tensor | slice = slice(None)) -> Tensor:
        return self.suite.render(self.contents[indices], self.factors[indices])


BLOCK = 4096
"""Images whose factors are drawn at once."""
