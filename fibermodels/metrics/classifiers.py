"""Scores of classifiers on samples, compared with their targets."""

import torch
from torch import Tensor

from fibermodels.core import FiberSamples, Subject
from fibermodels.metrics import agreement
from fibermodels.metrics.judges import seen_by
from fibermodels.metrics.shape_texture import Categories, cue_preference, decide


class ClassifierJudge:
    """Compares the outputs of a classifier for samples and for their targets.

    Args:
        network: a network that returns logits `(B, K)`.
        name: the ending `_NAME` of the results; None for the subject's own classifier.
        thresholds: probabilities for decisions if an image has several labels: one for each, or one for all.
        device: the device of the computation.
        batch_size: images per call of the network.

    Raises:
        ValueError: the network does not return logits.
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
        """Scores by name; NaN if one does not apply.

        Args:
            samples: targets and samples.
            labels: of the targets: classes `(B,)`; several labels `(B, K)` in {0, 1, NaN}, floating point; or shape and
                texture `(B, 2)`, integers.
            categories: the classes of each of the data's categories; None if classes and categories are the same.
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
