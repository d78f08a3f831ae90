"""CSV files of numbers: their cells, and what is wrong with those that are no numbers."""

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class Cells:
    """A CSV file as it is: text."""

    names: list[str]
    """Of the columns; `column 0`, `column 1` and so on if the file has no names."""
    named: bool
    """Whether the first line has names."""
    rows: list[list[str]]
    lines: list[int]
    """The line of the file in which each row is, from 1."""

    def column(self, place: int) -> list[str]:
        """The cells of a column."""
        return [row[place] for row in self.rows]

    def numbers(self, place: int, no_text: str = "") -> np.ndarray:
        """The numbers of a column, float64.

        Args:
            place: the number of the column.
            no_text: what the error adds about text.

        Raises:
            ValueError: text, or a value that is missing or not finite; it names the column and the line.
        """
        cells, name = self.column(place), self.names[place]
        text = next((i for i, cell in enumerate(cells) if cell and not is_number(cell)), None)
        if text is not None:
            raise ValueError(f"column '{name}' has the text '{cells[text]}' in line {self.lines[text]}{no_text}")
        values = np.array([float(cell) if cell else np.nan for cell in cells])
        if len(bad := np.flatnonzero(~np.isfinite(values))):
            raise ValueError(
                f"column '{name}': {len(bad)} values are missing or not finite, the first in line "
                f"{self.lines[bad[0]]}; leave these rows out"
            )
        return values


def read_cells(path: Path) -> Cells:
    """The cells of a CSV file, without spaces around them; empty lines are skipped.

    The first line has names if none of its cells is a number. It also has names if it counts the columns, 0, 1, 2 and
    so on, and the numbers in the next line are not whole, because pandas writes arrays so.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: no rows, rows of different lengths, or a column without a name beside columns with names.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no file at '{path}' (from {Path.cwd()})")
    rows, lines = list[list[str]](), list[int]()
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.reader(file)
        for row in reader:
            if row:
                rows.append([cell.strip() for cell in row])
                lines.append(reader.line_num)
    for row, line in zip(rows, lines, strict=True):
        if len(row) != len(rows[0]):
            raise ValueError(
                f"expected lines of equally many values, separated by commas; line {lines[0]} has {len(rows[0])} and "
                f"line {line} has {len(row)}"
            )
    named = len(rows) > 1 and _are_names(rows[0], rows[1])
    if len(rows) < 1 + named:
        raise ValueError("expected lines of values, separated by commas, got none")
    names = rows[0] if named else [f"column {i}" for i in range(len(rows[0]))]
    if (
        empty := next((i for i, name in enumerate(names) if not name or name.startswith("Unnamed: ")), None)
    ) is not None:
        raise ValueError(
            f"column {empty} has no name; if it has the numbers of rows that pandas writes, leave them out: "
            "to_csv(..., index=False)"
        )
    return Cells(names, named, rows[int(named) :], lines[int(named) :])


def _are_names(first: list[str], second: list[str]) -> bool:
    """Whether a line above another one has the names of columns."""
    counts = [str(i) for i in range(len(first))]
    if first in (counts, ["", *counts[:-1]]):
        return any(is_number(cell) and not float(cell).is_integer() for cell in second)
    return not any(is_number(cell) for cell in first)


def is_number(text: str) -> bool:
    """Whether a cell has a number."""
    try:
        float(text)
    except ValueError:
        return False
    return True
