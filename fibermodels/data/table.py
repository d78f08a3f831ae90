"""Tables of continuous columns, standardised by their training rows, with classes as labels."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fibermodels.config import Recorded, locate
from fibermodels.data.digits import Split
from fibermodels.data.image_data import held_out
from fibermodels.data.in_memory import TensorSet
from fibermodels.data.split_data import SplitData
from fibermodels.noise import seeded

EMBEDDED = "breast_cancer"
"""The name of the table that needs no file: scikit-learn's, with 569 rows of 30 columns and two classes."""

DISTINCT = 10
"""A column with at most so many different numbers is taken for categories."""

WHY = (
    "a density adds Gaussian noise and follows gradients, which categories do not have; leave it out of the file, or "
    "make a table for each category"
)


@dataclass(frozen=True)
class Columns:
    """A table as it is in a file."""

    names: list[str]
    """Of the columns of `x`."""
    x: Tensor
    """Rows in their own units, `(N, D)`, float64."""
    y: Tensor
    """The number of each row's class, `(N,)`."""
    classes: list[str]
    """Names of the classes, sorted."""


class Table(SplitData, metaclass=Recorded):
    """The rows of a table, in units of the columns: `(row - mean) / std` of the training rows.

    A share `val_size` of each class is held out for validation, and as much for the test, so all splits have the
    classes in the same proportion.

    Args:
        file: a CSV file, in the working directory or below the data root; its first line may have names. None takes
            scikit-learn's table of breast cancers, which is installed with it.
        label: the name or the number of the column with the classes, -1 for the last one (HTRU2 has its there); the
            embedded table has its own.
        batch_size: rows per batch.
        seed: of the splits and the order.
        val_size: the share of each class in (0, 0.5).

    Raises:
        ValueError: a number out of its range.
    """

    def __init__(
        self,
        file: str | None = None,
        label: str | int = -1,
        batch_size: int = 64,
        seed: int = 0,
        val_size: float = 0.2,
    ) -> None:
        super().__init__(EMBEDDED if file is None else Path(file).stem, batch_size, seed)
        if not 0 < val_size < 0.5:
            raise ValueError(f"data.val_size: expected a share in (0, 0.5) of each class, got {val_size}")
        self.file, self.label, self.val_size = file, label, val_size
        self._read: tuple[Columns, dict[str, Tensor], Tensor, Tensor] | None = None

    @property
    def columns(self) -> list[str]:
        """The names of the columns."""
        return self._table()[0].names

    @property
    def classes(self) -> list[str]:
        """The names of the classes."""
        return self._table()[0].classes

    def split(self, split: Split) -> TensorSet:
        """The rows of a split, standardised; the file is read on first use.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: a column that is not continuous, a value that is missing, or too few rows of a class.
        """
        table, rows, _, _ = self._table()
        own = rows[split]
        return TensorSet(self.standardised(table.x[own]), table.y[own])

    def restored(self, x: Tensor) -> Tensor:
        """Rows `(..., D)` in the units of the file."""
        _, _, mean, std = self._table()
        return x * std.to(x) + mean.to(x)

    def standardised(self, rows: Tensor) -> Tensor:
        """Rows `(..., D)` in the units of the file as `split` gives them; the inverse of `restored`."""
        _, _, mean, std = self._table()
        return ((rows - mean) / std).float()

    def _table(self) -> tuple[Columns, dict[str, Tensor], Tensor, Tensor]:
        if self._read is None:
            table = embedded() if self.file is None else read_table(locate(self.file), self.label)
            rows = stratified(table.y, self.val_size, self.seed, self.name)
            own = table.x[rows["train"]]
            std = own.std(0, correction=0)
            if still := [name for name, value in zip(table.names, std, strict=True) if not value]:
                raise ValueError(f"'{self.name}': columns {still} have one value in all training rows")
            self._read = table, rows, own.mean(0), std
        return self._read


