"""The command `list`: what configs may name, a line for each."""

import difflib
import importlib
import inspect
import json
import re
import shutil
import sys
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from fibermodels.commands import Parser, explained
from fibermodels.config import INSTALLED, Recorded, public_path
from fibermodels.programs import called

KINDS = {
    "models": ("fibermodels.models",),
    "guidances": ("fibermodels.guidance",),
    "subjects": ("fibermodels.subjects", "fibermodels.suites"),
    "latents": ("fibermodels.latents", "fibermodels.suites"),
    "networks": ("fibermodels.nn",),
    "priors": ("fibermodels.diffusion",),
    "samplers": ("fibermodels.diffusion",),
    "data": ("fibermodels.data", "fibermodels.suites"),
}
"""Kinds of classes, and the packages that hold them."""

BASES = {
    "models": ("core:FiberModel",),
    "guidances": ("core:FiberModel", "guidance:Guidance", "guidance:Cost"),
    "subjects": ("core:Subject",),
    "latents": ("core:LatentSpace",),
    "networks": ("nn:Network", "nn:Invertible"),
    "priors": ("diffusion:Prior",),
    "samplers": ("diffusion:Sampler",),
    "data": ("core:Data",),
}
"""The classes from which those of a kind derive."""

FILES = ("configs", "weights")
"""What is listed by files, beside `KINDS`."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command. Errors of the user give one message and exit status 2."""
    known = [*KINDS, *FILES]
    own = Parser(prog=called("list"), description="Lists what there is, a line for each.")
    default = f"of {', '.join(known)}; default: all"
    own.add_argument("kinds", type=str, nargs="*", default=[], metavar="KIND", help=default)
    chosen = own.parse_args(arguments).kinds or known
    with explained():
        for kind in chosen:
            if kind not in known:
                near = difflib.get_close_matches(kind, known, 1, 0.5)
                hint = f"; did you mean '{near[0]}'?" if near else ""
                raise ValueError(f"there is no list of '{kind}': expected one of {', '.join(known)}{hint}")
        for kind in dict.fromkeys(chosen):
            _print(kind, sorted(entries(kind)))


def entries(kind: str) -> Iterator[tuple[str, str]]:
    """The names of one kind with a line on each: import paths of classes, or paths of files."""
    if kind in KINDS:
        for cls in classes(kind):
            yield public_path(cls), sentence(inspect.getdoc(cls) or "")
    elif kind == "configs":
        for path in INSTALLED.glob("configs/**/*.yaml"):
            name = path.relative_to(INSTALLED)
            if "parts" not in name.parts:
                yield str(name), comment(path)
    else:
        for card in INSTALLED.glob("data/weights/**/*.json"):
            yield str(card.relative_to(INSTALLED).with_suffix(".safetensors")), facts(card)


def classes(kind: str) -> Iterator[type]:
    """The classes of a kind that a config may name."""
    bases = tuple(_base(place) for place in BASES[kind])
    for package in map(importlib.import_module, KINDS[kind]):
        for name in package.__all__:
            found: Any = getattr(package, name)
            if isinstance(found, Recorded) and issubclass(found, bases) and not inspect.isabstract(found):
                yield found


def _base(place: str) -> type:
    module, _, name = place.partition(":")
    found: type = getattr(importlib.import_module(f"fibermodels.{module}"), name)
    return found


def sentence(text: str) -> str:
    """The first sentence of a docstring, in one line."""
    first = " ".join(text.partition("\n\n")[0].split())
    return re.split(r"\. (?=[A-Z`(])|\.$", first, maxsplit=1)[0]


def comment(config: Path) -> str:
    """The first sentence of the comment at the top of a config."""
    lines = []
    for line in config.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.lstrip("# "))
    return sentence(" ".join(lines))


def facts(card: Path) -> str:
    """What a card of published weights says: class, data, scores, and the cost of the training."""
    content = json.loads(card.read_text(encoding="utf-8"))
    words = [str(content["component"]["class_path"]).rpartition(".")[2], f"on {content['dataset']}"]
    words += [f"{name} {value:.4g}" for name, value in content.get("test_scores", {}).items()]
    if seconds := content.get("training_seconds"):
        words.append(f"{seconds / 60:.0f} min of training on {content.get('training_device', 'an unknown device')}")
    return ", ".join(words)


def _print(kind: str, found: Sequence[tuple[str, str]]) -> None:
    """Prints one kind: wrapped on a screen, and with whole lines into a file or a pipe."""
    width = max(len(name) for name, _ in found) + 2 if found else 0
    columns = max(60, shutil.get_terminal_size().columns) if sys.stdout.isatty() else sys.maxsize
    print(f"{kind}:")
    for name, text in found:
        indent = " " * min(width + 2, columns // 2)
        print(textwrap.fill(f"  {name:{width}}{text}", columns, subsequent_indent=indent, break_on_hyphens=False))
    print()
