"""Asking for a fidelity, not for a knob: the strength of a guidance, found target by target."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

LOWEST, HIGHEST = 2.0**-6, 2.0**6
"""Strengths between which to look."""


def find_strength(measure: Callable[[Tensor], Tensor], goal: float, targets: int, rounds: int) -> tuple[Tensor, Tensor]:
    """The strengths at which the measured fiber RMS is nearest to `goal`, target by target.

    Bisection of the logarithm: more strength where the RMS is too large, less where it is too small. The
    measurement is noisy and need not be monotone at the ends (too much guidance leaves the data, and the
    fiber with it), so of all strengths tried the one that came nearest is kept.

    Args:
        measure: the fiber RMS `(targets,)` at strengths `(targets,)`; with the same random numbers every time.
        goal: the RMS asked for, positive.
        targets: how many there are.
        rounds: measurements; the answer is within a factor `64^(2^(1 - rounds))` of the crossing.

    Returns:
        The strengths and the RMS measured there, each `(targets,)`, on the CPU.
    """
    low = torch.full((targets,), math.log(LOWEST))
    high = torch.full((targets,), math.log(HIGHEST))
    best, reached = torch.ones(targets), torch.full((targets,), math.inf)
    for _ in range(rounds):
        middle = (low + high) / 2
        rms = measure(middle.exp()).detach().cpu()
        nearer = (rms / goal).log().abs() < (reached / goal).log().abs()
        best, reached = torch.where(nearer, middle.exp(), best), torch.where(nearer, rms, reached)
        low, high = torch.where(rms > goal, middle, low), torch.where(rms > goal, high, middle)
    return best, reached
