"""Objects record how they were built, so that a checkpoint can build them again without pickle.

An object whose class has the metaclass `Recorded` stores its constructor's arguments. `describe` turns them into plain
types with the keys `class_path` and `init_args`, as in a YAML config, and `build` does the reverse.
"""

import difflib
import importlib
import inspect
import os
import re
import sys
from abc import ABCMeta
from collections.abc import Callable, Mapping
from itertools import takewhile
from pathlib import Path
from typing import Any

from fibermodels.former import modern

ALLOWED_IMPORTS = ("fibermodels", "torch.nn", "torch.optim", "lightning.pytorch")
"""Import paths that a config or a checkpoint may name; others are refused without an import."""


REFUSED = re.compile(r"Importing ('[^']*') is not allowed.*")
ALLOWED = r"\1 is not allowed: it is no file here, and no class of this project or of a package in FIBERMODELS_IMPORTS"
"""jsonargparse's words for a class outside the allowed import paths, and ours."""


def allowed_imports() -> tuple[str, ...]:
    """`ALLOWED_IMPORTS` and the packages in `$FIBERMODELS_IMPORTS` (comma separated).

    Raises:
        ValueError: one of them is no import path.
    """
    extra = [part.strip() for part in os.environ.get("FIBERMODELS_IMPORTS", "").split(",") if part.strip()]
    for path in extra:
        if not all(word.isidentifier() for word in path.split(".")):
            raise ValueError(f"FIBERMODELS_IMPORTS: expected import paths such as my_package.nets, got '{path}'")
    return (*ALLOWED_IMPORTS, *extra)


SHARE = Path(__file__).parent / "_share"
"""What a wheel brings beside the code: configs and weights."""

INSTALLED = SHARE if SHARE.is_dir() else Path(__file__).parents[1]
"""The folder that holds `configs` and `data/weights`: the project's own in a clone, else `SHARE`."""

CONFIG_FOLDERS: list[Path] = []
"""The folders of the YAML files that this command reads; commands add them."""


def data_root(root: str | Path | None = None) -> Path:
    """`root` if it is given, else `$FIBERMODELS_DATA`, else the folder `data` here or of the clone."""
    if given := root or os.environ.get("FIBERMODELS_DATA"):
        return Path(given)
    here, own = Path("data"), INSTALLED / "data"
    return own if INSTALLED != SHARE and own.is_dir() and not here.is_dir() else here


def places(path: str | Path) -> list[Path]:
    """Where `locate` looks, in its order."""
    roots = (Path(), *CONFIG_FOLDERS, data_root(), INSTALLED)
    return list(dict.fromkeys((root / path).absolute() for root in roots))


def locate(path: str | Path) -> Path:
    """The first that exists of `path` in the working directory, beside the YAML files of this command, below the data
    root, and where the project is; so a config works from anywhere and needs no absolute paths.

    Raises:
        FileNotFoundError: none exists; the message names all.
    """
    if Path(path).exists():
        return Path(path)
    tried = places(path)
    for found in tried:
        if found.exists():
            return found
    raise FileNotFoundError(f"nothing at {', nor at '.join(repr(str(place)) for place in tried)}")


def installed(word: str) -> str:
    """A word of a command line; a YAML file that is not here, but comes with the project, is named by its place there.

    So `--config configs/quickstart.yaml` works from any folder.
    """
    option, sign, path = word.rpartition("=")
    there = INSTALLED / path
    is_ours = path.endswith((".yaml", ".yml")) and not Path(path).exists() and there.is_file()
    return f"{option}{sign}{there}" if is_ours else word


def reason(report: str) -> str:
    """The cause in an error message of jsonargparse, without the alternatives that it tried."""
    _, _, tried = report.rpartition("Errors:\n")
    lines = list(takewhile(lambda line: "Expected a <class 'NoneType'>" not in line, (tried or report).splitlines()))
    lines = [line for line in lines if "either not accessible or invalid" not in line] or lines
    return REFUSED.sub(ALLOWED, "\n".join(lines).strip().removeprefix("- "))


