"""Scores of samples by networks other than the subject."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

from fibermodels.core import FiberSamples, Inputs, Subject
from fibermodels.metrics.classifiers import check_classifier, classifier_scores
from fibermodels.metrics.descriptions import judge_vectors
from fibermodels.metrics.features import check_features, feature_scores
from fibermodels.metrics.shape_texture import Categories
from fibermodels.subjects import Classifier, Torchvision

RESERVED = ("floor", "std", "targets", "truth", "reference", "folds")
"""Endings of results' names that a judge's name must not have."""


@dataclass(frozen=True)
class Judges:
    """Networks that score samples.

    Raises:
        ValueError: a name could hide another result, or the outputs of a network do not fit.
    """

    classifier: Subject | None = None
    """The subject's own classifier: `top1_match`, `top1_accuracy`, ..."""
    others: Mapping[str, Subject] = field(default_factory=dict)
    """Other classifiers, which took no part in training: `top1_match_NAME`, ..., and `unseen_match_mean` and `_min`."""
    features: Mapping[str, Subject] = field(default_factory=dict)
    """Networks for distances in their features: `fid_NAME`, ..."""
    thresholds: tuple[float, ...] | None = None
    """Thresholds of probabilities if an image has several labels; None takes the classifier's own, else one half."""
    reference: Tensor | None = None
    """Samples of another result `(m, B, *input_shape)`; `features` measure distances to it: `fid_NAME_reference`."""

    def __post_init__(self) -> None:
        for name in (*self.others, *self.features):
            if not re.fullmatch(r"[A-Za-z0-9][\w.-]*", name) or name.split("_")[-1] in RESERVED:
                raise ValueError(
                    f"judge '{name}': expected a name of letters, digits, '.', '-' and '_' that does not end in one of "
                    f"{list(RESERVED)}"
                )
        for title, network in self._classifiers():
            check_classifier(network, title)
        for name, network in self.features.items():
            check_features(network, name)

    def _classifiers(self) -> list[tuple[str | None, Subject]]:
        return ([(None, self.classifier)] if self.classifier else []) + [*self.others.items()]

    def check_reference(self, shape: tuple[int, ...], num_targets: int) -> None:
        """Refuses a reference of other inputs, or of fewer targets than are scored.

        Raises:
            ValueError: it has another shape.
        """
        if self.reference is None:
            return
        targets, *own = self.reference.shape[1:]
        if tuple(own) != tuple(shape) or targets < num_targets:
            raise ValueError(
                f"reference: expected samples of at least {num_targets} targets, of shape {list(shape)}, got those of "
                f"{targets} targets, of shape {own}"
            )

    def vectors(self, samples: FiberSamples, device: str = "cpu", batch_size: int = 100) -> dict[str, Tensor]:
        """What each network sees in images and samples, `(1 + n, B, D)` by name, for tests of calibration."""
        networks = {**({"own classifier": self.classifier} if self.classifier else {}), **self.others}
        networks |= {name if name not in networks else f"{name} features": own for name, own in self.features.items()}
        return {name: judge_vectors(own, samples, device, batch_size) for name, own in networks.items()}

    def scores(
        self,
        samples: FiberSamples,
        targets: Inputs,
        device: str = "cpu",
        batch_size: int = 100,
        categories: Categories | None = None,
    ) -> dict[str, float]:
        """Scores by name; NaN if one does not apply.

        Args:
            samples: samples of the first targets of a split.
            targets: the split; if it has enough further images, as many of them give the floors.
            device: the device of the computation.
            batch_size: images per call of a network.
            categories: the classes of each category of the labels; None if classes and categories are the same.
        """
        count, labels = len(samples.x), targets.labels()
        own = labels[:count] if labels is not None else None

        def others(part: slice) -> Tensor:
            return targets.inputs(slice(count + part.start, count + part.stop))

        values: dict[str, float] = {}
        for title, network in self._classifiers():
            fitted = tuple(network.threshold.tolist()) if isinstance(network, Classifier) else (0.5,)
            limits = self.thresholds or fitted
            values |= classifier_scores(network, samples, own, categories, title, limits, device, batch_size)
        rest = others if len(targets) >= 2 * count else None
        for name, network in self.features.items():
            published = is_published(network)
            values |= feature_scores(network, name, samples, rest, published, device, batch_size, self.reference)
        return values | self._unseen(values)

    def _unseen(self, values: Mapping[str, float]) -> dict[str, float]:
        """How often the other judges decide alike for a sample and its target: their mean, and the least of them."""
        own = [values[key] for name in self.others if (key := f"top1_match_{name}") in values]
        return {"unseen_match_mean": sum(own) / len(own), "unseen_match_min": min(own)} if own else {}


def is_published(network: Subject) -> bool:
    """Whether these are the features of the FID in torchvision's version: the pooled features of its trained Inception
    v3. Its transform crops the centre; other implementations stretch images to 299 x 299."""
    own = {"model": "inception_v3", "layer": "pooled", "units": None}
    given = isinstance(network, Torchvision) and network.arguments.get("weights") is not None
    return given and all(network.arguments.get(key) == value for key, value in own.items())
