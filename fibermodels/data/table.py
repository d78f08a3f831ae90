"""Tables of continuous columns, standardised by their training rows, with classes as labels."""

import difflib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fibermodels.config import Recorded, locate
from fibermodels.data.csv_file import Cells, read_cells
from fibermodels.data.digits import Split
from fibermodels.data.image_data import held_out
from fibermodels.data.in_memory import TensorSet
from fibermodels.data.split_data import SplitData
from fibermodels.noise import seeded

EMBEDDED = "breast_cancer"
"""The name of the table that needs no file: scikit-learn's, with 569 rows of 30 columns and two classes."""

DISTINCT, MANY = 10, 20
"""A column with at most so many different numbers is taken for categories. Classes are at most so many, unless each has
two rows on average."""

WHY = (
    "a density adds Gaussian noise and follows gradients, which categories do not have; give it as the label if it "
    "has the classes, else leave it out of the file, or make a table for each category"
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
    label: str | None = None
    """The name of the column with the classes in the file; None if the file has none."""
    place: int | None = None
    """The number of this column."""
    named: bool = True
    """Whether the file has names; else they are `column 0`, `column 1` and so on."""


class Table(SplitData, metaclass=Recorded):
    """The rows of a table, in units of the columns: `(row - mean) / std` of the training rows.

    A share `val_size` of each class is held out for validation, and as much for the test, so all splits have the
    classes in the same proportion.

    Args:
        file: a CSV file, in the working directory or below the data root; its first line may have names. None takes
            scikit-learn's table of breast cancers, which is installed with it.
        label: the name or the number of the column with the classes, -1 for the last one (HTRU2 has its there); None
            if all columns are continuous and none has classes. The embedded table has its own.
        batch_size: rows per batch.
        seed: of the splits and the order.
        val_size: the share of each class in (0, 0.5).

    Raises:
        ValueError: a number out of its range.
    """

    def __init__(
        self,
        file: str | None = None,
        label: str | int | None = -1,
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
        return TensorSet(self.standardised(table.x[own]), table.y[own] if table.classes else None)

    def restored(self, x: Tensor) -> Tensor:
        """Rows `(..., D)` in the units of the file."""
        _, _, mean, std = self._table()
        return x * std.to(x) + mean.to(x)

    def standardised(self, rows: Tensor) -> Tensor:
        """Rows `(..., D)` in the units of the file as `split` gives them; the inverse of `restored`."""
        _, _, mean, std = self._table()
        return ((rows - mean) / std).float()

    def statistics(self, mean: Sequence[float], std: Sequence[float]) -> dict[str, list[float]]:
        """The normalisation of a network that takes `(row - mean) / std` of rows in the units of the file, for its
        standardised rows: the arguments `mean` and `std` of `fit` and of subjects.

        Args:
            mean, std: a number for each column, or one for all of them: 0 and 1 for a network that takes the rows of
                the file as they are.

        Raises:
            ValueError: other numbers than these, or a `std` that is not positive.
        """
        names, _, own_mean, own_std = self._table()[0].names, *self._table()[1:]
        found = []
        for name, values in (("mean", mean), ("std", std)):
            given = torch.tensor(values, dtype=torch.float64)
            if len(given) not in (1, len(names)) or not given.isfinite().all() or (name == "std" and given.min() <= 0):
                raise ValueError(
                    f"{name}: expected {len(names)} numbers, one for each column, or one for all"
                    f"{', above 0' if name == 'std' else ''}, got {list(values)}"
                )
            found.append(given)
        return {"mean": ((found[0] - own_mean) / own_std).tolist(), "std": (found[1] / own_std).tolist()}

    def rows(self, path: str | Path) -> Tensor:
        """The rows `(N, D)` in a CSV file of the same columns, in the units of the file, float64.

        Args:
            path: the column of classes may be there or not. If the table has names and the file has, too, columns are
                found by their names; else they are in the order of the table.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: a column is missing or unknown, or has something else than numbers.
        """
        table, cells = self._table()[0], _cells(Path(path))
        found = cells.names
        if cells.named and table.named:
            lost = [name for name in table.names if name not in found]
            more = [name for name in found if name not in (*table.names, table.label)]
            if lost or more:
                raise ValueError(
                    f"'{path}': expected the columns of {self.name}, {table.names}; missing: {lost}, unknown: {more}"
                )
            places = [found.index(name) for name in table.names]
        else:
            both = table.place is not None and len(found) == len(table.names) + 1
            places = [i for i in range(len(found)) if not (both and i == table.place)]
            if len(places) != len(table.names):
                raise ValueError(
                    f"'{path}': expected the {len(table.names)} columns of {self.name}, with or without the column of "
                    f"classes, got {len(found)}"
                )
        with _of(path):
            return torch.from_numpy(np.stack([cells.numbers(i) for i in places], 1))

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


def read_table(path: str | Path, label: str | int | None = -1) -> Columns:
    """The columns of a CSV file, and its classes.

    Args:
        path: the file; empty lines are skipped, and the first line may have names.
        label: the name or the number of the column with the classes, which may be text; None if there is none.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: rows of different lengths, no such column, a missing value, or a column that is not continuous.
    """
    cells = _cells(Path(path))
    place = None if label is None else _place(cells.names, label, str(path))
    kept = [i for i in range(len(cells.names)) if i != place]
    if not kept:
        raise ValueError(f"'{path}': expected at least two columns, values and classes, got one")
    with _of(path):
        x = torch.from_numpy(np.stack([continuous(cells, i) for i in kept], 1))
    names = [cells.names[i] for i in kept]
    if place is None:
        return Columns(names, x, torch.zeros(len(x), dtype=torch.long), [], named=cells.named)
    column = cells.column(place)
    classes = sorted(set(column))
    if "" in classes:
        line = cells.lines[column.index("")]
        raise ValueError(f"'{path}': column '{cells.names[place]}' has no class in line {line}; leave these rows out")
    if len(classes) > MANY and len(classes) > len(column) / 2:
        raise ValueError(
            f"'{path}': label: column '{cells.names[place]}' has {len(classes)} different values in {len(column)} "
            "rows, so it has no classes; give the column of classes, or label None if there is none (--label none in "
            "`fibermodels init`)"
        )
    y = torch.tensor([classes.index(cell) for cell in column])
    return Columns(names, x, y, classes, cells.names[place], place, cells.named)


def continuous(cells: Cells, place: int) -> np.ndarray:
    """The numbers of a column.

    Raises:
        ValueError: text, a missing value, or so few different numbers that they are categories.
    """
    name, values = cells.names[place], cells.numbers(place, f", so it is categorical: {WHY}")
    if (count := len(np.unique(values))) == 1:
        raise ValueError(f"column '{name}' has the value {values[0]:g} in all rows; leave it out of the file")
    if count <= DISTINCT:
        raise ValueError(f"column '{name}' has {count} different values, so it counts as categorical: {WHY}")
    return values


def check_columns(path: Path, but: str = "y") -> None:
    """Refuses a CSV file that has a column of categories, beside one of labels by the name `but`.

    Raises:
        ValueError: as in `continuous`, with the name of the file.
    """
    cells = _cells(path)
    with _of(path):
        for place, name in enumerate(cells.names):
            if name != but:
                continuous(cells, place)


@contextmanager
def _of(path: str | Path) -> Iterator[None]:
    """Puts the file in front of what is wrong with it."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"'{path}': {error}") from error


def _cells(path: Path) -> Cells:
    with _of(path):
        return read_cells(path)


def _place(names: list[str], label: str | int, where: str) -> int:
    if isinstance(label, str):
        if label not in names:
            near = difflib.get_close_matches(label, names, 1)
            hint = f"; did you mean '{near[0]}'?" if near else ""
            raise ValueError(f"'{where}': label: expected one of the columns {names}, got '{label}'{hint}")
        return names.index(label)
    if not -len(names) <= label < len(names):
        raise ValueError(f"'{where}': label: expected a number from {-len(names)} to {len(names) - 1}, got {label}")
    return label % len(names)
