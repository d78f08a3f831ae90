"""What an image costs, given the representation it should have."""

import math
from abc import ABC, abstractmethod
from typing import Any, Literal, Self, get_args

import torch
from torch import Tensor, nn

from fibermodels.checks import check_choice
from fibermodels.component import Component
from fibermodels.core import Subject
from fibermodels.distances import DISTANCES, DistanceName

EnergyKind = Literal["linear", "capped", "hinge", "target"]
Reduction = Literal["mean", "max", "mix"]


class Cost(Component, ABC):
    """A differentiable number for each image; the lower, the better."""

    @abstractmethod
    def forward(self, subject: Subject, images: Tensor, h: Tensor) -> Tensor:
        """Costs `(B,)`; row by row, never coupled through the batch.

        Args:
            subject: the network under study.
            images: `(B, C, H, W)` in [0, 1].
            h: targets `(B, *feature_shape)`.
        """

    def at(self, step: int) -> Self:
        """This cost with the random numbers of a step of an optimisation, which are others in every step.

        A cost without random numbers stays what it is; one that contains costs contains theirs of the step.
        """
        arguments = {name: _at(value, step) for name, value in self.arguments.items()}
        changed = any(arguments[name] is not value for name, value in self.arguments.items())
        return type(self)(**arguments) if changed else self


def _at(value: Any, step: int) -> Any:
    """An argument of a cost at a step; itself where no cost in it changes."""
    if isinstance(value, Cost):
        return value.at(step)
    if isinstance(value, list):
        found = [_at(each, step) for each in value]
        return found if any(new is not old for new, old in zip(found, value, strict=True)) else value
    return value


class FiberDistance(Cost):
    """`d(phi(x), h)`.

    Args:
        distance: a name of `fibermodels.distances.DISTANCES`.
    """

    def __init__(self, distance: DistanceName = "rms") -> None:
        super().__init__()
        check_choice("FiberDistance", "distance", distance, DISTANCES)
        self.distance = DISTANCES[distance]

    def forward(self, subject: Subject, images: Tensor, h: Tensor) -> Tensor:
        return self.distance(h, subject(images))


class ScoreEnergy(Cost):
    """An energy of one score `a(x)` of the subject, instead of a distance to a whole representation.

        linear    -a                                   without limit
        capped    -min(a, level)                       up to a level; no force above it
        hinge     -a + 10 relu(a - level)^2            up to a level; pulled back from above
        target    (a - level)^2                        at a level

    The score is one or more units of the flattened representation, reduced to a number by their mean, their
    maximum, or `mix = 0.7 max + 0.3 mean` (a feature map: name all of its positions). The target `h` is ignored.

    Reference: EnergyDPS (visual interpretation under the KL-minimal soft constraint), appendix J.2.

    Args:
        index: the unit, or units; None takes all.
        kind: `linear`, `capped`, `hinge` or `target`.
        level: of every kind but `linear`, in units of the score.
        reduction: `mean`, `max` or `mix`.
    """

    def __init__(
        self,
        index: int | list[int] | None = None,
        kind: EnergyKind = "linear",
        level: float | None = None,
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__()
        check_choice("ScoreEnergy", "kind", kind, get_args(EnergyKind))
        check_choice("ScoreEnergy", "reduction", reduction, get_args(Reduction))
        if (level is None) != (kind == "linear"):
            raise ValueError(f"ScoreEnergy: level must be given for every kind but 'linear', got {level} for '{kind}'")
        self.units = [index] if isinstance(index, int) else index
        if self.units is not None and (not self.units or min(self.units) < 0):
            raise ValueError(f"ScoreEnergy: index must name units from 0 on, got {index}")
        self.kind, self.level, self.reduction = kind, level, reduction

    def forward(self, subject: Subject, images: Tensor, h: Tensor) -> Tensor:
        score = self.score(subject(images))
        if self.level is None:
            return -score
        if self.kind == "capped":
            return -score.clamp(max=self.level)
        if self.kind == "hinge":
            return 10 * (score - self.level).relu().square() - score
        return (score - self.level).square()

    def score(self, representations: Tensor) -> Tensor:
        """`a`, `(B,)`, of representations `(B, *feature_shape)`."""
        units = representations.flatten(1)
        if self.units is not None:
            if max(self.units) >= units.shape[1]:
                raise ValueError(f"ScoreEnergy: index {max(self.units)} is not among the {units.shape[1]} units")
            units = units[:, self.units]
        return torch.lerp(units.mean(1), units.amax(1), {"mean": 0.0, "max": 1.0, "mix": 0.7}[self.reduction])


class SeenBy(Cost):
    """A cost of what another network sees, at a target of its own.

    With `soft_cross_entropy` and a target of one large logit it is minus the log-probability of a class:
    `SeenBy(FiberDistance("soft_cross_entropy"), classifier, [0.0, 50.0, 0.0])`.

    Args:
        cost: the inner cost.
        network: takes the same images as the subject.
        target: the entries of its representation in order, for every row.

    Raises:
        ValueError: another number of entries.
    """

    def __init__(self, cost: Cost, network: Subject, target: list[float]) -> None:
        super().__init__()
        if len(target) != math.prod(network.feature_shape):
            raise ValueError(
                f"SeenBy: target: expected the {math.prod(network.feature_shape)} entries of "
                f"{list(network.feature_shape)}, got {len(target)}"
            )
        self.cost, self.network, self.target = cost, network, list(target)

    def forward(self, subject: Subject, images: Tensor, h: Tensor) -> Tensor:
        own = images.new_tensor(self.target).view(1, *self.network.feature_shape)
        return self.cost(self.network, images, own.expand(len(images), *own.shape[1:]))


class WeightedSum(Cost):
    """`sum_i w_i cost_i`.

    Args:
        costs: the costs, at least one.
        weights: as many numbers.
    """

    def __init__(self, costs: list[Cost], weights: list[float]) -> None:
        super().__init__()
        if not costs or len(costs) != len(weights):
            raise ValueError(f"WeightedSum: expected a weight for each cost, got {len(weights)} for {len(costs)}")
        self.costs, self.weights = nn.ModuleList(costs), list(weights)

    def forward(self, subject: Subject, images: Tensor, h: Tensor) -> Tensor:
        terms = [w * cost(subject, images, h) for w, cost in zip(self.weights, self.costs, strict=True)]
        return torch.stack(terms).sum(0)
