"""Descriptions of objects as YAML with comments, for people who change them.

commented({"width": 128}, {"width": "channels"})  ->  "width: 128  # channels"
"""

import inspect
import textwrap
from collections.abc import Mapping
from typing import Any

import yaml

from fibermodels.config import import_class

WIDTH, LONG = 120, 80
"""Characters of a line, and of a value that has a line for each of its parts."""


class Verbatim(str):
    """A value that is YAML already, such as one with an alias."""


class Anchored(dict):
    """A mapping to which aliases refer."""

    def __init__(self, anchor: str, content: Mapping[str, Any]) -> None:
        super().__init__(content)
        self.anchor = anchor


def brief(value: Any, notes: Mapping[str, str], path: str = "") -> Any:
    """A description without arguments that have their default, unless there is a note on them.

    Args:
        value: the result of `config.describe`.
        notes: comments by path, such as `model.learner.network.width`, without `init_args`.
        path: of the value.
    """
    if isinstance(value, list):
        return [brief(item, notes, f"{path}.{i}") for i, item in enumerate(value)]
    if not isinstance(value, dict):
        return value
    if set(value) != {"class_path", "init_args"}:
        return {key: brief(item, notes, f"{path}.{key}") for key, item in value.items()}
    usual = inspect.signature(import_class(value["class_path"], lambda _: True, "a class")).parameters
    kept = {
        key: brief(item, notes, f"{path}.{key}")
        for key, item in value["init_args"].items()
        if f"{path}.{key}" in notes or usual[key].default != item
    }
    return {"class_path": value["class_path"], **({"init_args": kept} if kept else {})}


def commented(value: Mapping[str, Any], notes: Mapping[str, str], path: str = "", depth: int = 0) -> str:
    """YAML of keys with values, each with its note: behind it if it is short, else above it.

    Args:
        value: as `brief` returns it, perhaps with `Verbatim` and `Anchored` in it.
        notes, path: as in `brief`.
        depth: spaces in front of each line.
    """
    written = ""
    for key, item in value.items():
        place = path if key == "init_args" else f"{path}.{key}".removeprefix(".")
        note = notes.get(place, "") if key != "init_args" else ""
        margin, anchor = " " * depth, f" &{item.anchor}" if isinstance(item, Anchored) else ""
        if isinstance(item, dict) and item and _is_long(item, notes, place):
            line, below = f"{margin}{key}:{anchor}", commented(item, notes, place, depth + 2)
        elif isinstance(item, list) and len(plain(item)) > LONG:
            line, below = f"{margin}{key}:", "".join(f"{margin}  - {plain(each)}\n" for each in item)
        else:
            line, below = f"{margin}{key}: {plain(item)}", ""
        if note and not below and len(line) + len(note) + 4 <= WIDTH:
            line += f"  # {note}"
        elif note:
            sign = f"{margin}# "
            line = f"{textwrap.fill(note, WIDTH, initial_indent=sign, subsequent_indent=sign)}\n{line}"
        written += f"{line}\n{below}"
    return written


def _is_long(value: dict[str, Any], notes: Mapping[str, str], path: str) -> bool:
    """Whether a mapping has a line for each key: one with notes in it, an anchor, or much content."""
    inside = any(place.startswith(f"{path}.") for place in notes)
    return inside or isinstance(value, Anchored) or len(plain(value)) > LONG


def plain(value: Any) -> str:
    """A value as YAML in one line."""
    if isinstance(value, Verbatim):
        return str(value)
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {plain(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(plain, value)) + "]"
    return yaml.safe_dump([value], default_flow_style=True, width=10**6).strip()[1:-1]  # quoted as inside of a list
