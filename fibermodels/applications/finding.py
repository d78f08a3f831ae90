"""What an application finds: pictures, and a figure of merit beside its null."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from torch import Tensor

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
    """

    name: str
    value: float
    null: float
    meaning: str

    def __str__(self) -> str:
        return f"{self.name} {self.value:.3g} (null {self.null:.3g})"


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
        """All merits and their nulls by name, for files."""
        keys = [(each.name.replace(" ", "_").replace(",", ""), each) for each in self.merits]
        return {name: value for key, each in keys for name, value in ((key, each.value), (f"{key}_null", each.null))}

    def plot(self) -> Figure:
        """A figure of the images, with the leading figure of merit above."""
        found = self.strips()
        own = ([each.title for each in found], [each.images for each in found], [each.captions for each in found])
        return rows(*own, str(self.merits[0]))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({'; '.join(map(str, self.merits))})"

    def _repr_png_(self) -> bytes:
        return png(self.plot())
