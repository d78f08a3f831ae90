"""What an application finds: pictures, and a figure of merit beside its null."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from scipy.stats import t as student
from torch import Tensor

from fibermodels import distances
from fibermodels.display import png, rows

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Merit:
    """A figure of merit beside its null.

    Args:
        name: what the number is, in a few words.
        value: of what was asked.
        null: the same number where there is nothing to find.
        meaning: a sentence that says what both are.
        gain: the 95 % interval of the value minus the null over targets, if both are means over the same targets.
    """

    name: str
    value: float
    null: float
    meaning: str
    gain: tuple[float, float] | None = None

    @classmethod
    def paired(cls, name: str, values: Tensor, nulls: Tensor, meaning: str) -> Merit:
        """Of the means of numbers of the same B targets, `(B,)` each; the interval is `mean +- t sd / sqrt(B)` of the
        differences, with the quantile `t` of Student's law. One target has no interval."""
        change, gain = values - nulls, None
        if len(change) > 1:
            far = float(student.isf(0.025, len(change) - 1)) * float(change.std()) / len(change) ** 0.5
            gain = (float(change.mean()) - far, float(change.mean()) + far)
        return cls(name, float(values.mean()), float(nulls.mean()), meaning, gain)

    def __str__(self) -> str:
        gain = "" if self.gain is None else f"; gain {self.gain[0]:.3g} to {self.gain[1]:.3g}"
        return f"{self.name} {self.value:.3g} (null {self.null:.3g}{gain})"


def fidelity(asked: Tensor, reached: Tensor) -> list[Merit]:
    """How far samples are from the representations that they were asked for; of one target alone there is no null, and
    so no merit.

    Args:
        asked: `(B, *feature_shape)`.
        reached: representations of the samples, `(n, B, *feature_shape)`.
    """
    if len(asked) < 2:
        return []
    own, others = (distances.rms(each, reached, batch_dims=2).mean(0) for each in (asked, asked.roll(1, 0)))
    meaning = (
        "The root mean square distance of the representation of the samples from the one that was asked for; the null "
        "is their distance from that of another target."
    )
    return [Merit.paired("fiber rms", own, others, meaning)]


@dataclass(frozen=True)
class Strip:
    """Images in a row.

    Args:
        title: of the row.
        images: `(n, C, H, W)` in [0, 1].
        captions: below the images, `n` of them.
    """

    title: str
    images: Tensor
    captions: Sequence[str]


@dataclass(frozen=True)
class Table:
    """Numbers in words.

    Args:
        titles: of the columns.
        lines: of the table, as long as the titles.
    """

    titles: Sequence[str]
    lines: Sequence[Sequence[str]]


class Finding(ABC):
    """The result of an application: it draws itself, and a report has a section of it."""

    question: ClassVar[str]
    """What the application asks."""

    @property
    @abstractmethod
    def merits(self) -> list[Merit]:
        """The figures of merit, the leading one first."""

    @abstractmethod
    def strips(self) -> list[Strip]:
        """The images in rows."""

    def table(self) -> Table | None:
        """A table of all that was compared, if there is one."""
        return None

    def figures(self) -> dict[str, float]:
        """All merits, their nulls and intervals by name, for files."""
        found: dict[str, float] = {}
        for each in self.merits:
            key = each.name.replace(" ", "_").replace(",", "")
            found |= {key: each.value, f"{key}_null": each.null}
            if each.gain is not None:
                found |= {f"{key}_gain_low": each.gain[0], f"{key}_gain_high": each.gain[1]}
        return found

    def plot(self) -> Figure:
        """A figure of the images, with the leading figure of merit above."""
        found = self.strips()
        own = ([each.title for each in found], [each.images for each in found], [each.captions for each in found])
        return rows(*own, str(self.merits[0]))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({'; '.join(map(str, self.merits))})"

    def _repr_png_(self) -> bytes:
        return png(self.plot())
