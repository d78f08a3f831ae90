"""Does a network decide by a spurious cue? Then its fibers hold the cue more often than the data of the class.

For each class `y`, the rate of a cue is compared between the data of `y` and samples of the fibers of the decision `y`,
one of each image that the network decides for `y`. The statistic of class and cue is the difference of the rates, minus
that of all other classes, in standard errors. So what a model does to all samples alike cancels.

All classes and cues are tested at once: a p-value counts how often the largest statistic under the null reaches a
statistic. The null has two parts, and the larger statistic counts. Classes are shuffled over data and samples, as for a
subject whose decisions say nothing of the class; and data and samples are exchanged at random within each class, as for
decisions that depend on the class alone.

Reference: Westfall & Young, Resampling-Based Multiple Testing (1993), for the largest statistic.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import interpolate, one_hot

from fibermodels.applications.cues import GRID, Cues, held
from fibermodels.applications.drawing import fibers
from fibermodels.applications.finding import Finding, Merit, Strip, Table
from fibermodels.checks import check_numbers
from fibermodels.core import FiberModel, Subject
from fibermodels.display import heat
from fibermodels.noise import seeded

LEVEL = 0.01
"""Of the p-values of what is reported."""

SHOWN, LISTED = 8, 10
"""Samples in a row, and suspects at most."""


@dataclass(frozen=True)
class Suspect:
    """A cue in the fibers of a class.

    Args:
        label: the class.
        cue: its name.
        rate: in the samples of the class's fibers.
        interval: of the rate, 95 %.
        data: the rate in the data of the class.
        others: the rate in the samples of other classes' fibers.
        statistic: the difference in standard errors.
        pvalue: over all classes and cues.
        index: of the cue.
    """

    label: int
    cue: str
    rate: float
    interval: tuple[float, float]
    data: float
    others: float
    statistic: float
    pvalue: float
    index: int


@dataclass(frozen=True, repr=False)
class Audit(Finding):
    """The cues that fibers hold, by rank.

    Args:
        images: the data `(B, C, H, W)`.
        labels: their classes `(B,)`.
        decisions: of the subject, `(B,)`.
        samples: of their fibers, `(B, C, H, W)`.
        cues: which of them hold which cues.
        suspects: the leading cue of each class and place, the most suspicious first.
        limit: the 95 % quantile of the largest statistic under the null.
        statistics: of all known classes and cues, `(K, Q)`.
        known: the classes with data and decisions, `(K,)`.
        classes: names of all classes.
    """

    question = "Does the network decide by a spurious cue?"

    images: Tensor
    labels: Tensor
    decisions: Tensor
    samples: Tensor
    cues: Cues
    suspects: list[Suspect]
    limit: float
    statistics: Tensor
    known: Tensor
    classes: Sequence[str]

    @property
    def found(self) -> list[Suspect]:
        """The suspects with a p-value of at most .01."""
        return [each for each in self.suspects if each.pvalue <= LEVEL]

    @property
    def merits(self) -> list[Merit]:
        first = self.suspects[0]
        return [
            Merit(
                "leading statistic",
                first.statistic,
                self.limit,
                f"The difference between the fibers and the data for the cue '{first.cue}' of class "
                f"{self._name(first.label)}, beyond that of other classes, in standard errors; with shuffled labels, "
                "and for exact fibers of the data, the largest one stays below the null in 95 % of shuffles.",
            ),
            Merit(
                "rate of the leading cue",
                first.rate,
                first.data,
                "The rate of the cue in the fibers of the class; the null is its rate in the data of the class.",
            ),
        ]

    def figures(self) -> dict[str, float]:
        return super().figures() | {"found": len(self.found), "pvalue": self.suspects[0].pvalue}

    def _name(self, label: int) -> str:
        return str(self.classes[label]) if label < len(self.classes) else str(label)

    def strips(self) -> list[Strip]:
        rows = []
        for each in self.suspects[:3]:
            own = (self.decisions == each.label).nonzero()[:, 0]
            data = self.images[self.labels == each.label][:SHOWN]
            holds = self.cues.fibers[own, each.index]
            order = holds.argsort(descending=True, stable=True)[:SHOWN]
            title = f"{self._name(each.label)}: {each.cue}"
            captions = ["with" if holds[i] else "without" for i in order.tolist()]
            rows.append(Strip(title, self.samples[own[order]], captions))
            rows.append(Strip(f"{self._name(each.label)}: data", data, [""] * len(data)))
        maps = self._maps()
        names = [self._name(label) for label in self.known.tolist()]
        return [*rows, *(Strip("where", maps[i : i + SHOWN], names[i : i + SHOWN]) for i in range(0, len(maps), SHOWN))]

    def _maps(self) -> Tensor:
        """The largest statistic at each place for each class, as images of the data's size."""
        at = [self.statistics[:, self.cues.places == place].amax(1) for place in range(GRID**2)]
        grid = torch.stack(at, 1).unflatten(1, (GRID, GRID)).clamp(min=0)[:, None]
        return heat(interpolate(grid, self.images.shape[2:], mode="nearest")[:, 0], max(2 * self.limit, 1e-6))

    def table(self) -> Table:
        lines = [
            [
                self._name(each.label),
                each.cue,
                f"{each.rate:.2f} ({each.interval[0]:.2f} to {each.interval[1]:.2f})",
                *(f"{each.data:.2f}", f"{each.others:.2f}", f"{each.statistic:.1f}", f"{each.pvalue:.2g}"),
            ]
            for each in self.suspects
        ]
        titles = ["class", "cue", "rate in its fibers", "in its data", "in other fibers", "statistic", "p"]
        return Table(titles, lines)

    def __repr__(self) -> str:
        names = [f"{self._name(each.label)}: {each.cue}" for each in self.found]
        return f"Audit(found {names or 'nothing'}; {self.merits[0]})"


