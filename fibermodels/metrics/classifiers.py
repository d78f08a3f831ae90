"""Scores of classifiers on samples, compared with their targets."""

import warnings

import torch
from torch import Tensor

from fibermodels.core import FiberSamples, Subject
from fibermodels.metrics import agreement
from fibermodels.metrics.judges import seen_by
from fibermodels.metrics.shape_texture import Categories, cue_preference, decide


def check_classifier(network: Subject, name: str | None) -> None:
    """Checks that a network returns logits `(B, K)`.

    Raises:
        ValueError: it does not.
    """
    if len(network.feature_shape) != 1:
        raise ValueError(
            f"classifier {name or ''}: expected a network that returns logits, one number for each class, got "
            f"representations {list(network.feature_shape)}; cut it at its logits"
        )


def classifier_scores(
    network: Subject,
    samples: FiberSamples,
    labels: Tensor | None = None,
    categories: Categories | None = None,
    name: str | None = None,
    thresholds: tuple[float, ...] = (0.5,),
    device: str | torch.device = "cpu",
    batch_size: int = 100,
) -> dict[str, float]:
    """Agreement of a classifier's outputs for samples and targets: scores by name, NaN if one does not apply.

    Args:
        network: a network that returns logits `(B, K)`.
        samples: targets and samples.
        labels: of the targets: classes `(B,)`; several labels `(B, K)` in {0, 1, NaN}, floating point; or shape and
            texture `(B, 2)`, integers.
        categories: the classes of each of the data's categories; None if classes and categories are the same.
        name: the ending `_NAME` of the results; None for the subject's own classifier.
        thresholds: probabilities for decisions if an image has several labels: one for each, or one for all.
        device: the device of the computation.
        batch_size: images per call of the network.

    Raises:
        ValueError: the network does not return logits, or they do not fit the labels or the thresholds.
    """
    check_classifier(network, name)
    what, limits = "_".join(filter(None, ("classifier", name))), torch.tensor(thresholds)
    seen = seen_by(network, samples, device, batch_size)
    both = [("", seen.h_hat), ("_targets", seen.h)]
    values = {"probability_difference": agreement.probability_difference(seen)}
    several = labels is not None and labels.ndim == 2 and labels.is_floating_point()
    if not several:
        values |= {"top1_match": agreement.top1_match(seen), "top5_match": agreement.top5_match(seen)}
    if labels is not None and several:
        agreement.check_labels(seen.h, labels, what)
        values["decision_match"] = agreement.decision_match(seen, limits)
        values["probability_difference_sigmoid"] = agreement.probability_difference_sigmoid(seen)
        values |= {f"decision_accuracy{end}": agreement.decision_accuracy(h, labels, limits) for end, h in both}
    elif labels is not None and labels.ndim == 2:
        for end, h in both:
            cues = cue_preference(decide(h, categories), labels)
            values |= {f"{key}{end}": value for key, value in cues.items()}
    elif labels is not None and categories:
        for end, h in both:
            values[f"top1_accuracy{end}"] = (decide(h, categories) == labels).double().mean().item()
    elif labels is not None:
        agreement.check_labels(seen.h, labels, what)
        if not agreement.knows(seen.h, labels):
            warnings.warn(
                f"{what}: it is right on {agreement.top_accuracy(seen.h, labels):.1%} of {len(labels)} targets, no "
                "more than a constant answer. Its outputs are not the data's classes in their order, so there is no "
                "top1_accuracy; a network that is no classifier belongs to --features",
                stacklevel=2,
            )
            both = []
        for end, h in both:
            values |= {f"top{k}_accuracy{end}": agreement.top_accuracy(h, labels, k) for k in (1, 5)}
    return {f"{key}_{name}" if name else key: value for key, value in values.items()}
