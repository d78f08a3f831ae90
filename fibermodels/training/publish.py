"""The command `export`."""

import json
from collections.abc import Sequence

from fibermodels.commands import Parser, explained
from fibermodels.programs import called
from fibermodels.training.checkpoint import export


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command. Errors of the user give one message and exit status 2."""
    parser = Parser(prog=called("export"), description="Publishes what a checkpoint trained.")
    parser.add_argument("--checkpoint", type=str, required=True, help="runs/NAME/checkpoints/best.ckpt")
    parser.add_argument("--out", type=str, required=True, help="the files' path, without an ending")
    parser.add_argument("--overwrite", type=bool, default=False, help="replace earlier files")
    parser.add_argument("--half", type=bool, default=False, help="store the weights in 16 bits")
    options = parser.parse_args(arguments)
    with explained():
        content = export(options.checkpoint, options.out, options.overwrite, options.half)
    print(json.dumps({key: content[key] for key in ("sha256", "test_scores")}, indent=2))
