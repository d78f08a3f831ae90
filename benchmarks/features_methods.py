"""Images that turn a unit on: four methods, each at the activation of the best real images."""

import time
from collections.abc import Callable
from typing import NamedTuple

import torch
from features_subjects import SCORE, STEPS, Laboratory, Unit
from torch import Tensor

from fibermodels.core import FiberModel, Subject
from fibermodels.diffusion import DDIM
from fibermodels.guidance import DPS, MACO, Cost, Guided, PixelOptimisation, ScoreEnergy, calibrate
from fibermodels.noise import seeded

DESCENT, ROUNDS, FEW, LOW, HIGH = 32, 4, 3, 0.05, 2.0
"""Steps of the optimisers; rounds and samples of a calibration, and the strengths between which it looks."""


class Drawn(NamedTuple):
    """Images `(N, 3, 32, 32)` of a method, its knob, and seconds for one of them, calibration included."""

    images: Tensor
    knob: float
    seconds: float


def draw(model: FiberModel, subject: Subject, count: int, *seed: int | str) -> Tensor:
    """Images of one target, which the energies ignore."""
    return model.sample(torch.zeros(1, *subject.feature_shape), count, seeded("features", *seed))[:, 0]


def guided(lab: Laboratory, subject: Subject, cost: Cost, strength: float) -> Guided:
    """EnergyDPS."""
    return Guided(lab.unguided.prior, subject, DPS(), cost, DDIM(STEPS), strength)


def energy_dps(lab: Laboratory, unit: Unit, count: int, cost: Cost = SCORE, high: float = HIGH) -> Drawn:
    """EnergyDPS at the strength whose mean score is the unit's goal, found on samples of their own."""
    subject, start = lab.subject(unit), time.perf_counter()

    def measured(images: Tensor) -> Tensor:
        with torch.no_grad():
            return SCORE.score(subject(images))

    def trial(strength: float) -> Tensor:
        return draw(guided(lab, subject, cost, strength), subject, FEW, "calibration", unit.kind, unit.number)

    found = calibrate(trial, measured, unit.goal, LOW, high, ROUNDS)
    images = draw(guided(lab, subject, cost, found.strength), subject, count, "final", unit.kind, unit.number)
    return Drawn(images, found.strength, (time.perf_counter() - start) / count)


def optimised(build: Callable[..., FiberModel], lab: Laboratory, unit: Unit, count: int, rate: float) -> Drawn:
    """An optimiser with the goal as a target."""
    subject, start = lab.subject(unit), time.perf_counter()
    cost = ScoreEnergy(kind="target", level=unit.goal, reduction="mix")
    model = build(subject, cost, steps=DESCENT, learning_rate=rate)
    return Drawn(draw(model, subject, count, unit.kind, unit.number), rate, (time.perf_counter() - start) / count)


def search(lab: Laboratory, unit: Unit, count: int) -> Drawn:
    """The images of the pool with the highest scores."""
    return Drawn(lab.images(unit.best[:count]), float(count), 0.0)


METHODS: dict[str, Callable[[Laboratory, Unit, int], Drawn]] = {
    "search": search,
    "pixels": lambda lab, unit, count: optimised(PixelOptimisation, lab, unit, count, 0.02),
    "maco": lambda lab, unit, count: optimised(MACO, lab, unit, count, 0.3),
    "energy_dps": energy_dps,
}
