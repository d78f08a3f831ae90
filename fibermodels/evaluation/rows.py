"""What the rows of a comparison say: their curves, subjects, names, and which of them lead."""

from collections.abc import Iterable, Mapping, Sequence

Row = dict[str, float | int | str]

LAWS = ("colour_kl", "arc_kl", "factor_ks", "column_w1")
"""Metrics of consistency, with a known law or with the columns of all targets: the first that a result has."""

FLOOR = "_floor"


def curve(row: Row) -> str:
    """The curve of a result in figures: the `series` in its metrics, else its own name."""
    return str(row.get("series", row.get("name", row["family"])))


def knobs(row: Row) -> dict[str, float]:
    """The settings that distinguish a result from others of its curve: its metrics `knob_*`, else lambda."""
    own = {key.removeprefix("knob_"): float(value) for key, value in row.items() if key.startswith("knob_")}
    return own or {"lambda": float(row["fiber_weight"])}


def strength(row: Row) -> float:
    """The value of the first setting: the position of a result on its curve."""
    return next(iter(knobs(row).values()))


def curves(rows: Sequence[Row]) -> list[list[Row]]:
    """The rows of each curve in the order of their strength. A result with other settings has its own curve."""
    found: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        found.setdefault((curve(row), *knobs(row)), []).append(row)
    return [sorted(own, key=lambda row: list(knobs(row).values())) for own in found.values()]


def judges(metric: str, keys: Iterable[str]) -> list[str]:
    """The names of judges that scored a metric, from the keys of results."""
    endings = ("_floor", "_std", "_targets", "_reference", "_folds")
    own = (key.removeprefix(f"{metric}_") for key in keys if key.startswith(f"{metric}_"))
    return sorted(name for name in own if not f"_{name}".endswith(endings))


def several_subjects(rows: Sequence[Row]) -> bool:
    """Whether the results have different subjects, that is different weights or layers."""
    weights = {row.get("subject") for row in rows}
    names = {row["subject_name"] for row in rows if "subject_name" in row}
    return len(weights) > 1 or len(names) > 1


def subject_of(row: Row) -> str:
    """The subject of a result: its name and the first digits of its fingerprint."""
    return f"{row.get('subject_name', '')} {str(row.get('subject'))[:4]}".strip()


def worlds(rows: Sequence[Row]) -> dict[tuple[str, str], list[Row]]:
    """The rows of each data set and subject: only these compare."""
    several = {data: several_subjects([row for row in rows if row.get("dataset") == data]) for data in _data(rows)}
    found: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        data = row.get("dataset")
        found.setdefault((str(data), subject_of(row) if several[data] else ""), []).append(row)
    return found


def _data(rows: Sequence[Row]) -> list[object]:
    return list(dict.fromkeys(row.get("dataset") for row in rows))


LAYERS = {"spatial": "last map", "pooled": "pooled vector"}


def in_words(subject: str, words: Mapping[str, str]) -> str:
    """A subject's name without its fingerprint, with some parts replaced: `ResNet-20, last map`."""
    name = subject.rpartition(" ")[0]
    name = name.removeprefix("Cut(").removesuffix(")") if name.startswith("Cut(") else name
    for old, new in (LAYERS | dict(words)).items():
        name = name.replace(old, new)
    return name or subject


def titles(rows: Sequence[Row], words: Mapping[str, str]) -> dict[tuple[str, str], str]:
    """The title of each data set and subject: what distinguishes it from the others."""
    many = len(_data(rows)) > 1
    keys = list(worlds(rows))
    named = [in_words(subject, words) for _, subject in keys]
    own = {}
    for (data, subject), name in zip(keys, named, strict=True):
        again = named.count(name) > 1 and not many  # the same network and layer, other weights
        parts = [data.replace("_", " ") * many, name, subject.rpartition(" ")[2] * again]
        own[data, subject] = ", ".join(part for part in parts if part)
    return own


