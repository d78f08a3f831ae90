"""The report of a comparison."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate, pad

from fibermodels.evaluation.figures import read_grid
from fibermodels.evaluation.report import pictures, scatter
from fibermodels.evaluation.report.meanings import Meaning, meaning
from fibermodels.evaluation.report.page import REPORT, render
from fibermodels.evaluation.report.pictures import Picture
from fibermodels.evaluation.rows import Row, in_words, subject_of
from fibermodels.evaluation.tables import cells, columns, headings, unequal_targets
from fibermodels.files import write_text

SHARE = 2_200_000
"""Characters that the pictures of all results take together."""

ACROSS, DOWN, MOST_PIXELS, SHADES = 8, 4, 64, 256
"""Of a small picture: targets, rows with that of the targets, the longest side of an image, and colours."""


@dataclass(frozen=True)
class Compared:
    """A result of a comparison."""

    name: str
    family: str
    picture: Picture | None
    link: str
    """The address of its own report, relative to the comparison; empty if there is none."""


@dataclass(frozen=True)
class Cell:
    """A cell of the table: what it shows, and the value by which it is sorted."""

    text: str
    value: str


@dataclass(frozen=True)
class Column:
    """A column of the table."""

    title: str
    number: bool
    more: bool
    """Whether it is one of the further metrics, which the page shows on demand."""
    meaning: Meaning | None


def write_comparison_report(found: Sequence[tuple[Path, Row]], out: str | Path) -> Path:
    """Writes `report.html` of several results.

    Args:
        found: the folder and the metrics of each result, in the order of the table.
        out: the folder of the comparison.

    Returns:
        The file.
    """
    path = Path(out) / REPORT
    write_text(path, comparison_page(found, Path(out)))
    return path


def comparison_page(found: Sequence[tuple[Path, Row]], out: Path) -> str:
    """The report of a comparison as HTML; arguments as in `write_comparison_report`."""
    rows = [row for _, row in found]
    known, leading = headings(rows), columns(rows)
    own = [Column(title, _is_number(rows, key), key not in leading, meaning(key)) for key, title in known.items()]
    most = SHARE // len(found)
    return render(
        "comparison.html",
        results=[
            Compared(
                str(row.get("name", row["family"])), str(row["family"]), small(folder, row, most), _link(folder, out)
            )
            for folder, row in found
        ],
        datasets=sorted({str(row.get("dataset", "unknown data")) for row in rows}),
        subjects=list(dict.fromkeys(in_words(subject_of(row), {}) for row in rows)),
        columns=own,
        lines=[
            [Cell(text, str(row.get(key, ""))) for key, text in zip(known, line, strict=True)]
            for row, line in zip(rows, cells(rows, known), strict=True)
        ],
        plot=scatter.plot(rows),
        unequal=unequal_targets(rows),
        width=scatter.WIDTH,
        height=scatter.HEIGHT,
        frame=(scatter.LEFT, scatter.TOP, scatter.WIDTH - scatter.RIGHT, scatter.HEIGHT - scatter.BOTTOM),
    )


def _is_number(rows: Sequence[Row], key: str) -> bool:
    return not any(isinstance(row.get(key), str) for row in rows)


def _link(folder: Path, out: Path) -> str:
    """The relative address of a result's report, if there is one."""
    path = folder / REPORT
    return quote(Path(os.path.relpath(path.resolve(), out.resolve())).as_posix()) if path.is_file() else ""


def small(folder: Path, row: Row, most: int) -> Picture | None:
    """The first targets and samples of `samples.png`, as many as take at most `most` characters; None without it."""
    path, label = folder / "samples.png", f"{row.get('name', row['family'])}: targets, and samples below them"
    if not path.is_file():
        return None
    sizes = row.get("num_targets"), row.get("samples_per_target")
    images = read_grid(path, *map(int, sizes)) if all(isinstance(size, int) for size in sizes) else None  # type: ignore[arg-type]
    if images is None:
        return pictures.of_file(path, label, most)
    x, x_hat = images
    drawn = torch.cat((x[None], x_hat[: DOWN - 1]))[:, :ACROSS]
    while len((shown := _mosaic(drawn, label)).uri) > most and drawn.shape[1] > 1:
        fitting = int(drawn.shape[1] * most / len(shown.uri))
        drawn = drawn[:, : max(1, fitting)]
    return shown


def _mosaic(drawn: Tensor, label: str) -> Picture:
    """Images `(rows, columns, 3, H, W)` in one picture of few colours, with transparent lines between them."""
    opaque = torch.cat((drawn, torch.ones_like(drawn[:, :, :1])), 2)
    height, width = drawn.shape[-2:]
    if max(height, width) > MOST_PIXELS:
        scale = MOST_PIXELS / max(height, width)
        size = [max(1, round(scale * length)) for length in (height, width)]
        opaque = interpolate(opaque.flatten(0, 1), size, mode="area").unflatten(0, drawn.shape[:2])
    spaced = pad(opaque, (1, 0, 1, 0)).permute(0, 3, 1, 4, 2).flatten(2, 3).flatten(0, 1)[1:, 1:]
    image = Image.fromarray((255 * spaced).round().to(torch.uint8).contiguous().numpy())
    return pictures.of_image(image.quantize(SHADES, Image.Quantize.FASTOCTREE), label)
