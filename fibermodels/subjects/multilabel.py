"""Several binary labels per image, some of them unknown: loss, ranking, calibration and thresholds.

Logits are `(N, K)`; labels are floats `(N, K)`, 0 or 1. Labels that are NaN are unknown and do not count.
"""

from collections.abc import Callable

import torch
from torch import Tensor

TEMPERATURES = (0.5, 2.0)
"""The range of temperatures."""

CANDIDATES = 200
"""The number of candidates for a threshold, evenly spaced in (0, 1)."""


def asymmetric_loss(
    logits: Tensor, labels: Tensor, gamma_pos: float = 0.0, gamma_neg: float = 3.0, margin: float = 0.0
) -> Tensor:
    """`-1/K sum_k [ y (1-p)^gamma_pos log p + (1-y) q^gamma_neg log(1-q) ]` with `q = max(p - margin, 0)`, `(N,)`.

    Easy negatives, which are frequent in medical labels, have little weight. An unknown label contributes 0, so a known
    label has the same weight in every image. With both gammas and the margin at 0, it is binary cross entropy.

    Reference: Ridnik et al., "Asymmetric Loss For Multi-Label Classification", arXiv 2009.14119, eqs. 4 to 7.
    """
    known = ~labels.isnan()
    y = torch.where(known, labels, 0.0)
    p = logits.sigmoid()
    positive = (1 - p) ** gamma_pos * torch.nn.functional.logsigmoid(logits)
    if margin:
        q = (p - margin).clamp(min=0)
        log_rest = torch.log1p(-q)
    else:
        q, log_rest = p, torch.nn.functional.logsigmoid(-logits)
    terms = y * positive + (1 - y) * q**gamma_neg * log_rest
    return -(terms * known).mean(1)


def auroc(scores: Tensor, labels: Tensor) -> Tensor:
    """Area under the receiver operating characteristic of each label, `(K,)`: the probability that a positive image is
    ranked above a negative one; ties count half. NaN if a label has no positive or no negative image."""
    areas = []
    for score, label in zip(scores.double().unbind(1), labels.unbind(1), strict=True):
        positive, negative = score[label == 1], score[label == 0].sort().values
        below = torch.searchsorted(negative, positive)
        upto = torch.searchsorted(negative, positive, right=True)
        areas.append((below + upto).double().mean() / 2 / len(negative))
    return torch.stack(areas)


def fitted_temperatures(logits: Tensor, labels: Tensor, iterations: int = 50) -> Tensor:
    """For each label, the `T` in [0.5, 2] that minimises the cross entropy of `sigmoid(logits / T)`, `(K,)`.

    It uses L-BFGS on `u` with `T = 0.5 * 4^sigmoid(u)`, from `T = 1`; labels without examples keep 1.
    """
    known = ~labels.isnan()
    y = torch.where(known, labels, 0.0).double()
    return _fitted(
        lambda temperature: (
            torch.nn.functional.binary_cross_entropy_with_logits(
                logits.double() / temperature, y, known.double(), reduction="sum"
            )
            / known.sum().clamp(min=1)
        ),
        logits.shape[1],
        iterations,
    ).to(logits)


def fitted_temperature(logits: Tensor, labels: Tensor, iterations: int = 50) -> Tensor:
    """The one `T` in [0.5, 2] that minimises the cross entropy of `softmax(logits / T)` for classes `(N,)`, `(1,)`."""
    return _fitted(
        lambda temperature: torch.nn.functional.cross_entropy(logits.double() / temperature, labels), 1, iterations
    ).to(logits)


@torch.enable_grad()
def _fitted(objective: Callable[[Tensor], Tensor], number: int, iterations: int) -> Tensor:
    low, high = TEMPERATURES
    u = torch.zeros(number, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([u], max_iter=iterations, line_search_fn="strong_wolfe")

    def temperature() -> Tensor:
        return low * (high / low) ** u.sigmoid()

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = objective(temperature())
        value.backward()
        return value

    optimizer.step(closure)
    return temperature().detach()


def f1_thresholds(probabilities: Tensor, labels: Tensor) -> Tensor:
    """For each label, the threshold whose decisions `p >= threshold` have the highest F1, of 200 candidates, `(K,)`.

    Of equally good candidates it takes the middle one; labels without a positive example keep 0.5.
    """
    candidates = (torch.arange(CANDIDATES, device=probabilities.device) + 0.5) / CANDIDATES
    thresholds = []
    for p, label in zip(probabilities.unbind(1), labels.unbind(1), strict=True):
        positive, negative = p[label == 1].sort().values, p[label == 0].sort().values
        if not len(positive):
            thresholds.append(candidates.new_tensor(0.5))
            continue
        hits = len(positive) - torch.searchsorted(positive, candidates.to(p))
        alarms = len(negative) - torch.searchsorted(negative, candidates.to(p))
        f1 = 2 * hits / (hits + alarms + len(positive))
        best = candidates[f1 == f1.max()]
        thresholds.append(best[len(best) // 2])
    return torch.stack(thresholds)
