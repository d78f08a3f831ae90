"""What classes were called before, in one table, so that every checkpoint and card published so far still loads.

A description (see `fibermodels.config`) names a class by its public path. Earlier versions named the module that
defined the class. A class that has moved, or has got other arguments or other names of its weights since then, has
an entry in `FORMER` under its former path.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

Arguments = dict[str, Any]


def _same(arguments: Arguments) -> Arguments:
    return arguments


@dataclass(frozen=True)
class Former:
    """What became of a class."""

    path: str
    """Its public path today."""
    arguments: Callable[[Arguments], Arguments] = _same
    """Today's constructor arguments from the former ones, as plain types."""
    keys: Mapping[str, str] = field(default_factory=dict)
    """Former prefixes of the names of its weights, and those of today; the longest match counts."""


def _training(arguments: Arguments) -> Arguments:
    names = {"lr": "learning_rate", "rise": "warmup"}
    return {names.get(name, name): value for name, value in arguments.items() if name != "same_noise"}


FORMER: dict[str, Former] = {
    "fibermodels.training.module.Training": Former("fibermodels.training.Training", _training),
}


def modern(description: Any, state: dict[str, Any] | None = None, prefix: str = "") -> Any:
    """A description in today's terms.

    Args:
        description: of an object, by this version or an earlier one; it is not changed.
        state: the weights of the whole object, by name. Those of renamed parts are renamed in place. The weights of a
            part are found by the name of the constructor's argument that holds it.
        prefix: how the names of this object's weights begin.
    """
    if isinstance(description, list):
        return [modern(item, state, f"{prefix}{index}.") for index, item in enumerate(description)]
    if not isinstance(description, dict):
        return description
    if set(description) != {"class_path", "init_args"}:
        return {key: modern(item, state, f"{prefix}{key}.") for key, item in description.items()}
    path, arguments = description["class_path"], description["init_args"]
    former = FORMER.get(path)
    if former is not None:
        path, arguments = former.path, former.arguments(dict(arguments))
        _rename(state, prefix, former.keys)
    return {
        "class_path": path,
        "init_args": {key: modern(item, state, f"{prefix}{key}.") for key, item in arguments.items()},
    }


def _rename(state: dict[str, Any] | None, prefix: str, keys: Mapping[str, str]) -> None:
    for name in list(state or ()):
        own = name.removeprefix(prefix)
        if state is None or not name.startswith(prefix):
            continue
        start = max((old for old in keys if own.startswith(old)), key=len, default=None)
        if start is not None:
            state[prefix + keys[start] + own.removeprefix(start)] = state.pop(name)
