"""The frame of a report: templates with escaped text, one style and one script inside the page."""

import base64
import hashlib
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

import fibermodels

REPORT = "report.html"
"""The name of a report in the folder of its result or comparison."""

TEMPLATES = Path(__file__).parent / "templates"


@cache
def _environment() -> Environment:
    """Templates in which every value is escaped, and an unknown name is an error."""
    own = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    own.filters["breakable"] = _breakable
    return own


def _breakable(name: str) -> Markup:
    """A name that may go on in the next line after `_`."""
    return escape(name).replace("_", Markup("_<wbr>"))


def render(template: str, **values: Any) -> str:
    """A whole page. The browser is told to load nothing, and to run no script but the page's own.

    Args:
        template: a file of `templates/`, which extends `page.html`.
        values: what the template shows; text in it is escaped.
    """
    style, script = (_own(name) for name in ("page.css", "page.js"))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return (
        _environment()
        .get_template(template)
        .render(
            **values,
            style=Markup(style),
            script=Markup(script),
            script_digest=digest,
            version=fibermodels.__version__,
        )
    )


def _own(name: str) -> str:
    return (TEMPLATES / name).read_text(encoding="utf-8")
