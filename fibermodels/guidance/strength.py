"""Ask for a fidelity: the strength of a guidance is found target by target, or one for an expected score."""

import math
import warnings
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from fibermodels import distances
from fibermodels.checks import NotFinite, check_number, check_numbers
from fibermodels.core import FiberModel, Reports
from fibermodels.guidance.guided import Steered
from fibermodels.noise import target_noise
from fibermodels.spaces import HasInputSpace

FIRST, STEP, LAST, TINY = (0.0, -math.inf), 3.0, 60.0, 1e-30
"""Binary logarithms of the first strengths, 1 and 0, of the first factor by which the search leaves 1, and of the
largest strength; and an RMS that counts as 0."""

SHORT = 1.2
"""A target counts as missed where the fiber RMS is off by more than this factor."""


class StrengthSearch(FiberModel, HasInputSpace, Reports):
    """A steered prior at the strength that reaches a given fiber RMS, for each target by itself.

    The strength is measured on samples of its own. It may be any positive number, because it has the unit of one over
    the cost, which a subject with large numbers makes tiny. `report` says what was chosen, how many calls of the
    network the search took for each target, and for how many targets no strength came within a fifth of the goal; a
    warning tells of these, too.

    Args:
        model: the steered prior; its own strength is not used.
        target_rms: the fiber RMS to reach.
        samples: samples of each target on which a strength is measured.
        rounds: strengths that are measured, each at the cost of sampling; the first is 1, the second is 0.

    Raises:
        ValueError: a number out of its range.
    """

    def __init__(self, model: Steered, target_rms: float, samples: int = 4, rounds: int = 10) -> None:
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

        def measure(strength: Tensor) -> Tensor:
            return self._measured(noise[n:], h, x, strength.to(h))

        strength, reached = find_strength(measure, self.target_rms, len(h), self.rounds)
        self._say(strength, reached)
        return self.model.steering(h, x)(noise[:n], strength.to(h))

    def _measured(self, noise: Tensor, h: Tensor, x: Tensor | None, strength: Tensor) -> Tensor:
        """The mean fiber RMS `(B,)` of samples. It is NaN for a target that the guidance drives to infinity."""
        try:
            found = self.model.steering(h, x)(noise, strength)
        except NotFinite:
            if len(h) == 1:
                return strength.new_full((1,), math.nan)
            parts = [slice(None, len(h) // 2), slice(len(h) // 2, None)]
            own = [(noise[:, part], h[part], None if x is None else x[part], strength[part]) for part in parts]
            return torch.cat([self._measured(*part) for part in own])
        return torch.stack([distances.rms(h, self.model.subject(slot)) for slot in found]).mean(0)

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
            nearest = strength[missed]
            warnings.warn(
                f"StrengthSearch: for {int(missed.sum())} of {len(missed)} targets none of the {self.rounds} strengths "
                f"that were tried came within a fifth of target_rms {self.target_rms:g}; at the nearest ones, from "
                f"{float(nearest.min()):.2g} to {float(nearest.max()):.2g}, the fiber RMS is "
                f"{float(reached[missed].mean()):.3g}",
                stacklevel=2,
            )


def find_strength(measure: Callable[[Tensor], Tensor], goal: float, targets: int, rounds: int) -> tuple[Tensor, Tensor]:
    """The strengths at which the measured fiber RMS is nearest to `goal`, target by target.

    As a function of the strength the RMS falls, and rises again where too much guidance leaves the data, and the fiber
    with it. So of all strengths tried, the weakest one that reaches the goal is bracketed from below; where none has
    reached it, the search goes to both sides of the lowest RMS. The measurement is noisy: the strongest one within a
    fifth of the lowest counts as the lowest, and the one that came nearest to the goal is kept.

    Args:
        measure: the fiber RMS `(targets,)` at strengths `(targets,)` of at least 0; with the same random numbers every
            time. Numbers that are not finite count as infinite.
        goal: the RMS asked for, positive.
        targets: how many there are.
        rounds: measurements; the first is at strength 1, the second at 0.

    Returns:
        The strengths and the RMS measured there, each `(targets,)`, on the CPU.
    """
    tried: list[list[tuple[float, float]]] = [[] for _ in range(targets)]  # binary logarithms of strengths, and the RMS
    for turn in range(rounds):
        at = [FIRST[turn] if turn < len(FIRST) else _next(own, goal) for own in tried]
        found = measure(torch.tensor(at).exp2()).detach().cpu().nan_to_num(nan=math.inf).tolist()
        for own, point in zip(tried, zip(at, found, strict=True), strict=True):
            own.append(point)
    best = [min(own, key=lambda point: abs(math.log(max(point[1], TINY) / goal))) for own in tried]
    strength, reached = torch.tensor(best).unbind(1)
    return strength.exp2(), reached


def _next(tried: list[tuple[float, float]], goal: float) -> float:
    """Where to look next for a target, as a binary logarithm, after points that include strength 0."""
    points = sorted(tried)
    enough = next((i for i, (_, rms) in enumerate(points) if rms <= goal), None)
    least = SHORT * min(rms for _, rms in points)
    i = max(i for i, (_, rms) in enumerate(points) if rms <= least) if enough is None else enough
    at = [point[0] for point in points]
    if i <= 1 and (enough is not None or i < len(points) - 1):  # nothing but 0 is weaker
        return max(at[1] - (2 * (at[2] - at[1]) if len(points) > 2 else STEP), -LAST)
    if enough is not None:
        return _between(points[i - 1], points[i], goal, straight=len(points) % 2 == 0)
    if i == len(points) - 1:
        return min(at[i] + (2 * (at[i] - at[i - 1]) if i > 1 else STEP), LAST)
    left, right = at[i] - at[i - 1], at[i + 1] - at[i]
    return at[i] + right / 2 if right >= left else at[i] - left / 2


def _between(weak: tuple[float, float], strong: tuple[float, float], goal: float, straight: bool) -> float:
    """A number between two points, of which one misses the goal and the other reaches it: where the straight line
    through the logarithms of their RMS crosses the goal; or the middle, if there is none or `straight` is false."""
    above, below = math.log(weak[1] / goal), math.log(max(strong[1], TINY) / goal)
    share = above / (above - below) if straight and math.isfinite(above) else 0.5
    return weak[0] + min(max(share, 0.05), 0.95) * (strong[0] - weak[0])


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
