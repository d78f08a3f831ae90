"""Every object knows how it was built, so that a checkpoint can build it again.

An object whose class has the metaclass `Recorded` remembers its constructor's arguments.
`describe` turns them into plain types (`class_path`, `init_args`: the same two keys as in a YAML
config), `build` goes the other way. Nothing is pickled: a description is text.
"""

import difflib
import importlib
import inspect
import os
import sys
from abc import ABCMeta
from collections.abc import Callable
from itertools import takewhile
from pathlib import Path
from typing import Any

from fibermodels.former import modern

ALLOWED_IMPORTS = ("fibermodels", "torch.nn", "torch.optim", "lightning.pytorch")
"""Import paths that a config or a checkpoint may name; everything else is refused unseen."""


def allowed_imports() -> tuple[str, ...]:
    """`ALLOWED_IMPORTS` and what the user adds in `$FIBERMODELS_IMPORTS` (comma separated)."""
    extra = os.environ.get("FIBERMODELS_IMPORTS", "")
    return ALLOWED_IMPORTS + tuple(part.strip() for part in extra.split(",") if part.strip())


def data_root(root: str | Path | None = None) -> Path:
    """`root`, else `$FIBERMODELS_DATA`, else `data`."""
    return Path(root or os.environ.get("FIBERMODELS_DATA", "data"))


def locate(path: str | Path) -> Path:
    """`path` from here, or else from the data root: a config then needs no machine's folders.

    Raises:
        FileNotFoundError: neither is there; names both.
    """
    here, below = Path(path), data_root() / path
    for found in (here, below):
        if found.exists():
            return found
    raise FileNotFoundError(f"nothing at '{here.absolute()}', nor at '{below.absolute()}'")


def reason(report: str) -> str:
    """What is wrong, of jsonargparse's report: without the alternatives that it tried and the values it was given."""
    _, _, tried = report.rpartition("Errors:\n")
    lines = takewhile(lambda line: "Expected a <class 'NoneType'>" not in line, (tried or report).splitlines())
    return "\n".join(lines).strip().removeprefix("- ")


class Recorded(ABCMeta):
    """Metaclass: an instance keeps its constructor's arguments, by name, in `arguments`."""

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        instance = super().__call__(*args, **kwargs)
        bound = inspect.signature(cls.__init__).bind(instance, *args, **kwargs)  # type: ignore[misc]
        bound.apply_defaults()
        _, *named = bound.arguments.items()
        instance.__dict__["arguments"] = dict(named)  # past nn.Module, which would register modules
        return instance


def public_path(cls: type) -> str:
    """Where users import a class from: the shortest package above its module that has it under its name.

    A file of ours can then be moved or split, and what was published before still loads.
    """
    parts = cls.__module__.split(".")
    packages = [".".join(parts[:end]) for end in range(1, len(parts))]
    home = next((p for p in packages if getattr(sys.modules.get(p), cls.__name__, None) is cls), cls.__module__)
    return f"{home}.{cls.__qualname__}"


def describe(value: Any) -> Any:
    """`value` in plain types: numbers, text, lists, dicts; a recorded object as a nested dict.

    Raises:
        TypeError: a value that can neither be written down nor built again.
    """
    if isinstance(type(value), Recorded):
        return {
            "class_path": public_path(type(value)),
            "init_args": {key: describe(item) for key, item in value.arguments.items()},
        }
    if isinstance(value, (list, tuple)):
        return [describe(item) for item in value]
    if isinstance(value, dict):
        return {str(key): describe(item) for key, item in value.items()}
    if isinstance(value, Path):
        return str(value)
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(f"cannot describe {value!r} ({type(value).__name__}) in plain types")


def current(description: Any) -> Any:
    """A description of this version or an earlier one in today's terms, with the public path of every class."""
    description = modern(description)
    if isinstance(description, list):
        return [current(item) for item in description]
    if not isinstance(description, dict):
        return description
    content = {key: current(item) for key, item in description.items()}
    if set(content) == {"class_path", "init_args"}:
        content["class_path"] = public_path(_recorded(content["class_path"]))
    return content


def _recorded(path: str) -> Any:
    return import_class(path, lambda found: isinstance(found, Recorded), "a class of fibermodels")


def change(description: Any, name: str, value: Any) -> None:
    """Replaces one argument in a description of an object.

    Args:
        description: the result of `describe`; it is changed in place.
        name: of the argument, with dots for an argument of an argument: `sampler.steps`.
        value: in plain types.

    Raises:
        ValueError: the object, or the one below it, has no such argument; names close ones.
    """
    first, _, rest = name.removeprefix("init_args.").partition(".")
    arguments = description["init_args"] if isinstance(description, dict) and "init_args" in description else {}
    if first not in arguments:
        near = difflib.get_close_matches(first, arguments) or list(arguments)
        raise ValueError(f"no argument '{first}' here; did you mean one of {near}?")
    if rest:
        if not isinstance(arguments[first], dict):
            raise ValueError(f"'{first}' is {arguments[first]!r}: it has no argument '{rest}' to change")
        change(arguments[first], rest, value)
    else:
        arguments[first] = value


def build(description: Any, *, weights: bool = True) -> Any:
    """The object that `describe` described.

    Args:
        description: the result of `describe`.
        weights: False leaves out every `weights` file, for a caller who loads a state of its own.

    Raises:
        ValueError: a class outside the allowed import paths, an unknown class, wrong arguments.
    """
    description = modern(description)
    if isinstance(description, list):
        return [build(item, weights=weights) for item in description]
    if not isinstance(description, dict):
        return description
    if set(description) != {"class_path", "init_args"}:
        return {key: build(item, weights=weights) for key, item in description.items()}
    cls = _recorded(description["class_path"])
    arguments = {
        key: None if key == "weights" and not weights else build(item, weights=weights)
        for key, item in description["init_args"].items()
    }
    try:
        return cls(**arguments)
    except TypeError as error:
        raise ValueError(f"cannot build {description['class_path']}: {error}") from error


def import_class(path: str, accepts: Callable[[Any], bool], what: str) -> Any:
    """The class at a path, if the path is allowed and the class acceptable; nothing else is imported.

    Raises:
        ValueError: outside the allowed import paths, nothing there, or not `what`; names close ones.
    """
    if not any(path == root or path.startswith(root + ".") for root in allowed_imports()):
        raise ValueError(
            f"the class '{path}' is outside the allowed import paths {list(allowed_imports())}; "
            "add its package to FIBERMODELS_IMPORTS if you trust it"
        )
    module_name, _, name = path.rpartition(".")
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise ValueError(f"cannot import '{module_name}' for the class '{path}'") from error
    found = getattr(module, name, None)
    if not accepts(found):
        near = difflib.get_close_matches(name, [n for n, v in vars(module).items() if accepts(v)])
        reason = "" if found is None else f": that is not {what}"
        raise ValueError(f"no class '{path}'{reason}" + (f"; did you mean {near}?" if near else ""))
    return found
