"""Cues that the samples of a decision's fibers hold more often than the data of the class.

For each class `y`, the rate of a cue (`cues.py`) is compared between the data of `y` and samples of the fibers of the
decision `y`, one of each image that the network decides for `y`. The statistic of class and cue is

    a(samples of y) - a(data of y) - (a(samples of others) - a(data of others)),    a(p) = 2 arcsin(sqrt(p)),

in standard errors: `a` has the variance `1/n` for any rate of `n` images. So what a model does to all samples alike
cancels. Samples of a class that are equal count once: a model that shows a population, such as `SameDecision`, draws
from it without replacement then.

The shuffles of the null have two parts, and the larger statistic counts: classes are exchanged over data and samples,
as for a subject whose decisions say nothing of the class; and data and samples are exchanged within each class, as for
decisions that depend on the class alone. Another network's statistics are those of the same images, with its decisions
for the samples in place of the subject's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from fibermodels.applications.cues import Cues, held
from fibermodels.applications.drawing import decisions
from fibermodels.applications.suspects import SHOWN, Family, Null, Suspect, beyond
from fibermodels.core import Subject
from fibermodels.noise import seeded


def distinct(samples: Tensor, label: Tensor) -> Tensor:
    """The rows of samples `(S, C, H, W)` without further copies of an image in a class `(S,)`, in order."""
    seen: set[tuple[int, bytes]] = set()
    rows = []
    for row, (sample, own) in enumerate(zip(samples.numpy(), label.tolist(), strict=True)):
        key = (own, sample.tobytes())
        if key not in seen:
            seen.add(key)
            rows.append(row)
    return torch.tensor(rows)


def compare_held(
    images: Tensor,
    truth: Tensor,
    samples: Tensor,
    label: Tensor,
    known: Tensor,
    judges: Mapping[str, Subject],
    networks: Sequence[Subject],
    shuffles: int,
    seed: int,
) -> tuple[Family, list[Suspect]]:
    """The statistics of cues that images hold, and the leading ones.

    Args:
        images, truth: the data `(B, C, H, W)` and their classes `(B,)`.
        samples, label: of the fibers, `(S, C, H, W)`, and their decisions `(S,)`.
        known: the classes to compare, `(K,)`.
        judges: whose decisions are cues.
        networks: others, for the null.
        shuffles, seed: of the null.
    """
    cues = held(images, samples, judges)
    rows = _rows(cues, truth, label, known)
    theirs = (_rows(cues, truth, decisions(each, samples), known) for each in networks)
    own, others = beyond(statistics(*rows, len(known)), [statistics(*each, len(known)) for each in theirs])
    null = Null.of(_shuffled(*rows, len(known), shuffles, seed), others)
    family = Family(cues.names, cues.places, own, null)

    def show(own: int, q: int, which: Tensor) -> tuple[float, Tensor, Tensor]:
        data = truth == own
        return float(cues.data[data, q].mean()), samples[which], images[data][:SHOWN]

    return family, family.suspects(known, cues.fibers, label, show, "data of the class")


def _shuffled(
    values: Tensor, place: Tensor, sampled: Tensor, classes: int, shuffles: int, seed: int
) -> Iterator[Tensor]:
    """The larger statistics of each shuffle: of classes over all rows, and of data and samples within each class."""
    generator = seeded("audit", seed)
    for _ in range(shuffles):
        chance = torch.rand(len(place), generator=generator)
        exchanged = torch.empty_like(sampled)
        exchanged[(place + chance).argsort()] = sampled[place.argsort(stable=True)]
        shuffled = statistics(values, place[chance.argsort()], sampled, classes)
        yield torch.maximum(shuffled, statistics(values, place, exchanged, classes))


def _rows(cues: Cues, truth: Tensor, label: Tensor, known: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """What data and samples of known classes hold, `(N, Q)`, the positions of their classes, and which are samples."""
    rows = [torch.isin(own, known) for own in (truth, label)]
    values = torch.cat((cues.data[rows[0]], cues.fibers[rows[1]]))
    place = torch.searchsorted(known, torch.cat((truth[rows[0]], label[rows[1]])))
    return values, place, torch.arange(len(values)) >= int(rows[0].sum())


def statistics(values: Tensor, place: Tensor, sampled: Tensor, classes: int) -> Tensor:
    """The excess of samples over data in each class, beyond that in all others, in standard errors: `(K, Q)`.

    Args:
        values: whether a cue is held, of data and samples `(N, Q)`.
        place: the class of each row, from 0 on.
        sampled: whether a row is a sample.
        classes: K.
    """
    excess, error = torch.zeros(()), torch.zeros(())
    for sign, rows in ((1, sampled), (-1, ~sampled)):
        member = one_hot(place[rows], classes).to(values).T  # (K, rows)
        counts, sums = member.sum(1, keepdim=True), member @ values[rows]
        for part, held_by, count in ((1, sums, counts), (-1, sums.sum(0) - sums, counts.sum() - counts)):
            rate = (held_by + 0.375) / (count + 0.75)  # Anscombe (1948)
            excess = excess + sign * part * 2 * rate.sqrt().asin()
            error = error + 1 / (count + 0.5)
    return excess / error.sqrt()
