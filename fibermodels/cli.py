"""The console command `fibermodels`, and what the scripts `train.py`, `evaluate.py` and `export.py` run.

A command is imported when it runs, so that the list of commands and the short help appear at once.
"""

import difflib
import importlib
import os
import sys
from collections.abc import Sequence
from typing import NamedTuple, NoReturn

import fibermodels
from fibermodels.config import installed
from fibermodels.help import PAGES
from fibermodels.programs import called


class Command(NamedTuple):
    """A subcommand."""

    help: str
    """What it does, in one line."""
    home: str
    """The module and the function that runs it, which takes the arguments."""


COMMANDS = {
    "init": Command("write a config for your own network and data", "fibermodels.training.new_config:main"),
    "explore": Command("look at the fiber of an image, without training", "fibermodels.api.exploring:main"),
    "train": Command("train a model that a config describes", "fibermodels.training.cli:main"),
    "evaluate": Command("score a model on the test images of its data", "fibermodels.evaluation.cli:main"),
    "sample": Command("draw samples for any images, as pictures and a table", "fibermodels.evaluation.sampling:main"),
    "compare": Command("put several results into one table and figure", "fibermodels.evaluation.comparing:main"),
    "export": Command("publish the weights of a trained model", "fibermodels.training.publish:main"),
    "list": Command("list models, configs, published weights and more", "fibermodels.catalogue:main"),
    "completion": Command("print a script with which a shell completes words", "fibermodels.completion:main"),
}
"""The subcommands, in the order in which a user needs them."""


def main() -> None:
    """Runs `fibermodels SUBCOMMAND ...`. Errors of the user give one message and exit status 2."""
    name, *arguments = sys.argv[1:] or [""]
    sys.path.append(os.getcwd())  # where a package of the user may be, as for `python train.py`
    if name in ("-h", "--help", "--help.all"):
        print(overview())
    elif name == "--version":
        print(fibermodels.__version__)
    elif name in COMMANDS:
        run(name, arguments)
    else:
        _unknown(name)


def run(name: str, arguments: Sequence[str] | None = None) -> None:
    """Runs one command.

    `--help` prints the command's page of help, if it has one; otherwise, and for `--help.all`, all its options.

    Args:
        name: a key of `COMMANDS`.
        arguments: of the command; None takes those of this process, which is a script then.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    given = [installed("--help" if word == "--help.all" else word) for word in words]
    if name in PAGES and {"-h", "--help"} & set(words):
        print(PAGES[name].format(command=called(name)).strip())
        return
    module, _, function = COMMANDS[name].home.partition(":")
    try:
        getattr(importlib.import_module(module), function)(given)
        sys.stdout.flush()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:  # the reader of the output, such as `head`, has ended
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


def overview() -> str:
    """The subcommands with a line each."""
    width = max(map(len, COMMANDS)) + 2
    lines = "\n".join(f"  {name:{width}}{command.help}" for name, command in COMMANDS.items())
    return (
        "usage: fibermodels COMMAND [options]\n\n"
        "Which other inputs does a network not tell apart from this one?\n\n"
        f"commands:\n{lines}\n\n"
        "`fibermodels COMMAND --help` shows how to use a command, `--help.all` all its options.\n"
        "`fibermodels --version` prints the version."
    )


def _unknown(name: str) -> NoReturn:
    if not name:
        print(overview(), file=sys.stderr)
        sys.exit(2)
    near = difflib.get_close_matches(name, COMMANDS, 1, 0.5)
    hint = f"; did you mean '{near[0]}'?" if near else f"; expected one of {', '.join(COMMANDS)}"
    print(f"error: there is no command '{name}'{hint}\nfibermodels --help lists all commands", file=sys.stderr)
    sys.exit(2)
