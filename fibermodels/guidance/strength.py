"""Ask for a fidelity: the strength of a guidance is found target by target, or one for an expected score."""

import math
import warnings
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from fibermodels import distances
from fibermodels.checks import check_number, check_numbers
from fibermodels.core import FiberModel, Reports
from fibermodels.guidance.guided import Steered
from fibermodels.noise import target_noise
from fibermodels.spaces import HasInputSpace

LOWEST, HIGHEST = 2.0**-6, 2.0**6
"""Strengths between which to look."""

SHORT = 1.2
"""A target counts as missed where the fiber RMS is off by more than this factor."""


class StrengthSearch(FiberModel, HasInputSpace, Reports):
    """A steered prior at the strength that reaches a given fiber RMS, for each target by itself.

    The strength is measured on samples of its own. `report` says what was chosen, how many calls of the network the
    search took for each target, and for how many targets no strength came within a fifth of the goal; a warning tells
    of these, too.

    Args:
        model: the steered prior; its own strength is not used.
        target_rms: the fiber RMS to reach.
        samples: samples of each target on which a strength is measured.
        rounds: strengths that are measured, each at the cost of sampling.
    """

    def __init__(self, model: Steered, target_rms: float, samples: int = 4, rounds: int = 8) -> None:
        super().__init__()
        check_number("StrengthSearch", "target_rms", target_rms, above=0)
        check_numbers("StrengthSearch", {"samples": samples, "rounds": rounds}, least=1)
        self.model, self.target_rms, self.samples, self.rounds = model, target_rms, samples, rounds
        self.input_space, self.network_calls = model.input_space, model.network_calls
        self._report: dict[str, float] = {}

    def report(self) -> dict[str, float]:
        return self._report

    def _sample(self, h: Tensor, n: int, generator: torch.Generator | None, x: Tensor | None) -> Tensor:
        noise = target_noise(n + self.samples, len(h), self.model.noise_shape, generator)
        steering = self.model.steering(h, x)

        def measure(strength: Tensor) -> Tensor:
            found = steering(noise[n:], strength.to(h))
            return torch.stack([distances.rms(h, self.model.subject(slot)) for slot in found]).mean(0)

        strength, reached = find_strength(measure, self.target_rms, len(h), self.rounds)
        self._say(strength, reached)
        return steering(noise[:n], strength.to(h))

    def _say(self, strength: Tensor, reached: Tensor) -> None:
        missed = (reached / self.target_rms).log().abs() > math.log(SHORT)
        low, middle, high = strength.quantile(torch.tensor([0.1, 0.5, 0.9])).tolist()
        self._report = {
            "target_rms": self.target_rms,
            "target_rms_missed": float(missed.float().mean()),
            "search_calls_per_target": float(self.rounds * self.samples * self.network_calls),
            "strength_10": low,
            "strength_50": middle,
            "strength_90": high,
        }
        if missed.any():
            warnings.warn(
                f"StrengthSearch: for {int(missed.sum())} of {len(missed)} targets no strength from {LOWEST:.2g} to "
                f"{HIGHEST:g} came within a fifth of target_rms {self.target_rms:g}; there the fiber RMS is "
                f"{float(reached[missed].mean()):.3g}",
                stacklevel=2,
            )


def find_strength(measure: Callable[[Tensor], Tensor], goal: float, targets: int, rounds: int) -> tuple[Tensor, Tensor]:
    """The strengths at which the measured fiber RMS is nearest to `goal`, target by target.

    It bisects the logarithm of the strength. The measurement is noisy and need not be monotone at the ends (too much
    guidance leaves the data, and the fiber with it), so of all strengths tried the one that came nearest is kept.

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


class Calibrated(NamedTuple):
    """Samples with a given mean score.

    Args:
        samples: `(N, ...)`.
        strength: at which they were drawn.
        score: their mean score.
    """

    samples: Tensor
    strength: float
    score: float


def calibrate(
    draw: Callable[[float], Tensor],
    score: Callable[[Tensor], Tensor],
    goal: float,
    low: float = 2.0**-8,
    high: float = 2.0**8,
    rounds: int = 10,
) -> Calibrated:
    """The one strength at which the mean score of samples is nearest to `goal`, by bisection of its logarithm.

    This compares methods at equal expected score, as EnergyDPS does. The score should grow with the strength; where it
    does not, the strength that came nearest of all that were tried is kept.

    Args:
        draw: samples at a strength, with the same random numbers every time.
        score: `(N,)` of samples, or `(N, 1)`.
        goal: the mean score.
        low, high: between which strengths, positive.
        rounds: draws; the answer is within a factor `(high / low)^(2^-rounds)` of the crossing.

    Raises:
        ValueError: a number out of range.
    """
    check_number("calibrate", "rounds", rounds, least=1)
    check_number("calibrate", "low", low, above=0, below=high)
    best: Calibrated | None = None
    for _ in range(rounds):
        middle = math.sqrt(low * high)
        samples = draw(middle)
        reached = float(score(samples).mean())
        if best is None or abs(reached - goal) < abs(best.score - goal):
            best = Calibrated(samples, middle, reached)
        low, high = (middle, high) if reached < goal else (low, middle)
    assert best is not None
    return best
