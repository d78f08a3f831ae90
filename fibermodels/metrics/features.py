"""Distances between samples and real images in the features of a network, without storing all features."""

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor

from fibermodels.core import FiberSamples, Subject
from fibermodels.metrics.diversity import Spread
from fibermodels.metrics.frechet import Moments, first_channels, frechet_distance
from fibermodels.metrics.judges import Asked
from fibermodels.metrics.kid import kernel_distance

BLOCK = 1000
"""Images per estimate of the kernel distance; larger sets give the mean of several estimates."""


class _Law:
    """Moments of a stream of features, and the vectors of its last block."""

    def __init__(self) -> None:
        self.vectors, self.maps = Moments(), Moments()
        self.block: list[Tensor] = []

    def update(self, features: Tensor) -> None:
        """Adds features `(B, D)`, or maps `(B, C, h, w)` with their means over locations as vectors."""
        if features.ndim == 4:
            self.maps.update(first_channels(features))
        vectors = features.flatten(2).mean(2) if features.ndim == 4 else features.flatten(1)
        self.vectors.update(vectors)
        self.block.append(vectors)

    def pop_block(self) -> Tensor:
        """Returns and forgets the vectors since the last block."""
        vectors, self.block = torch.cat(self.block), []
        return vectors


class FeatureJudge:
    """Distances of samples to real images, and to each other, in the features of a network.

    Every slot (one sample of each target) is compared with the targets, and the scores are means over slots, so both
    sets have as many images as there are targets. `fid` and `kid` use vectors, and average maps over their locations;
    `sfid` uses whole maps.

    Args:
        network: a network that returns vectors `(B, D)` or maps `(B, C, h, w)`.
        name: the ending `_NAME` of the results.
        standard: whether the features are those of the published FID; the results are then called `fid` and `kid`.
        device: the device of the computation.
        batch_size: images per call of the network.

    Raises:
        ValueError: the network returns neither vectors nor maps.
    """

    def __init__(
        self,
        network: Subject,
        name: str,
        standard: bool = False,
        device: str | torch.device = "cpu",
        batch_size: int = 100,
    ) -> None:
        if len(network.feature_shape) not in (1, 3):
            raise ValueError(
                f"features {name}: expected a network that returns vectors [D] or maps [C, h, w], got representations "
                f"{list(network.feature_shape)}"
            )
        self.__name__, self.suffix = f"features_{name}", "" if standard else f"_{name}"
        self.spread = f"pairwise_distance_{name}"
        self.spatial = len(network.feature_shape) == 3
        self.network, self.device, self.batch_size = network, device, batch_size

    def __call__(self, samples: FiberSamples, others: Callable[[slice], Tensor] | None = None) -> dict[str, float]:
        """Scores by name.

        Args:
            samples: targets and samples.
            others: returns a slice of as many other real images; their distance to the targets is the floor.
        """
        n, count = samples.x_hat.shape[:2]
        asked = Asked(self.network, self.device, self.batch_size)
        targets, slots, rest = _Law(), [_Law() for _ in range(n)], _Law()
        spread, kernels, floors = 0.0, list[float](), list[float]()
        edges = [round(count * i / max(1, count // BLOCK)) for i in range(max(1, count // BLOCK) + 1)]
        for low, high in pairwise(edges):
            for start in range(low, high, self.batch_size):
                part = slice(start, min(start + self.batch_size, high))
                targets.update(asked(samples.x[part]))
                differences = Spread()
                for law, slot in zip(slots, samples.x_hat, strict=True):
                    features = asked(slot[part])
                    law.update(features)
                    differences.update(features)
                spread += differences.mean().sum().item()
                if others is not None:
                    rest.update(asked(others(part)))
            if high - low > 1:
                block = targets.pop_block()
                kernels += [kernel_distance(block, law.pop_block(), paired=True) for law in slots]
                floors += [kernel_distance(block, rest.pop_block())] if others is not None else []
        values = {self.spread: spread / count}
        if count > 1:
            values |= self._distances(targets, slots, "")
            values |= self._distances(targets, [rest], "_floor") if others is not None else {}
            values |= self._kernels(kernels, "") | (self._kernels(floors, "_floor") if floors else {})
        return values

    def _distances(self, targets: _Law, laws: list[_Law], ending: str) -> dict[str, float]:
        own = [frechet_distance(targets.vectors, law.vectors) for law in laws]
        values = {f"fid{self.suffix}{ending}": sum(own) / len(own)}
        if self.spatial:
            own = [frechet_distance(targets.maps, law.maps) for law in laws]
            values[f"sfid{self.suffix}{ending}"] = sum(own) / len(own)
        return values

    def _kernels(self, found: list[float], ending: str) -> dict[str, float]:
        values = {f"kid{self.suffix}{ending}": sum(found) / len(found)}
        if len(found) > 1 and not ending:  # over slots and blocks
            values[f"kid{self.suffix}_std"] = torch.tensor(found).std(correction=0).item()
        return values
