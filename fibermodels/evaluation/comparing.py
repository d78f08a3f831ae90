"""The command `compare`: several results in one table and figure."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fibermodels.commands import Parser, explained, print_table
from fibermodels.evaluation.report.page import REPORT
from fibermodels.files import check_new
from fibermodels.programs import called


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command. Errors of the user give one message and exit status 2."""
    own = Parser(prog=called("compare"), description="Puts several results into one table and figure.")
    own.add_argument("folders", type=str, nargs="+", help="result folders, each with a metrics.json")
    own.add_argument("--out", type=str, required=True, help="folder for comparison.csv, comparison.md, comparison.png")
    own.add_argument(
        "--across_subjects", type=bool, default=False, help="compare results of different subjects on the same data"
    )
    own.add_argument("--overwrite", type=bool, default=False, help="replace an earlier comparison")
    options = own.parse_args(arguments)
    with explained():
        if not options.out:
            raise ValueError("out: expected a folder, got ''")
        for mark in ("comparison.csv", REPORT):
            check_new(Path(options.out) / mark, options.overwrite)
        compare(options.folders, Path(options.out), options.across_subjects)


def compare(folders: Sequence[str], out: Path, across_subjects: bool = False) -> None:
    """Writes table, figure and report of several results, and prints the table and the paths.

    Args:
        folders: the results; the files of an earlier comparison may be among them (see `results.result_folders`).
        out: the folder to write to.
        across_subjects: whether results of several subjects are allowed.

    Raises:
        FileNotFoundError, ValueError: as in `results.read_results`.
    """
    from fibermodels.evaluation.figures import write_comparison
    from fibermodels.evaluation.report.comparison import write_comparison_report
    from fibermodels.evaluation.results import located_results, result_folders
    from fibermodels.evaluation.tables import unequal_targets

    found = located_results(result_folders(folders), across_subjects)
    rows = [row for _, row in found]
    write_comparison(rows, out)
    report = write_comparison_report(found, out)
    print_rows(rows)
    if unequal := unequal_targets(rows):
        print(unequal, file=sys.stderr)
    print(f"{out}/comparison.md")
    if (out / "comparison.png").is_file():
        print(f"{out}/comparison.png")
    else:
        print("no figure: no result has a metric of consistency (a known law, or --features)", file=sys.stderr)
    print(report)


def print_rows(rows: list[dict[str, Any]]) -> None:
    """Prints results as a table with a row for each; one result alone as a list of its values."""
    from fibermodels.evaluation.tables import cells, columns, headings

    keys = headings(rows) if len(rows) == 1 else columns(rows)
    titles, lines = list(keys.values()), cells(rows, keys)
    if len(lines) == 1:  # a list is more readable than one row with many columns
        titles, lines = [titles[0], lines[0][0]], [list(pair) for pair in zip(titles[1:], lines[0][1:], strict=True)]
    print_table(titles, lines)
