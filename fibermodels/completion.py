"""The command `completion`: a script with which bash or zsh completes commands, options and values.

The script is made of what the commands say of themselves: the page of all options of each of them.
"""

import io
import re
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout, suppress
from typing import Literal

from fibermodels import cli
from fibermodels.applications import APPLICATIONS
from fibermodels.catalogue import FILES, KINDS, entries
from fibermodels.commands import Parser

SCRIPT = """\
# Completes the command fibermodels: `source` this file.
_fibermodels() {{
    local word="${{COMP_WORDS[COMP_CWORD]}}" before="${{COMP_WORDS[COMP_CWORD - 1]}}" known=""
    if ((COMP_CWORD == 1)); then
        known="{commands}"
    else
        case "${{COMP_WORDS[1]}} $before" in
{values}
        *' -'*) ;;  # the value of another option: a file, or what the user knows
        *)
            case "${{COMP_WORDS[1]}}" in
{options}
            esac
            ;;
        esac
    fi
    COMPREPLY=($(compgen -W "$known" -- "$word"))
}}
complete -o default -F _fibermodels fibermodels
"""
"""For bash, which completes files where no word is known. The words of the project have no spaces and no quotes."""

BEFORE = {"bash": "", "zsh": "autoload -Uz compinit bashcompinit && compinit && bashcompinit\n"}
"""What comes first in the script of each shell: zsh has the functions of bash in `bashcompinit`."""

CONFIGS = {"train": "--config", "evaluate": "--model", "sample": "--checkpoint"}
"""Commands with an option that takes a config of the project."""

WORDS = {"list": [*KINDS, *FILES], "completion": list(BEFORE), "explore": list(APPLICATIONS)}
"""Commands that take words, beside their options."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command. Errors of the user give one message and exit status 2."""
    own = Parser(prog="fibermodels completion", description="Prints a script for the completion of a shell.")
    own.add_argument("shell", type=Literal["bash", "zsh"], help="the shell")
    shell = own.parse_args(arguments).shell
    print(BEFORE[shell] + script(), end="")


def script() -> str:
    """The script."""
    options, values = dict[str, list[str]](), list[str]()
    configs = [name for name, _ in sorted(entries("configs"))]
    for name in cli.COMMANDS:
        known = dict(found(help_of(name)))
        options[name] = [*WORDS.get(name, []), *known]
        known |= {CONFIGS[name]: configs} if name in CONFIGS else {}
        values += [f"        {f'{name} {option}'!r}) known={' '.join(of)!r} ;;" for option, of in known.items() if of]
    return SCRIPT.format(
        commands=" ".join([*cli.COMMANDS, "--help", "--version"]),
        values="\n".join(values),
        options="\n".join(f"            {name}) known={' '.join(own)!r} ;;" for name, own in options.items()),
    )


def help_of(name: str) -> str:
    """The page of all options of a command."""
    page = io.StringIO()
    with redirect_stdout(page), suppress(SystemExit):
        cli.run(name, ["--help.all"])
    return page.getvalue()


def found(page: str) -> Iterator[tuple[str, list[str]]]:
    """The long options on a page of help, each with its values if they are few.

    Args:
        page: the result of `help_of`.
    """
    starts = list(re.finditer(r"^ {1,4}(?:-\w[^-\n]*, )?(--[\w.]+)", page, re.MULTILINE))
    for start, end in zip(starts, [*(each.start() for each in starts[1:]), len(page)], strict=True):
        text = page[start.start() : end]
        choices = re.search(r"\{([\w,-]+)\}", text)
        few = choices[1].split(",") if choices else ["true", "false"] if "type: bool" in text else []
        yield start[1], few
