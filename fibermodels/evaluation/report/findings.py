"""The report of applications: a section for each finding."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fibermodels.applications import Finding, Merit, Table
from fibermodels.evaluation.report.page import REPORT, render
from fibermodels.evaluation.report.pictures import Picture, picture, side, size
from fibermodels.files import write_text

SHARE = 2_400_000
"""Characters that the pictures of all sections take together."""


@dataclass(frozen=True)
class Line:
    """A row of pictures."""

    title: str
    pictures: list[Picture]
    cell: int
    """The width of a picture on the page."""


@dataclass(frozen=True)
class Section:
    """One finding on the page."""

    name: str
    question: str
    merits: list[Merit]
    lines: list[Line]
    left: int
    """Rows that did not fit."""
    table: Table | None


def write_findings_report(out: str | Path, findings: Mapping[str, Finding], facts: Mapping[str, Any]) -> Path:
    """Writes `report.html` of findings.

    Args:
        out: the folder.
        findings: by the names of their sections.
        facts: what else the page says of them, such as the model.

    Returns:
        The file.
    """
    path = Path(out) / REPORT
    write_text(path, findings_page(findings, facts))
    return path


def findings_page(findings: Mapping[str, Finding], facts: Mapping[str, Any]) -> str:
    """The report of findings as HTML; arguments as in `write_findings_report`."""
    sections = [section(name, each, SHARE // len(findings)) for name, each in findings.items()]
    return render("findings.html", sections=sections, facts=dict(facts))


def section(name: str, finding: Finding, most: int) -> Section:
    """A section with as many rows of pictures as take at most `most` characters, and at least one."""
    lines: list[Line] = []
    strips, left = finding.strips(), most
    for strip in strips:
        shown = [
            picture(image, f"{strip.title}: {caption}")
            for image, caption in zip(strip.images, strip.captions, strict=True)
        ]
        left -= size(shown)
        if left < 0 and lines:
            break
        lines.append(Line(strip.title, shown, side(shown[0].width, shown[0].height)))
    return Section(
        name.replace("_", " "), finding.question, finding.merits, lines, len(strips) - len(lines), finding.table()
    )
