"""Tables of results: a CSV with everything, and Markdown with at most eight columns and a dozen rows."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from fibermodels import files
from fibermodels.evaluation.rows import (
    FLOOR,
    Row,
    fidelity,
    judges,
    leading,
    several_subjects,
    short_names,
    title_of_each,
)

MOST_COLUMNS, MOST_ROWS = 8, 12

COLUMNS = {
    "name": "model",
    "subject_name": "subject",
    "fiber_weight": "lambda",
    "fiber_rms": "fiber RMS",
    "fiber_rms_shuffled": "RMS to other targets",
    "cosine": "cosine",
    "cosine_per_location": "cosine per location",
    "top1_match": "top-1",
    "top5_match": "top-5",
    "unseen_match_mean": "unseen judges",
    "unseen_match_min": "least of them",
    "decision_match": "decisions",
    "top1_accuracy": "accuracy",
    "top1_accuracy_targets": "accuracy on targets",
    "shape_preference": "shape preference",
    "fid": "FID",
    "sfid": "sFID",
    "kid": "KID",
    "colour_kl": "colour KL",
    "colour_w1": "colour W1",
    "arc_kl": "arc KL",
    "factor_ks": "factor KS",
    "column_w1": "column W1",
    "movement_spearman": "movement by sensitivity",
    "joint_distance": "joint distance",
    "mode_error": "mode error",
    "contrast_error": "contrast error",
    "pixel_error": "pixel error",
    "pairwise_distance": "diversity",
    "mean_reciprocal_rank": "MRR",
    "rank_rejected": "ranks rejected",
    "rank_scalars": "ranks tested",
    "rank_pvalue": "ranks p",
    "rank_outside": "outside",
    "tarp_pvalue": "TARP p",
    "joint_test_pvalue": "joint test p",
    "energy_score": "energy score",
    "num_targets": "targets",
    "network_calls_per_sample": "calls",
    "seconds_per_sample": "ms / sample",
    "num_parameters": "parameters",
    "training_steps": "steps",
    "training_seconds": "training, min",
}
"""The metrics of a table in their order, with their headings. A floor stands in brackets behind its metric."""

JUDGED = ("top1_match", "top5_match", "decision_match", "fid", "sfid", "kid")
"""Columns that are repeated for each judge with its name: `top1_match_NAME`, `fid_NAME`."""

REFERENCE = "_reference"
"""The ending of distances from the samples of another result."""

FOLDS = "_folds"
"""The ending of distances of samples from other targets than their own."""

IDENTITY = ("name", "subject_name", "fiber_weight")
"""Columns that say which result a row is."""

COST = ("network_calls_per_sample", "seconds_per_sample", "training_seconds")

FIRST = (
    *("colour_kl", "arc_kl", "factor_ks", "column_w1", "joint_distance", "mode_error"),
    *("decision_match", "top1_match", "fid", "pixel_error", *COST),
    *("contrast_error", "mean_reciprocal_rank", "fiber_rms", "pairwise_distance", "num_targets", "kid"),
)
"""Metrics in the order in which they get one of the eight columns, after the metric of fidelity."""


def headings(rows: Sequence[Row]) -> dict[str, str]:
    """All known metrics that at least one row has, with their headings."""
    found = set().union(*rows)
    own: dict[str, str] = {}
    for key, heading in COLUMNS.items():
        own[key] = heading
        if key in JUDGED:
            named = {key: heading} | {f"{key}_{name}": f"{heading} by {name}" for name in judges(key, found)}
            own |= named | {each + REFERENCE: f"{title} to the reference" for each, title in named.items()}
            own |= {each + FOLDS: f"{title} across folds" for each, title in named.items()}
    floors = {key for key in own if key + FLOOR in found}
    return {key: title + " (floor)" * (key in floors) for key, title in own.items() if key in found}


def columns(rows: Sequence[Row], chosen: Sequence[str] = ()) -> dict[str, str]:
    """At most eight columns with their headings: which result it is, and the chosen metrics or those of `FIRST`."""
    known = headings(rows)
    same = {"subject_name": not several_subjects(rows), "fiber_weight": len({r["fiber_weight"] for r in rows}) == 1}
    identity = [key for key in IDENTITY if key in known and not same.get(key)]
    wanted = list(chosen) or [fidelity(rows), *(each for key in FIRST for each in _of_judges(key, known))]
    kept = list(dict.fromkeys([*identity, *(key for key in wanted if key in known)]))[:MOST_COLUMNS]
    return {key: title for key, title in known.items() if key in kept}


def _of_judges(key: str, known: Mapping[str, str]) -> list[str]:
    """A metric, and the same by the first other judge."""
    others = [f"{key}_{name}" for name in judges(key, known)][:1] if key in JUDGED else []
    return [key, *others]


def cells(rows: Sequence[Row], keys: Iterable[str], words: Mapping[str, str] | None = None) -> list[list[str]]:
    """The table's rows as text; a metric that does not apply is empty."""
    subjects = title_of_each(rows, words or {})
    own = [{**row, "subject_name": subject} for row, subject in zip(rows, subjects, strict=True)]
    return [[_cell(row, key) for key in keys] for row in own]


