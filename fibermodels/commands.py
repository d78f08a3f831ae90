"""What all commands share: one short message for every error of the user, and exit status 2."""

import difflib
import importlib
import inspect
import pkgutil
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

import yaml
from jsonargparse import ArgumentParser

import fibermodels
from fibermodels.config import CONFIG_FOLDERS, Recorded, reason

LONGEST = 1200
"""Characters of a message; the rest is left out."""

NODES = 100_000
"""The largest size of a YAML file with all its aliases replaced."""


def short(message: str) -> str:
    """A message without what would fill the screen."""
    message = message.strip() or "no reason is known"
    left = len(message) - LONGEST
    return message if left <= 0 else f"{message[:LONGEST]} ... ({left} more characters)"


@contextmanager
def explained(*also: type[BaseException]) -> Iterator[None]:
    """Errors of the user, and those of the system (a full disk, no permission), end the command with one message.

    Args:
        also: further errors that are expected.
    """
    expected: tuple[type[BaseException], ...] = (ValueError, OSError, *also)
    try:
        yield
    except BrokenPipeError:
        raise  # whoever reads the output has had enough
    except expected as error:
        system = isinstance(error, OSError) and error.strerror and error.filename
        text = f"'{error.filename}': {error.strerror}" if system else reason(str(error))  # type: ignore[attr-defined]
        print(f"error: {short(text)}", file=sys.stderr)
        sys.exit(2)


def print_table(titles: Sequence[str], lines: Iterable[Sequence[str]]) -> None:
    """Prints a table; into a file or a pipe with up to 200 characters in a line."""
    from rich.console import Console
    from rich.table import Table

    table = Table(*titles)
    for line in lines:
        table.add_row(*line)
    console = Console()
    (console if console.is_terminal else Console(width=200)).print(table)


class Explains:
    """A parser whose errors are one message, with the nearest known word for one that nobody knows."""

    exit_on_error: bool
    prog: str

    def parse_args(self, *args: Any, **options: Any) -> Any:
        """The options.

        jsonargparse (4.53) fails with a `RuntimeError` where a file has keys and values for an option that is a list.
        """
        try:
            return super().parse_args(*args, **options)  # type: ignore[misc]
        except RuntimeError as error:
            if "dictionary changed size" not in str(error):
                raise
            self.error("a list was expected for an option, and a file has keys with values there")

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Prints the message and ends the command."""
        if not self.exit_on_error:
            super().error(message, ex)  # type: ignore[misc]
        message = message.replace(" fit.", " ")  # Lightning's subcommand, which is not shown
        keys = (word for action in self._actions for word in str(action.dest).split("."))  # type: ignore[attr-defined]
        print(f"error: {short(_with_key(message))}{nearest(message, keys)}", file=sys.stderr)
        name = self.prog.partition(" [")[0]  # without Lightning's subcommand
        print(f"{name} --help.all lists all options", file=sys.stderr)
        sys.exit(2)


def _with_key(message: str) -> str:
    """The cause in one line, after the key that it belongs to."""
    key = re.match(r'Parser key "([^"]+)":', message)
    cause = " ".join(reason(message).split())
    return f"--{key[1]}: {cause.removeprefix(key[0]).strip().removeprefix('- ')}" if key else cause


class Parser(Explains, ArgumentParser):
    """The parser of a command."""


def nearest(message: str, keys: Iterable[str] = ()) -> str:
    """`; did you mean 'width'?` for a message on `widht`; empty if every word is known or unlike all that are.

    Args:
        message: what went wrong, with words in quotes or after dashes.
        keys: the options of the command.
    """
    known = {*keys, *_names()}
    if choice := re.search(r"Literal\[(.*?)\]\. Got value: (\S+)", message):
        known, quoted = set(re.findall(r"'(.*?)'", choice[1])), [choice[2]]
    else:
        told = message.partition(" do not fit: ")[0]  # behind it are names of weights
        named = re.sub(r"<class '[\w.]+'>", "", told)
        parts = re.findall(r"--([\w.]+)|['\"]([\w.]+)['\"]|path string: ([\w.]+)", named)
        quoted = ["".join(words) for words in parts]
    for word in dict.fromkeys(part.rpartition(".")[2] for part in quoted):
        if word and word not in known and (near := difflib.get_close_matches(word, known, 1, 0.75)):
            return f"; did you mean '{near[0]}' instead of '{word}'?"
    return ""


@cache
def _names() -> frozenset[str]:
    """The classes of the project that configs may name, and their arguments."""
    names: set[str] = set()
    for room in pkgutil.iter_modules(fibermodels.__path__, "fibermodels."):
        module = importlib.import_module(room.name)
        for name in getattr(module, "__all__", ()):
            found: Any = getattr(module, name, None)
            if isinstance(found, Recorded):
                names |= {name, *list(inspect.signature(found.__init__).parameters)[1:]}  # type: ignore[misc]
    return frozenset(names)


def check_files(arguments: Sequence[str]) -> list[Path]:
    """Checks the YAML files that a command line names: those of `--config`, and all with the ending of one.

    Returns:
        The files of `--config`.

    Raises:
        ValueError: as `check_yaml` does.
    """
    words = [part for argument in arguments for part in argument.split("=", 1)]
    configs: list[Path] = []
    CONFIG_FOLDERS.clear()
    for option, value in zip(["", *words], words, strict=False):
        path, config = Path(value), option in ("-c", "--config")
        if (config or path.suffix in (".yaml", ".yml")) and path.is_file():
            check_yaml(path)
            configs += [path] if config else []
    return configs


KINDS = {yaml.ScalarNode: "one value", yaml.SequenceNode: "a list", type(None): "nothing"}
"""What a file holds that is not keys with values."""


def check_yaml(path: Path) -> None:
    """Refuses a file that holds no keys, or that would fill the memory: a few aliases of aliases can stand for
    billions of values. The paths in a file that is accepted may be relative to its folder.

    Raises:
        ValueError: naming the file.
    """
    try:
        root = yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"'{path}' is no YAML file: {' '.join(str(error).split())}") from error
    if not isinstance(root, yaml.MappingNode):
        raise ValueError(f"'{path}': expected keys with values, got {KINDS[type(root)]}")
    if _size(root, {}) > NODES:
        raise ValueError(f"'{path}': expected at most {NODES} values, got more by aliases of aliases")
    CONFIG_FOLDERS.append(path.absolute().parent)


def _size(node: yaml.Node, known: dict[int, int]) -> int:
    """How many values a node stands for."""
    if id(node) not in known:
        known[id(node)] = NODES  # an alias of what is around it never ends
        parts: list[yaml.Node] = []
        if isinstance(node, yaml.SequenceNode):
            parts = node.value
        elif isinstance(node, yaml.MappingNode):
            parts = [part for pair in node.value for part in pair]
        known[id(node)] = 1 + sum(_size(part, known) for part in parts)
    return known[id(node)]
