"""`--report`: the pages of results, made again from what is in their folders."""

from collections.abc import Sequence
from pathlib import Path

from fibermodels.evaluation.report.page import REPORT
from fibermodels.files import check_folder, claim, release


def rewrite(folders: Sequence[str], out: str | None, overwrite: bool) -> None:
    """Writes the report of each result, without its model or data, and prints the paths.

    Raises:
        FileExistsError: a report is there, and `overwrite` is not set.
        FileNotFoundError: a folder has no result.
        ValueError: `out` was given.
    """
    from fibermodels.evaluation.report.result import write_result_report
    from fibermodels.evaluation.results import load_samples, read_metrics, result_folders

    if out is not None:
        raise ValueError(f"out: expected none with --report, which writes into the folder of each result, got '{out}'")
    rows = {folder: read_metrics(folder) for folder in map(Path, result_folders(folders))}
    for folder in rows:
        if (folder / REPORT).exists() and not overwrite:
            raise FileExistsError(f"'{folder / REPORT}' exists: give --overwrite true")
        check_folder(folder)
    for folder, row in rows.items():
        lock = claim(folder)
        try:
            samples = load_samples(folder) if (folder / "samples.safetensors").exists() else None
            print(write_result_report(folder, row, samples))
        finally:
            release(lock)
