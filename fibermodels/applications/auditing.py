"""Does a network decide by a spurious cue? Then its fibers hold the cue more often than the data of the class.

For a target `x` of the class `y`, let `r(x)` be the rate of a cue in the samples of its fiber, minus its presence in
`x`. The statistic of class and cue is the difference of the mean of `r` over targets of `y` from that over all others,
in standard errors. So what a model does to all samples alike cancels.

All classes and cues are tested at once: a p-value counts how often the largest statistic under the null reaches a
statistic. The null has two parts, and the larger statistic counts. The classes of the targets are shuffled, as for a
subject whose decisions say nothing of the class; and each target changes its place with one of its samples, or stays,
which makes no difference if the fibers are those of the data.

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
        interval: of the rate, 95 % over the targets.
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
        samples: of their fibers `(n, B, C, H, W)`.
        cues: which of them hold which cues.
        suspects: the leading cue of each class and place, the most suspicious first.
        limit: the 95 % quantile of the largest statistic under the null.
        statistics: of all classes and cues, `(K, Q)`.
        classes: names of the classes.
    """

    question = "Does the network decide by a spurious cue?"

    images: Tensor
    labels: Tensor
    samples: Tensor
    cues: Cues
    suspects: list[Suspect]
    limit: float
    statistics: Tensor
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
            own = (self.labels == each.label).nonzero()[:, 0]
            flat, holds = self.samples[:, own].flatten(0, 1), self.cues.fibers[:, own, each.index].flatten()
            order = holds.argsort(descending=True, stable=True)[:SHOWN]
            title = f"{self._name(each.label)}: {each.cue}"
            rows.append(Strip(title, flat[order], ["with" if holds[i] else "without" for i in order.tolist()]))
            rows.append(Strip(f"{self._name(each.label)}: data", self.images[own[:SHOWN]], [""] * len(own[:SHOWN])))
        maps = self._maps()
        names = [self._name(label) for label in self.labels.unique().tolist()]
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
    n: int = 4,
    judges: Mapping[str, Subject] | None = None,
    shuffles: int = 1000,
    seed: int = 0,
    classes: list[str] | None = None,
) -> Audit:
    """Looks for cues that the fibers of a class hold more often than the data of the class.

    Args:
        model: samples the fibers.
        subject: the network; its representation should be close to the decision, such as logits.
        images: the data `(B, C, H, W)` in [0, 1], some of each class.
        labels: their classes `(B,)`; None takes the largest entry of the representation.
        n: samples of each.
        judges: further classifiers by name, whose decisions are cues, too.
        shuffles: of the labels, for the null.
        seed: of samples and shuffles.
        classes: their names.

    Raises:
        ValueError: no images for the subject, fewer than two classes, or a number out of its range.
    """
    check_numbers("audit", {"shuffles": shuffles}, least=100)
    samples = fibers(model, subject, images, n, seed)
    decided = samples.h.flatten(1).argmax(1) if labels is None else labels.long()
    known, own = decided.unique(return_inverse=True)
    if len(decided) != len(images) or len(known) < 2:
        raise ValueError(
            f"audit: labels: expected one for each of {len(images)} images, of two classes or more, got "
            f"{len(decided)} of {len(known)} classes"
        )
    cues = held(images, samples.x_hat, judges or {})
    members = torch.cat((cues.data[None], cues.fibers))  # (1 + n, B, Q)
    total, generator = members.sum(0), seeded("audit", seed)

    def excess(places: Tensor) -> Tensor:
        """`r`, `(B, Q)`, if the member at these places `(B,)` were the target of each row."""
        target = members.gather(0, places[None, :, None].expand(1, -1, members.shape[2]))[0]
        return (total - target) / n - target

    real = excess(torch.zeros_like(own))
    found, largest = _statistics(real, own), []
    for _ in range(shuffles):
        shuffled = _statistics(real, own[torch.randperm(len(own), generator=generator)])
        swapped = _statistics(excess(torch.randint(n + 1, own.shape, generator=generator)), own)
        largest.append(torch.maximum(shuffled.max(), swapped.max()))
    null = torch.stack(largest)
    suspects = _ranked(cues, own, known, found, null)
    return Audit(images, decided, samples.x_hat, cues, suspects, float(null.quantile(0.95)), found, classes or [])


def _statistics(excess: Tensor, own: Tensor) -> Tensor:
    """The difference of each class's mean from that of the others in standard errors, `(K, Q)`.

    Args:
        excess: `r`, `(B, Q)`.
        own: the class of each row, from 0 on.
    """
    member = one_hot(own).to(excess).T  # (K, B)
    counts = member.sum(1, keepdim=True)
    rest = len(own) - counts
    sums, squares = member @ excess, member @ excess.square()
    mean, other = sums / counts, (excess.sum(0) - sums) / rest
    within = squares / counts - mean.square()
    outside = (excess.square().sum(0) - squares) / rest - other.square()
    error = (within.clamp(min=0) + 1 / counts) / counts + (outside.clamp(min=0) + 1 / rest) / rest
    return (mean - other) / error.sqrt()  # of Welch, with a variance that one image more would have


def _ranked(cues: Cues, own: Tensor, known: Tensor, statistics: Tensor, null: Tensor) -> list[Suspect]:
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
        mine = own == k
        rates = cues.fibers[:, mine, q].mean(0)
        rate, error = float(rates.mean()), 1.96 * float(rates.var(correction=0) / len(rates)) ** 0.5
        statistic = float(statistics[k, q])
        suspects.append(
            Suspect(
                label=int(known[k]),
                cue=cues.names[q],
                rate=rate,
                interval=(max(0.0, rate - error), min(1.0, rate + error)),
                data=float(cues.data[mine, q].mean()),
                others=float(cues.fibers[:, ~mine, q].mean()),
                statistic=statistic,
                pvalue=float((1 + (null >= statistic).sum()) / (1 + len(null))),
                index=q,
            )
        )
    return suspects