def title_of_each(rows: Sequence[Row], words: Mapping[str, str]) -> list[str]:
    """The title of each row's data set and subject."""
    named = titles(rows, words)
    own = {id(row): named[key] for key, each in worlds(rows).items() for row in each}
    return [own[id(row)] for row in rows]


def short_names(rows: Sequence[Row]) -> list[str]:
    """The results' names without their own lambda and without what all names of a subject share after the first part:
    `diffusion-lambda1-resnet20-spatial-continued` is `diffusion-continued` among those of this layer."""
    parts = {id(row): _parts(row) for row in rows}
    for own in worlds(rows).values():
        shared = set.intersection(*(set(parts[id(row)]) for row in own)) if len(own) > 1 else set()
        kept = {id(row): [part for i, part in enumerate(parts[id(row)]) if not i or part not in shared] for row in own}
        parts |= kept
    return ["-".join(parts[id(row)]) for row in rows]


def _parts(row: Row) -> list[str]:
    parts = str(row.get("name", row["family"])).split("-")
    return [part for part in parts if part != f"lambda{float(row['fiber_weight']):g}"] or parts


def consistency(rows: Sequence[Row]) -> str:
    """The metric of consistency: with the known law, else the published FID, else the FID of most results.

    A metric that results of every data set and subject have goes before one that some have.
    """
    found = set().union(*rows)
    others = [f"fid_{name}" for name in judges("fid", found)]
    known = [key for key in (*LAWS, "fid") if key in found]
    metrics = known + sorted(others, key=lambda key: -sum(key in row for row in rows)) + ["fid"]
    panels = worlds(rows).values()
    return min(metrics, key=lambda key: -sum(any(key in row for row in own) for own in panels))


def fidelity(rows: Sequence[Row]) -> str:
    """The metric of fidelity: the fiber RMS if the law of the data is known, else the cosine."""
    known = any(law in row for row in rows for law in LAWS)
    return "fiber_rms" if known or not all("cosine" in row for row in rows) else "cosine"


def distance(row: Row, metric: str) -> float:
    """The metric of fidelity as a distance: the lower, the better."""
    return 1 - float(row[metric]) if metric == "cosine" else float(row[metric])


def excess(row: Row, metric: str) -> float:
    """The metric of consistency above its floor; infinite if it is missing."""
    return float(row.get(metric, float("inf"))) - float(row.get(metric + FLOOR, 0))


def leading(rows: Sequence[Row], most: int) -> list[Row]:
    """At most so many rows, in their order: the best of each family first, then the next.

    A row is better if fewer rows of its data set and subject surpass it.
    """
    if len(rows) <= most:
        return list(rows)
    beaten = {id(row): count for own in worlds(rows).values() for row, count in _beaten(own)}
    order = sorted(rows, key=lambda row: beaten[id(row)])
    rank: dict[int, int] = {}
    seen: dict[object, int] = {}
    for row in order:
        group = row.get("dataset"), subject_of(row), row["family"]
        rank[id(row)] = seen[group] = seen.get(group, -1) + 1
    kept = {id(row) for row in sorted(order, key=lambda row: rank[id(row)])[:most]}
    return [row for row in rows if id(row) in kept]


def _beaten(rows: Sequence[Row]) -> list[tuple[Row, int]]:
    """Each row, and the number of rows that surpass it."""
    near, like = fidelity(rows), consistency(rows)
    points = [(distance(row, near), excess(row, like)) for row in rows]
    return [(row, sum(_surpasses(other, own) for other in points)) for row, own in zip(rows, points, strict=True)]


def _surpasses(other: tuple[float, float], own: tuple[float, float], share: float = 0.05) -> bool:
    """Whether a point is clearly better in one coordinate, and not clearly worse in the other."""
    margins = [a - b for a, b in zip(own, other, strict=True) if a != b]
    scales = [share * abs(a) for a, b in zip(own, other, strict=True) if a != b]
    pairs = list(zip(margins, scales, strict=True))
    return all(gain >= -scale for gain, scale in pairs) and any(gain > scale for gain, scale in pairs)
