"""Does a network decide by a spurious cue? Then its fibers hold the cue more often than the data of the class.

Two families of cues are compared, for all classes at once: what the images hold, in data and samples of the fibers
(`holding.py`), and marks that no image has, squares of random colours at random places (`marks.py`). `suspects.py` has
the nulls. The p-values count both families.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from fibermodels.applications.cues import GRID
from fibermodels.applications.drawing import fibers
from fibermodels.applications.finding import Finding, Merit, Strip, Table
from fibermodels.applications.holding import compare_held, distinct
from fibermodels.applications.marks import compare_marks
from fibermodels.applications.suspects import FEWEST, LISTED, Family, Suspect
from fibermodels.checks import check_numbers
from fibermodels.core import FiberModel, Subject
from fibermodels.display import heat

LEVEL = 0.01
"""Of the p-values of what is reported."""

SHOWN = 8
"""Images in a row."""


@dataclass(frozen=True, repr=False)
class Audit(Finding):
    """The cues that fibers hold, by rank.

    Args:
        images: the data `(B, C, H, W)`.
        labels: their classes `(B,)`.
        decisions: of the subject, `(B,)`.
        samples: of their fibers, without copies, `(S, C, H, W)`.
        families: what was compared.
        suspects: the leading cue of each class and place, the most suspicious first.
        known: the classes with data and decisions, `(K,)`.
        classes: names of all classes.
        networks: how many others the null has.
    """

    question = "Does the network decide by a spurious cue?"

    images: Tensor
    labels: Tensor
    decisions: Tensor
    samples: Tensor
    families: list[Family]
    suspects: list[Suspect]
    known: Tensor
    classes: Sequence[str]
    networks: int

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
                first.limit,
                f"The difference between the fibers and the data for the cue '{first.cue}' of class "
                f"{self._name(first.label)}, in standard errors, beyond the mean of other networks; where there is "
                f"nothing to find, in shuffles and in {self.networks} other networks, the largest one stays below the "
                "null with a probability of 95 %.",
            ),
            Merit(
                "rate of the leading cue",
                first.rate,
                first.data,
                "The rate of the cue in the fibers of the class; the null is its rate in the data.",
            ),
        ]

    def figures(self) -> dict[str, float]:
        return super().figures() | {
            "found": len(self.found),
            "pvalue": self.suspects[0].pvalue,
            "networks": self.networks,
        }

    def _name(self, label: int) -> str:
        return str(self.classes[label]) if label < len(self.classes) else str(label)

    def strips(self) -> list[Strip]:
        rows = []
        for each in self.suspects[:3]:
            title = f"{self._name(each.label)}: {each.cue}"
            rows.append(Strip(title, each.fibers, ["fiber"] * len(each.fibers)))
            rows.append(Strip(each.compared, each.beside, [""] * len(each.beside)))
        maps = self._maps()
        names = [self._name(label) for label in self.known.tolist()]
        return [*rows, *(Strip("where", maps[i : i + SHOWN], names[i : i + SHOWN]) for i in range(0, len(maps), SHOWN))]

    def _maps(self) -> Tensor:
        """The largest statistic at each place for each class, as a share of twice its limit; as images."""
        found = torch.zeros(len(self.known), GRID**2)
        for family in self.families:
            limit = max(2 * family.null.limit(), 1e-6)
            for place in set(family.places.tolist()) - {-1}:
                own = family.statistics[:, family.places == place].amax(1) / limit
                found[:, place] = found[:, place].maximum(own)
        grid = found.unflatten(1, (GRID, GRID))[:, None]
        return heat(interpolate(grid, self.images.shape[2:], mode="nearest")[:, 0], 1.0)

    def table(self) -> Table:
        lines = [
            [
                self._name(each.label),
                each.cue,
                f"{each.rate:.3f} ({each.interval[0]:.3f} to {each.interval[1]:.3f})",
                *(f"{each.data:.3f}", f"{each.others:.3f}", f"{each.statistic:.1f}"),
                *(f"{each.limit:.1f}", f"{each.pvalue:.2g}"),
            ]
            for each in self.suspects
        ]
        titles = ["class", "cue", "rate in its fibers", "in the data", "in other fibers", "statistic", "null", "p"]
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
    others: Mapping[str, Subject] | None = None,
    copies: int = 8,
    shuffles: int = 300,
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
        others: networks by name of the same kind, such as other seeds, that were not trained with what is suspected:
            what they have in common is no suspicion, and the null is the largest statistic of networks like these.
            None tests against decisions that know the classes only, which is less than a real network knows.
        copies: of each image with squares of random colours; 0 looks for no marks.
        shuffles: for the null, at least 200: with fewer, no p-value is below .01.
        seed: of samples, marks and shuffles.
        classes: their names.

    Raises:
        ValueError: no images for the subject, other labels, fewer than two classes, one or two other networks, or a
            number out of its range.
    """
    check_numbers("audit", {"shuffles": shuffles}, least=200)
    check_numbers("audit", {"copies": copies}, least=0)
    networks = list((others or {}).values())
    if 0 < len(networks) < FEWEST:
        raise ValueError(f"audit: others: expected none or at least {FEWEST} networks, got {len(networks)}")
    drawn = fibers(model, subject, images, 1, seed)
    before = drawn.h.flatten(1).argmax(1)
    truth = before if labels is None else labels.long()
    if truth.shape != before.shape:
        raise ValueError(f"audit: labels: expected one for each of {len(images)} images, got {list(truth.shape)}")
    known = torch.tensor(sorted(set(truth.tolist()) & set(before.tolist())))
    if len(known) < 2:
        raise ValueError(f"audit: images: expected two classes with data and decisions, got {known.tolist()}")
    kept = distinct(drawn.x_hat[0], before)
    samples, own = drawn.x_hat[0][kept], before[kept]
    found = [compare_held(images, truth, samples, own, known, judges or {}, networks, shuffles, seed)]
    if copies:
        found.append(compare_marks(subject, images, before, known, networks, copies, shuffles, seed))
    suspects = [replace(each, pvalue=min(1.0, len(found) * each.pvalue)) for _, listed in found for each in listed]
    suspects.sort(key=lambda each: (each.pvalue, -each.statistic / max(each.limit, 1e-6)))
    families = [family for family, _ in found]
    return Audit(images, truth, before, samples, families, suspects[:LISTED], known, classes or [], len(networks))