def audit(
    model: FiberModel,
    subject: Subject,
    images: Tensor,
    labels: Tensor | None = None,
    judges: Mapping[str, Subject] | None = None,
    shuffles: int = 200,
    seed: int = 0,
    classes: list[str] | None = None,
) -> Audit:
    """Looks for cues that the fibers of a decision hold more often than the data of the class.

    Args:
        model: samples the fibers.
        subject: the network; its decision is the largest entry of its representation, such as logits.
        images: the data `(B, C, H, W)` in [0, 1], hundreds of each class.
        labels: their classes `(B,)`; None takes the decisions.
        judges: further classifiers by name, whose decisions are cues, too.
        shuffles: for the null.
        seed: of samples and shuffles.
        classes: their names.

    Raises:
        ValueError: no images for the subject, other labels, fewer than two classes, or a number out of its range.
    """
    check_numbers("audit", {"shuffles": shuffles}, least=100)
    drawn = fibers(model, subject, images, 1, seed)
    decisions = drawn.h.flatten(1).argmax(1)
    truth = decisions if labels is None else labels.long()
    if truth.shape != decisions.shape:
        raise ValueError(f"audit: labels: expected one for each of {len(images)} images, got {list(truth.shape)}")
    known = torch.tensor(sorted(set(truth.tolist()) & set(decisions.tolist())))
    if len(known) < 2:
        raise ValueError(f"audit: images: expected two classes with data and decisions, got {known.tolist()}")
    cues = held(images, drawn.x_hat[0], judges or {})
    rows = [torch.isin(own, known) for own in (truth, decisions)]
    values = torch.cat((cues.data[rows[0]], cues.fibers[rows[1]]))
    place = torch.searchsorted(known, torch.cat((truth[rows[0]], decisions[rows[1]])))
    sampled = torch.arange(len(values)) >= int(rows[0].sum())
    found, largest = _statistics(values, place, sampled), []
    generator = seeded("audit", seed)
    for _ in range(shuffles):
        chance = torch.rand(len(place), generator=generator)
        shuffled = _statistics(values, place[chance.argsort()], sampled).max()
        exchanged = torch.empty_like(sampled)
        exchanged[(place + chance).argsort()] = sampled[place.argsort(stable=True)]
        largest.append(torch.maximum(shuffled, _statistics(values, place, exchanged).max()))
    null = torch.stack(largest)
    suspects = _ranked(cues, truth, decisions, known, found, null)
    limit = float(null.quantile(0.95))
    return Audit(images, truth, decisions, drawn.x_hat[0], cues, suspects, limit, found, known, classes or [])


def _statistics(values: Tensor, place: Tensor, sampled: Tensor) -> Tensor:
    """The excess of samples over data in each class, beyond that in all others, in standard errors: `(K, Q)`.

    Args:
        values: whether a cue is held, of data and samples `(N, Q)`.
        place: the class of each row, from 0 on.
        sampled: whether a row is a sample.
    """
    excess, error = torch.zeros(()), torch.zeros(())
    for sign, rows in ((1, sampled), (-1, ~sampled)):
        member = one_hot(place[rows], int(place.max()) + 1).to(values).T  # (K, rows)
        counts, sums = member.sum(1, keepdim=True), member @ values[rows]
        for part, held_by, count in ((1, sums, counts), (-1, sums.sum(0) - sums, counts.sum() - counts)):
            rate = (held_by + 0.5) / (count + 1)  # so that one image is not a cue
            excess = excess + sign * part * held_by / count.clamp(min=1)
            error = error + rate * (1 - rate) / count.clamp(min=1)
    return excess / error.sqrt()


def _ranked(
    cues: Cues, truth: Tensor, decisions: Tensor, known: Tensor, statistics: Tensor, null: Tensor
) -> list[Suspect]:
    """The leading cue of each class and place, by statistic."""
    suspects: list[Suspect] = []
    seen: set[tuple[int, int | str]] = set()
    for flat in statistics.flatten().argsort(descending=True).tolist():
        k, q = divmod(flat, statistics.shape[1])
        place = int(cues.places[q])
        key = (k, place if place >= 0 else cues.names[q])
        if key in seen:
            continue
        if len(suspects) == LISTED:
            break
        seen.add(key)
        label, statistic = int(known[k]), float(statistics[k, q])
        mine = decisions == label
        rate = float(cues.fibers[mine, q].mean())
        error = 1.96 * (rate * (1 - rate) / int(mine.sum())) ** 0.5
        suspects.append(
            Suspect(
                label=label,
                cue=cues.names[q],
                rate=rate,
                interval=(max(0.0, rate - error), min(1.0, rate + error)),
                data=float(cues.data[truth == label, q].mean()),
                others=float(cues.fibers[~mine, q].mean()),
                statistic=statistic,
                pvalue=float((1 + (null >= statistic).sum()) / (1 + len(null))),
                index=q,
            )
        )
    return suspects
