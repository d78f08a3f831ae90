"""Judges: networks that look at samples beside the subject. Each is asked in batches and keeps no features."""

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor

from fibermodels.core import FiberSamples, Subject, check_images
from fibermodels.metrics import agreement
from fibermodels.metrics.diversity import Spread
from fibermodels.metrics.frechet import Moments, first_channels, frechet_distance
from fibermodels.metrics.kid import kernel_distance
from fibermodels.metrics.shape_texture import Categories, cue_preference, decide

BLOCK = 1000
"""Images from which one estimate of the kernel distance is made; larger sets give the mean of several."""


class _Asked:
    """A network, asked for images in memory, batch by batch, without gradients."""

    def __init__(self, network: Subject, device: str | torch.device, batch_size: int) -> None:
        self.network, self.device, self.batch_size = network.to(device), device, batch_size

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        check_images(images[:1], self.network.image_shape, f"{type(self.network).__name__}, as a judge")
        return torch.cat([self.network(part.to(self.device)) for part in images.split(self.batch_size)])


def seen_by(
    network: Subject, samples: FiberSamples, device: str | torch.device = "cpu", batch_size: int = 100
) -> FiberSamples:
    """The same images with another network's representations."""
    asked = _Asked(network, device, batch_size)
    h_hat = torch.stack([asked(slot).cpu() for slot in samples.x_hat])
    return FiberSamples(samples.x, asked(samples.x).cpu(), samples.x_hat, h_hat)


class ClassifierJudge:
    """Whether a classifier says of samples what it says of their targets.

    Args:
        network: returns logits `(B, K)`.
        name: of the results, which end with `_NAME`; none for the subject's own classifier.
        thresholds: of decisions, in probability, where an image has several labels: one for each, or one for all.
        device: where to compute.
        batch_size: images at a time.

    Raises:
        ValueError: a network that returns anything but logits.
    """

    def __init__(
        self,
        network: Subject,
        name: str | None = None,
        thresholds: tuple[float, ...] = (0.5,),
        device: str | torch.device = "cpu",
        batch_size: int = 100,
    ) -> None:
        if len(network.feature_shape) != 1:
            raise ValueError(
                f"classifier {name or ''}: expected a network that returns logits, one number for each class, got "
                f"representations {list(network.feature_shape)}; cut it at its logits"
            )
        self.__name__ = "_".join(filter(None, ("classifier", name)))
        self.network, self.suffix = network, f"_{name}" if name else ""
        self.thresholds = torch.tensor(thresholds)
        self.device, self.batch_size = device, batch_size

    def __call__(
        self, samples: FiberSamples, labels: Tensor | None = None, categories: Categories | None = None
    ) -> dict[str, float]:
        """Figures by name; NaN where one does not apply.

        Args:
            samples: targets and samples.
            labels: what is known of the targets: classes `(B,)`; several labels `(B, K)` in {0, 1, NaN}, floating
                point; or shape and texture `(B, 2)`, integers.
            categories: the classes that make up each of the data's categories; None where they are the same.
        """
        seen = seen_by(self.network, samples, self.device, self.batch_size)
        if labels is None or labels.ndim == 1:
            values = self._one(seen, labels, categories)
        elif labels.is_floating_point():
            values = self._several(seen, labels)
        else:
            values = self._one(seen, None, None) | self._cues(seen, labels, categories)
        return {f"{name}{self.suffix}": value for name, value in values.items()}

    def _one(self, seen: FiberSamples, labels: Tensor | None, categories: Categories | None) -> dict[str, float]:
        values = {metric.__name__: metric(seen) for metric in (agreement.top1_match, agreement.top5_match)}
        values["probability_difference"] = agreement.probability_difference(seen)
        if labels is None:
            return values
        if categories:
            samples, targets = ((decide(h, categories) == labels).double().mean().item() for h in (seen.h_hat, seen.h))
            return values | {"top1_accuracy": samples, "top1_accuracy_targets": targets}
        agreement.check_labels(seen.h, labels, self.__name__)
        for k in (1, 5):
            values[f"top{k}_accuracy"] = agreement.top_accuracy(seen.h_hat, labels, k)
            values[f"top{k}_accuracy_targets"] = agreement.top_accuracy(seen.h, labels, k)
        return values

    def _several(self, seen: FiberSamples, labels: Tensor) -> dict[str, float]:
        agreement.check_labels(seen.h, labels, self.__name__)
        return {
            "decision_match": agreement.decision_match(seen, self.thresholds),
            "probability_difference": agreement.probability_difference(seen),
            "probability_difference_sigmoid": agreement.probability_difference_sigmoid(seen),
            "decision_accuracy": agreement.decision_accuracy(seen.h_hat, labels, self.thresholds),
            "decision_accuracy_targets": agreement.decision_accuracy(seen.h, labels, self.thresholds),
        }

    @staticmethod
    def _cues(seen: FiberSamples, cues: Tensor, categories: Categories | None) -> dict[str, float]:
        of_targets = cue_preference(decide(seen.h, categories), cues)
        return cue_preference(decide(seen.h_hat, categories), cues) | {
            f"{name}_targets": value for name, value in of_targets.items()
        }


class _Law:
    """What is kept of a stream of features: their moments, and the vectors of one block."""

    def __init__(self) -> None:
        self.vectors, self.maps = Moments(), Moments()
        self.block: list[Tensor] = []

    def update(self, features: Tensor) -> None:
        """Takes in features `(B, D)`, or maps `(B, C, h, w)`, whose means over locations are the vectors."""
        if features.ndim == 4:
            self.maps.update(first_channels(features))
        vectors = features.flatten(2).mean(2) if features.ndim == 4 else features.flatten(1)
        self.vectors.update(vectors)
        self.block.append(vectors)

    def pop_block(self) -> Tensor:
        """The vectors since the last block."""
        vectors, self.block = torch.cat(self.block), []
        return vectors


class FeatureJudge:
    """How near samples are to real images in the features of a network, and how they differ from each other there.

    Every slot, one sample of each target, is compared with the targets; the figures are means over slots, so both sets
    have as many images as there are targets. `fid` and `kid` see vectors: maps are averaged over their locations;
    `sfid` sees maps as they are.

    Args:
        network: returns vectors `(B, D)` or maps `(B, C, h, w)`.
        name: of the features, with which the results' names end.
        standard: the features are those of the published FID, and the results are plainly called `fid` and `kid`.
        device: where to compute.
        batch_size: images at a time.

    Raises:
        ValueError: a network that returns neither.
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
        """Figures by name.

        Args:
            samples: targets and samples.
            others: real images that are not among the targets, by their place in as long a row: their distance to
                the targets is the floor.
        """
        n, count = samples.x_hat.shape[:2]
        asked = _Asked(self.network, self.device, self.batch_size)
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
