"""A question that a table of README or docs answers, from the metrics of some results."""

from dataclasses import dataclass
from pathlib import Path

import cifar10_rows
from runner import scored

from fibermodels.evaluation.results import read_results
from fibermodels.evaluation.tables import MOST_ROWS, markdown_table, renamed

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Question:
    """A table of some results of a benchmark.

    Args:
        results: the benchmark's folder.
        rows: the results' names, at most a dozen.
        metrics: the columns besides model and lambda; by default those of `fibermodels.evaluation.tables.columns`.
        across_subjects: whether the results may have several subjects.
    """

    results: Path
    rows: tuple[str, ...]
    metrics: tuple[str, ...] = ()
    across_subjects: bool = False

    def table(self) -> str:
        """The table in Markdown, of the results that exist."""
        if len(self.rows) > MOST_ROWS:
            raise ValueError(f"expected at most {MOST_ROWS} rows, got {len(self.rows)}: {self.rows}")
        folders = [ROOT / self.results / name for name in self.rows]
        rows = read_results([each for each in folders if scored(each)], self.across_subjects)
        return markdown_table(renamed(rows), self.metrics, cifar10_rows.WORDS)
