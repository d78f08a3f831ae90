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
TITLES = ("experiment", "command", "here", "published", "what differs")


@dataclass(frozen=True)
class Experiment:
    """A row: what the keys of `papers.yaml` say.

    Raises:
        ValueError: neither a command nor a reason why there is none.
    """

    where: str
    what: str
    published: str
    command: str = ""
    without: str = ""
    ours: str = ""
    differs: str = ""
    see: str = ""

    def __post_init__(self) -> None:
        if not self.command and not self.without:
            raise ValueError(f"papers.yaml: {self.where}: expected a command, or the reason why there is none")
        if not self.ours and not self.without:
            raise ValueError(f"papers.yaml: {self.where}: expected figures of ours, or the reason why there are none")

    def cells(self) -> list[str]:
        """The row of the table; figures come from results."""
        here = filled(self.ours)
        here += f" ([more]({self.see}))" if self.see else ""
        here = ". ".join(part for part in (f"Not run: {self.without}" if self.without else "", here) if part)
        return [
            f"{self.where}: {self.what}",
            f"`{self.command}`" if self.command else "",
            here,
            self.published,
            self.differs,
        ]


def experiments() -> dict[str, list[Experiment]]:
    """All rows, by paper."""
    content = yaml.safe_load((ROOT / "benchmarks/papers.yaml").read_text())
    return {paper: [Experiment(**row) for row in rows] for paper, rows in content.items()}


def filled(text: str) -> str:
    """`text` with each `{RESULT:KEY}` replaced by the entry of this result.

    Raises:
        KeyError: the result does not have it.
    """
    return ENTRY.sub(lambda found: value(found[1], found[2]), text)


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
