"""Runs the project's commands as the command line would, but in this process: a new one would spend ten
seconds on imports for every test."""

import contextlib
import io
import os
import sys
from pathlib import Path
from typing import NamedTuple
from unittest import mock

ROOT = Path(__file__).parents[1]


class Done(NamedTuple):
    """How a script ended, and what it said."""

    returncode: int
    stdout: str
    stderr: str


def run(script: str, *arguments: object, cwd: Path = ROOT, **environment: object) -> Done:
    """The outcome of `python SCRIPT ARGUMENTS` or `fibermodels ARGUMENTS` in a folder, by default the root."""
    from fibermodels import cli

    out, err, code = io.StringIO(), io.StringIO(), 0
    with (
        mock.patch.object(sys, "argv", [script, *map(str, arguments)]),
        mock.patch.object(sys, "path", [str(ROOT), *sys.path]),  # where a script's own folder is
        mock.patch.dict(os.environ, {name: str(value) for name, value in environment.items()}),
        contextlib.chdir(cwd),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            cli.main() if script == "fibermodels" else cli.run(script.removesuffix(".py"))
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
    return Done(code, out.getvalue(), err.getvalue())
