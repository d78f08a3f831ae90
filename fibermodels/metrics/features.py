"""Distances between samples and real images in the features of a network, without storing all features."""

from collections.abc import Callable
from functools import partial
from itertools import pairwise
from statistics import fmean as mean

import torch
from torch import Tensor

from fibermodels.core import FiberSamples, Subject
from fibermodels.metrics.diversity import Spread
from fibermodels.metrics.frechet import Moments, first_channels, frechet_distance
from fibermodels.metrics.judges import outputs
from fibermodels.metrics.kid import kernel_distance

BLOCK = 1000
"""Images per estimate of the kernel distance; larger sets give the mean of several estimates."""


class _Law:
    """Moments of a stream of features, of its even and its odd numbers, and the vectors of its last block."""

    def __init__(self) -> None:
        self.vectors, self.maps = Moments(), Moments()
        self.folds = Moments(), Moments()
        self.open: list[Tensor] = []
        self.block = torch.zeros(0)

    def update(self, features: Tensor) -> None:
        """Adds features `(B, D)`, or maps `(B, C, h, w)` with their means over locations as vectors."""
        if features.ndim == 4:
            self.maps.update(first_channels(features))
        vectors = features.flatten(2).mean(2) if features.ndim == 4 else features.flatten(1)
        first = self.vectors.count % 2
        for fold, own in zip(self.folds, (vectors[first::2], vectors[1 - first :: 2]), strict=True):
            if len(own):
                fold.update(own)
        self.vectors.update(vectors)
        self.open.append(vectors)

    def close(self) -> None:
        """Ends a block: `block` has the vectors since the last one."""
        self.block, self.open = torch.cat(self.open), []


def check_features(network: Subject, name: str) -> None:
    """Checks that a network returns vectors `(B, D)` or maps `(B, C, h, w)`.

    Raises:
        ValueError: it returns neither.
    """
    if len(network.feature_shape) not in (1, 3):
        raise ValueError(
            f"features {name}: expected a network that returns vectors [D] or maps [C, h, w], got representations "
            f"{list(network.feature_shape)}"
        )


def feature_scores(
    network: Subject,
    name: str,
    samples: FiberSamples,
    others: Callable[[slice], Tensor] | None = None,
    standard: bool = False,
    device: str | torch.device = "cpu",
    batch_size: int = 100,
    reference: Tensor | None = None,
) -> dict[str, float]:
    """Distances of samples to real images, and to each other, in the features of a network, by name.

    Every slot (one sample of each target) is compared with the targets, and the scores are means over slots, so both
    sets have as many images as there are targets. `fid` and `kid` use vectors, and average maps over their locations;
    `sfid` uses whole maps (Nash et al.).

    `fid_NAME_folds` is what EquiDiff calls sFID. Samples that resemble their own targets have a low FID for this reason
    alone, so the targets are split into two folds `x_1` and `x_2`, and samples of one are compared with the targets of
    the other: `(F(x_1, x_hat_2) + F(x_2, x_hat_1)) / 2`. Its floor is `F(x_1, x_2)`.

    With a `reference`, `fid_NAME_reference` and so on are the first distances from the samples of another result: slot
    `i` from slot `i mod m`, for equally many targets. As samples of two results may share their targets and their
    noise, the kernel distance leaves out the pairs of one target.

    Args:
        network: a network that returns vectors `(B, D)` or maps `(B, C, h, w)`.
        name: the ending `_NAME` of the results.
        samples: targets and samples.
        others: returns a slice of as many other real images; their distance to the targets is the floor.
        standard: whether the features are those of the published FID; the results are then called `fid` and `kid`.
        device: the device of the computation.
        batch_size: images per call of the network.
        reference: samples of another result `(m, B', *input_shape)` with `B' >= B`.

    Raises:
        ValueError: the network returns neither vectors nor maps, or takes other images.
    """
    check_features(network, name)
    features = partial(outputs, network, device=device, batch_size=batch_size)
    n, count = samples.x_hat.shape[:2]
    targets, slots, rest = _Law(), [_Law() for _ in range(n)], _Law()
    told = [] if reference is None else [_Law() for _ in reference]
    pairs = {"": [(targets, slot) for slot in slots]}
    if others is not None:
        pairs["_floor"] = [(targets, rest)]
    if told:
        pairs["_reference"] = [(told[i % len(told)], slot) for i, slot in enumerate(slots)]
    spread, kernels = 0.0, {end: list[float]() for end in pairs}
    edges = [round(count * i / max(1, count // BLOCK)) for i in range(max(1, count // BLOCK) + 1)]
    for low, high in pairwise(edges):
        for start in range(low, high, batch_size):
            part = slice(start, min(start + batch_size, high))
            targets.update(features(samples.x[part]))
            differences = Spread()
            for law, slot in zip(slots, samples.x_hat, strict=True):
                found = features(slot[part])
                law.update(found)
                differences.update(found)
            spread += differences.mean().sum().item()
            if others is not None:
                rest.update(features(others(part)))
            for law, images in zip(told, () if reference is None else reference, strict=True):
                law.update(features(images[part]))
        if high - low > 1:
            for law in {law for own in pairs.values() for pair in own for law in pair}:
                law.close()
            for end, own in pairs.items():
                kernels[end] += [kernel_distance(a.block, b.block, paired=end != "_floor") for a, b in own]
    values = {f"pairwise_distance_{name}": spread / count}
    if count < 2:
        return values
    suffix = "" if standard else f"_{name}"
    for end, own in pairs.items():
        values[f"fid{suffix}{end}"] = mean(frechet_distance(a.vectors, b.vectors) for a, b in own)
        if len(network.feature_shape) == 3:
            values[f"sfid{suffix}{end}"] = mean(frechet_distance(a.maps, b.maps) for a, b in own)
        values[f"kid{suffix}{end}"] = mean(kernels[end])
    if count >= 4:
        crossed = [(targets.folds[i], slot.folds[1 - i]) for slot in slots for i in (0, 1)]
        values[f"fid{suffix}_folds"] = mean(frechet_distance(a, b) for a, b in crossed)
        values[f"fid{suffix}_folds_floor"] = frechet_distance(*targets.folds)
    if len(kernels[""]) > 1:  # over slots and blocks
        values[f"kid{suffix}_std"] = torch.tensor(kernels[""]).std(correction=0).item()
    return values
