"""Agreement: does a classifier give the same output for samples and targets?

The representations of `FiberSamples` are here logits `(B, K)` of a classifier: the subject or another network
(`judges.seen_by`). Every metric averages over all pairs of a target and its sample.

Reference: FeatInv (Neukirch et al., 2025), tables 1 and 2: the target's most likely class is the truth.
"""

import torch
from torch import Tensor

from fibermodels.core import FiberSamples


def top_accuracy(logits: Tensor, labels: Tensor, k: int = 1) -> float:
    """Share of `logits` `(..., B, K)` whose `k` largest contain the label `(B,)`; NaN for `K <= k` classes."""
    if k >= logits.shape[-1]:
        return float("nan")
    largest = logits.topk(k, dim=-1).indices
    return (largest == labels[:, None]).any(-1).double().mean().item()


def top1_match(samples: FiberSamples) -> float:
    """Share of samples with the same most likely class as their target."""
    return top_accuracy(samples.h_hat, samples.h.argmax(-1), 1)


def top5_match(samples: FiberSamples) -> float:
    """Share of samples with the most likely class of their target among their five most likely."""
    return top_accuracy(samples.h_hat, samples.h.argmax(-1), 5)


def probability_difference(samples: FiberSamples) -> float:
    """`100 sum_c |p_c(x) - p_c(x_hat)|` with `p = softmax(logits)`, in [0, 200] (arXiv 2603.21782, on CheXpert)."""
    return 100 * (samples.h_hat.softmax(-1) - samples.h.softmax(-1)).abs().sum(-1).mean().item()


def probability_difference_sigmoid(samples: FiberSamples) -> float:
    """The same with `p = sigmoid(logits)`, for labels that do not exclude each other: in [0, 100 K]."""
    return 100 * (samples.h_hat.sigmoid() - samples.h.sigmoid()).abs().sum(-1).mean().item()


def decisions(logits: Tensor, thresholds: Tensor) -> Tensor:
    """The decisions of a classifier with several labels, `sigmoid(logits) >= thresholds`.

    Raises:
        ValueError: there is neither one threshold nor one for each label.
    """
    if thresholds.numel() not in (1, logits.shape[-1]):
        raise ValueError(
            f"thresholds: expected 1 or {logits.shape[-1]}, one for each output of the classifier, "
            f"got {thresholds.numel()}"
        )
    return logits.sigmoid() >= thresholds


def decision_match(samples: FiberSamples, thresholds: Tensor) -> float:
    """Share of decisions on samples, over all labels, that agree with those on their targets."""
    return (decisions(samples.h_hat, thresholds) == decisions(samples.h, thresholds)).double().mean().item()


def decision_accuracy(logits: Tensor, labels: Tensor, thresholds: Tensor) -> float:
    """Share of correct decisions on `logits` `(..., B, K)`; labels `(B, K)` that are NaN do not count."""
    right = decisions(logits, thresholds) == (labels > 0.5)
    known = (~labels.isnan()).expand_as(right)
    return right[known].double().mean().item() if known.any() else float("nan")


def check_labels(logits: Tensor, labels: Tensor, what: str) -> None:
    """Checks that labels fit the classifier's outputs.

    Raises:
        ValueError: the number of labels or a class exceeds that of the outputs.
    """
    outputs = logits.shape[-1]
    if labels.ndim == 2 and labels.shape[1] != outputs:
        raise ValueError(f"{what}: expected {labels.shape[1]} outputs, one for each label of the data, got {outputs}")
    if labels.ndim == 1 and int(torch.max(labels)) >= outputs:
        raise ValueError(
            f"{what}: expected outputs for the data's classes, in their order, got {outputs} outputs for labels up to "
            f"{int(torch.max(labels))}"
        )


ENOUGH = 100
"""Labels from which on `knows` can tell a classifier from chance."""


def knows(logits: Tensor, labels: Tensor) -> bool:
    """Whether a classifier's most likely class `(B,)` is the label more often than a constant answer would be.

    A constant answer is right for the share `p` of the most frequent label. The classifier must exceed it by 2.33
    deviations of a mean of `B` such answers, `sqrt(p (1 - p) / B)`, which chance does in one of a hundred cases. With
    fewer than a hundred labels there is no answer, and it is taken to know them.
    """
    if len(labels) < ENOUGH:
        return True
    share = labels.bincount().max().item() / len(labels)
    least = share + 2.33 * (share * (1 - share) / len(labels)) ** 0.5
    return share == 1 or top_accuracy(logits, labels) > least