class Recorded(ABCMeta):
    """Metaclass that stores the constructor's arguments, by name, in `arguments` of each instance."""

    @property
    def __signature__(cls) -> inspect.Signature:
        """The constructor's, which `help`, notebooks and editors show."""
        own = inspect.signature(cls.__init__)  # type: ignore[misc]
        return own.replace(parameters=list(own.parameters.values())[1:])

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        instance = super().__call__(*args, **kwargs)
        bound = inspect.signature(cls.__init__).bind(instance, *args, **kwargs)  # type: ignore[misc]
        bound.apply_defaults()
        _, *named = bound.arguments.items()
        instance.__dict__["arguments"] = dict(named)  # nn.Module would register modules
        return instance


class GivenAgain:
    """A mixin for recorded classes with an argument that no file can hold, such as a network in memory.

    A description has None for it, and who builds from the description gives it again (see `given_again`).
    """

    again: str
    """The name of the argument."""


def given_again(description: Any, value: Any) -> Any:
    """A description in which every object that is `GivenAgain` has `value` for what no file holds.

    Args:
        description: the result of `describe`.
        value: such as the network.
    """
    if isinstance(description, list):
        return [given_again(item, value) for item in description]
    if not isinstance(description, dict):
        return description
    content = {key: given_again(item, value) for key, item in description.items()}
    if set(content) == {"class_path", "init_args"}:
        cls = _recorded(content["class_path"])
        if issubclass(cls, GivenAgain):
            content["init_args"][cls.again] = value
    return content


def lacks(description: Any) -> bool:
    """Whether a description has an object that is `GivenAgain`, and whose argument is missing."""
    if isinstance(description, list):
        return any(lacks(item) for item in description)
    if not isinstance(description, dict):
        return False
    if set(description) == {"class_path", "init_args"}:
        cls = _recorded(description["class_path"])
        if issubclass(cls, GivenAgain) and description["init_args"].get(cls.again) is None:
            return True
    return any(lacks(item) for item in description.values())


def lazy(package: str, homes: Mapping[str, str], name: str) -> Any:
    """Imports the file of a package that defines a name, for the package's `__getattr__`.

    Raises:
        AttributeError: no file defines it.
    """
    if name not in homes:
        raise AttributeError(f"module '{package}' has no attribute '{name}'")
    return getattr(importlib.import_module(f"{package}.{homes[name]}"), name)


def public_path(cls: type) -> str:
    """The shortest import path of a class: the topmost package that exports it under its name.

    Published files record this path, so they still load after a module is moved or split.
    """
    parts = cls.__module__.split(".")
    packages = [".".join(parts[:end]) for end in range(1, len(parts))]
    home = next((p for p in packages if getattr(sys.modules.get(p), cls.__name__, None) is cls), cls.__module__)
    return f"{home}.{cls.__qualname__}"


def describe(value: Any) -> Any:
    """`value` in plain types: numbers, text, lists, dicts; a recorded object becomes a nested dict.

    Raises:
        TypeError: the value cannot be expressed in plain types.
    """
    if isinstance(type(value), Recorded):
        arguments = value.arguments | ({value.again: None} if isinstance(value, GivenAgain) else {})
        return {
            "class_path": public_path(type(value)),
            "init_args": {key: describe(item) for key, item in arguments.items()},
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
    """A description from any version in today's names, with the public path of every class."""
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
        name: the argument, with dots for an argument of an argument: `sampler.steps`.
        value: in plain types.

    Raises:
        ValueError: there is no such argument; the message names similar ones.
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
        weights: False sets every `weights` to None, for callers that load a state themselves.

    Raises:
        ValueError: the class is unknown or outside the allowed import paths, or the arguments are wrong.
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
    """Imports the class at a path, if the path is allowed and `accepts` returns true.

    Raises:
        ValueError: the path is not allowed, or no class `what` is there; the message names similar ones.
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