def stratified(y: Tensor, share: float, seed: int, name: str) -> dict[str, Tensor]:
    """The numbers of the rows of each split, with this share of each class `y` `(N,)` in `val` and in `test`.

    Raises:
        ValueError: too few rows of a class.
    """
    parts: dict[str, list[Tensor]] = {"train": [], "val": [], "test": []}
    for label in y.unique().tolist():
        own = (y == label).nonzero()[:, 0]
        own = own[torch.randperm(len(own), generator=seeded("table", seed, str(label)))]
        size = held_out(share, len(own), 2, f"class {label} of {name}")
        for split, rows in (("test", own[:size]), ("val", own[size : 2 * size]), ("train", own[2 * size :])):
            parts[split].append(rows)
    generator = seeded("table", seed, "order")  # the first rows of a split have all classes
    return {
        split: (rows := torch.cat(own))[torch.randperm(len(rows), generator=generator)] for split, own in parts.items()
    }


def embedded() -> Columns:
    """scikit-learn's table of breast cancers: 30 measurements of cell nuclei, benign or malignant."""
    from sklearn.datasets import load_breast_cancer

    found = load_breast_cancer()
    x, y = torch.from_numpy(found.data), torch.from_numpy(found.target).long()
    return Columns([str(name) for name in found.feature_names], x, y, [str(name) for name in found.target_names])


def read_table(path: str | Path, label: str | int = -1) -> Columns:
    """The columns of a CSV file, and its classes.

    Args:
        path: the file; empty lines are skipped, and the first line may have names.
        label: the name or the number of the column with the classes, which may be text.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: rows of different lengths, no such column, a missing value, or a column that is not continuous.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file at '{path}' (from {Path.cwd()})")
    with path.open(newline="", encoding="utf-8-sig") as file:
        lines = [[cell.strip() for cell in line] for line in csv.reader(file) if line]
    if len(lines) < 2 or len({len(line) for line in lines}) > 1 or len(lines[0]) < 2:
        raise ValueError(f"'{path}': expected lines of equally many values, at least two, separated by commas")
    named = not any(is_number(cell) for cell in lines[0])
    names = lines[0] if named else [f"column {i}" for i in range(len(lines[0]))]
    rows = lines[int(named) :]
    place = _place(names, label, str(path))
    kept = [i for i in range(len(names)) if i != place]
    x = np.stack([continuous([row[i] for row in rows], names[i], str(path)) for i in kept], 1)
    classes = sorted({row[place] for row in rows})
    y = torch.tensor([classes.index(row[place]) for row in rows])
    return Columns([names[i] for i in kept], torch.from_numpy(x), y, classes)


def continuous(cells: Sequence[str], name: str, where: str) -> np.ndarray:
    """The numbers of a column.

    Raises:
        ValueError: text, a missing value, or so few different numbers that they are categories.
    """
    text = next((cell for cell in cells if cell and not is_number(cell)), None)
    if text is not None:
        raise ValueError(f"'{where}': column '{name}' has the text '{text}', so it is categorical: {WHY}")
    values = np.array([float(cell) if cell else np.nan for cell in cells])
    if bad := int((~np.isfinite(values)).sum()):
        raise ValueError(f"'{where}': column '{name}': {bad} values are missing or not finite; leave these rows out")
    if (count := len(np.unique(values))) <= DISTINCT:
        raise ValueError(f"'{where}': column '{name}' has {count} different values, so it counts as categorical: {WHY}")
    return values


def is_number(text: str) -> bool:
    """Whether a cell holds a number."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def _place(names: list[str], label: str | int, where: str) -> int:
    if isinstance(label, str):
        if label not in names:
            raise ValueError(f"'{where}': label: expected one of the columns {names}, got '{label}'")
        return names.index(label)
    if not -len(names) <= label < len(names):
        raise ValueError(f"'{where}': label: expected a number from {-len(names)} to {len(names) - 1}, got {label}")
    return label % len(names)
