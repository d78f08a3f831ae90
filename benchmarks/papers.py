"""The tables of `docs/papers.md`: every experiment of five papers, its command, our figures and the published ones."""

import json
import re
from dataclasses import dataclass
from pathlib import Path

import yaml
from runner import scored

from fibermodels.evaluation.tables import markdown, number

ROOT = Path(__file__).parents[1]
ENTRY = re.compile(r"\{([^:{}]+):(\w+)\}")
CELL = re.compile(r"\{([^:{}]+\.md):([^:{}]+):([^:{}]+)\}")
TITLES = ("experiment", "command", "here", "published", "what differs")


@dataclass(frozen=True)
class Experiment:
    """A row: what the keys of `papers.yaml` say.

    Raises:
        ValueError: neither figures nor a reason why there are none.
    """

    where: str
    what: str
    published: str
    command: str
    without: str = ""
    ours: str = ""
    differs: str = ""
    see: str = ""

    def __post_init__(self) -> None:
        if not self.ours and not self.without:
            raise ValueError(f"papers.yaml: {self.where}: expected figures of ours, or the reason why there are none")

    def cells(self) -> list[str]:
        """The row of the table; figures come from results."""
        here = filled(self.ours)
        here += f" ([more]({self.see}))" if self.see else ""
        here = here[:1].upper() + here[1:]
        here = ". ".join(part for part in (f"Not run: {self.without}" if self.without else "", here) if part)
        return [
            f"{self.where}: {self.what}",
            f"`{self.command}`",
            here,
            self.published,
            self.differs,
        ]


def experiments() -> dict[str, list[Experiment]]:
    """All rows, by paper."""
    content = yaml.safe_load((ROOT / "benchmarks/papers.yaml").read_text())
    return {paper: [Experiment(**row) for row in rows] for paper, rows in content.items()}


def filled(text: str) -> str:
    """`text` with each `{RESULT:KEY}` replaced by the entry of this result, and each `{TABLE.md:ROW:COLUMN}` by the
    cell of this table.

    Raises:
        KeyError: the result or the table does not have it.
    """
    text = CELL.sub(lambda found: cell(*found.groups()), text)
    return ENTRY.sub(lambda found: value(found[1], found[2]), text)


def cell(table: str, row: str, column: str) -> str:
    """A cell of a table in `results/`, in the row that begins with these cells, such as `6, soft`.

    Raises:
        KeyError: there is no such row or column.
    """
    lines = [line.split(" | ") for line in (ROOT / "results" / table).read_text().splitlines() if line[:1] == "|"]
    titles, _, *rows = [[each.strip("| ") for each in line] for line in lines]
    own = [each for each in rows if any(", ".join(each[:n]) == row for n in range(1, len(each)))]
    if len(own) != 1 or column not in titles:
        raise KeyError(f"results/{table}: expected one row '{row}' and the column '{column}'")
    return own[0][titles.index(column)]


def value(result: str, key: str) -> str:
    """An entry of a result as text; shares are percent, and a result that is not made yet says so."""
    folder = ROOT / "results" / result
    if not scored(folder):
        return "(not run)"
    own = json.loads((folder / "metrics.json").read_text())[key]
    return f"{100 * own:.0f} %" if re.match("top|unseen|validity", key) else number(float(own))


def of_paper(paper: str) -> str:
    """The table of one paper."""
    return markdown(list(TITLES), [row.cells() for row in experiments()[paper]])
