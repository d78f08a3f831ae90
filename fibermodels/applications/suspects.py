"""Which of many statistics are too large: p-values over all classes and cues at once, and those of one class and place.

Two nulls count, and the larger p-value of a statistic is taken. Shuffles of the data are exact for a network whose
decisions know the classes only. No network is like that: a good one errs for images of some kind more often than for
others. So `R` other networks of the same kind, which were not trained with what is suspected, count twice. First, what
they have in common is no suspicion: from the statistic of each class and cue, their mean is taken,

    (own - mean of the others) / sqrt(1 + 1/R),

and so it is for each of them, with the mean of the `R - 1` others. Second, the largest of these is the other null. For
one more network of them, the logarithm of its largest statistic is predicted to be within `mean + t sd sqrt(1 + 1/R)`,
with `t` of Student's law with `R - 1` degrees of freedom.

References: Westfall & Young, Resampling-Based Multiple Testing (1993), for the largest statistic; Efron, Large-Scale
Simultaneous Hypothesis Testing: The Choice of a Null Hypothesis (2004), for nulls that are wider than the theoretical
one; Geisser, Predictive Inference (1993), for the prediction.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from scipy.stats import t as student
from torch import Tensor

LISTED, SHOWN = 10, 8
"""Suspects, and images of each, at most."""

FEWEST = 3
"""Other networks, if there are any."""

TINY = 1e-6


@dataclass(frozen=True)
class Suspect:
    """A cue in the fibers of a class.

    Args:
        label: the class.
        cue: its name.
        place: its square of the grid, -1 for a cue of the whole image.
        rate: in the class's fibers.
        interval: of the rate, 95 %.
        data: the rate in the data.
        others: the rate in the fibers of other classes.
        statistic: the difference in standard errors, beyond the mean of other networks.
        limit: the 95 % quantile of the largest statistic under the null.
        pvalue: over all classes and cues.
        fibers: some images of the fibers that hold the cue, `(n, C, H, W)`.
        beside: images to compare with, `(m, C, H, W)`.
        compared: what these are.
    """

    label: int
    cue: str
    place: int
    rate: float
    interval: tuple[float, float]
    data: float
    others: float
    statistic: float
    limit: float
    pvalue: float
    fibers: Tensor
    beside: Tensor
    compared: str


def beyond(own: Tensor, others: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
    """Statistics `(K, Q)` of a network and of others, none or at least `FEWEST`, beyond the mean of all others."""
    if not others:
        return own, []
    total = torch.stack(list(others)).sum(0)
    rest = len(others) - 1
    left = [(each - (total - each) / rest) / (1 + 1 / rest) ** 0.5 for each in others]
    return (own - total / len(others)) / (1 + 1 / len(others)) ** 0.5, left


@dataclass(frozen=True)
class Null:
    """The largest statistics where there is nothing to find.

    Args:
        shuffled: of shuffles, `(S,)`.
        networks: of other networks, `(R,)`, none or at least `FEWEST`.
    """

    shuffled: Tensor
    networks: Tensor

    @classmethod
    def of(cls, shuffled: Iterable[Tensor], networks: Iterable[Tensor]) -> Null:
        """Of the statistics `(K, Q)` of each shuffle and of each other network."""
        return cls(*(torch.tensor([float(each.max()) for each in part]) for part in (shuffled, networks)))

    def pvalue(self, statistic: float) -> float:
        """How often the largest statistic of the null reaches this one."""
        own = float((1 + (self.shuffled >= statistic).sum()) / (1 + len(self.shuffled)))
        if not len(self.networks):
            return own
        mean, spread = self._predicted()
        far = (torch.tensor(max(statistic, TINY)).log().item() - mean) / spread
        return max(own, float(student.sf(far, len(self.networks) - 1)))

    def limit(self, level: float = 0.05) -> float:
        """The statistic that the largest one of the null exceeds with probability `level`."""
        own = float(self.shuffled.quantile(1 - level))
        if not len(self.networks):
            return own
        mean, spread = self._predicted()
        far = float(student.isf(level, len(self.networks) - 1))
        return max(own, float(torch.tensor(mean + far * spread).exp()))

    def _predicted(self) -> tuple[float, float]:
        """The centre and the scale of the logarithm of the largest statistic of one more network."""
        logs = self.networks.clamp(min=TINY).log()
        return float(logs.mean()), max(float(logs.std()) * (1 + 1 / len(logs)) ** 0.5, TINY)


@dataclass(frozen=True)
class Family:
    """Cues that were compared in one way.

    Args:
        names: of the cues.
        places: the square of each, `(Q,)`, -1 for a cue of the whole image.
        statistics: of all known classes and cues, `(K, Q)`.
        null: of the largest of them.
    """

    names: list[str]
    places: Tensor
    statistics: Tensor
    null: Null

    def leading(self) -> list[tuple[int, int]]:
        """Class and cue of the largest statistics, one for each class and place."""
        found: list[tuple[int, int]] = []
        seen: set[tuple[int, int | str]] = set()
        for flat in self.statistics.flatten().argsort(descending=True).tolist():
            k, q = divmod(flat, self.statistics.shape[1])
            place = int(self.places[q])
            key = (k, place if place >= 0 else self.names[q])
            if key in seen:
                continue
            seen.add(key)
            found.append((k, q))
            if len(found) == LISTED:
                break
        return found

    def suspects(
        self,
        known: Tensor,
        held: Tensor,
        decided: Tensor,
        show: Callable[[int, int, Tensor], tuple[float, Tensor, Tensor]],
        compared: str,
    ) -> list[Suspect]:
        """The leading classes and cues, with their rates and images.

        Args:
            known: the classes of the statistics, `(K,)`.
            held: which images of the fibers hold which cues, `(N, Q)`.
            decided: the class of each, `(N,)`.
            show: of a class, a cue and some images that hold it, by their rows: the rate in the data, these images and
                those beside them.
            compared: what the images beside them are.
        """
        found = []
        for k, q in self.leading():
            own, holds = int(known[k]), held[:, q]
            mine = decided == own
            data, fibers, beside = show(own, q, (mine & (holds > 0)).nonzero()[:SHOWN, 0])
            statistic, rate = float(self.statistics[k, q]), float(holds[mine].mean())
            suspect = Suspect(
                label=own,
                cue=self.names[q],
                place=int(self.places[q]),
                rate=rate,
                interval=interval(rate, int(mine.sum())),
                data=data,
                others=float(holds[~mine].mean()),
                statistic=statistic,
                limit=self.null.limit(),
                pvalue=self.null.pvalue(statistic),
                fibers=fibers,
                beside=beside,
                compared=compared,
            )
            found.append(suspect)
        return found


def interval(rate: float, count: int) -> tuple[float, float]:
    """Of a rate, 95 %."""
    error = 1.96 * (rate * (1 - rate) / max(count, 1)) ** 0.5
    return max(0.0, rate - error), min(1.0, rate + error)