def _cell(row: Row, key: str) -> str:
    value = row.get(key, "")
    if isinstance(value, str):
        return value
    floor = f" ({number(float(row[key + FLOOR]))})" if key + FLOOR in row else ""
    return text(key, float(value)) + floor


def text(key: str, value: float) -> str:
    """The value of a metric in the unit of its heading."""
    if key == "seconds_per_sample":
        return number(1000 * value)
    if key == "num_parameters":
        return f"{value / 1e6:.2f} M"
    if key == "training_seconds":
        return f"{value / 60:.0f}"
    if key.startswith(("top", "decision", "shape", "unseen")):
        return f"{100 * value:.0f} %"
    return number(value)


def number(value: float) -> str:
    """Three digits, at most four of them after the point; counts are whole."""
    if value == int(value):
        return f"{value:.0f}"
    digits = next(digits for digits, least in ((0, 100), (1, 10), (2, 1), (3, 0.1), (4, 0)) if abs(value) >= least)
    text = f"{value:.{digits}f}"
    return text if float(text) else "0"


def markdown(titles: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    parts = [titles, ["---"] * len(titles), *lines]
    return "".join("| " + " | ".join(part) + " |\n" for part in parts)


def markdown_table(rows: Sequence[Row], chosen: Sequence[str] = (), words: Mapping[str, str] | None = None) -> str:
    """The rows in Markdown, with at most eight columns.

    Args:
        rows: the results.
        chosen: the metrics that answer the question; without them, the rule of `columns`.
        words: parts of subjects' names that the table replaces.
    """
    keys = columns(rows, chosen)
    return markdown(list(keys.values()), cells(rows, keys, words))


def renamed(rows: Sequence[Row]) -> list[Row]:
    """The rows with short names."""
    return [{**row, "name": name} for row, name in zip(rows, short_names(rows), strict=True)]


def summary(rows: Sequence[Row], words: Mapping[str, str] | None = None) -> str:
    """The table of at most a dozen rows, the leading ones, with a note about the others."""
    shown = leading(renamed(rows), MOST_ROWS)
    note = (
        f"\nThe table shows {len(shown)} of {len(rows)} results: the best of each family, then the next best. "
        "`comparison.csv` has all results and all metrics.\n"
    )
    sizes = f"\n{unequal}\n" if (unequal := unequal_targets(rows)) else ""
    return markdown_table(shown, words=words) + (note if len(shown) < len(rows) else "") + sizes


def unequal_targets(rows: Sequence[Row]) -> str:
    """What to know about results with different numbers of targets; empty if they have the same."""
    found = sorted({int(row["num_targets"]) for row in rows if "num_targets" in row})
    if len(found) < 2:
        return ""
    return (
        f"The results have between {found[0]} and {found[-1]} targets. Distances between distributions, such as the "
        "FID, depend on this number: compare each with its floor, not with one another."
    )


def write_csv(rows: Sequence[Row], path: Path) -> None:
    """Writes everything that is known about the rows."""
    names = list(dict.fromkeys(key for row in rows for key in row))
    files.write_csv(path, names, rows)
