"""How a user calls the commands: as scripts of a clone, or as subcommands of `fibermodels`."""

import sys
from pathlib import Path

SCRIPTS = ("train", "evaluate", "export")
"""The commands that are scripts of a clone, too."""


def called(name: str) -> str:
    """How the user of this process calls a command: `python train.py` if a script runs, else `fibermodels train`."""
    script = Path(sys.argv[0])
    if name in SCRIPTS and script.suffix == ".py" and script.stem in SCRIPTS:
        return f"python {name}.py"
    return f"fibermodels {name}"
