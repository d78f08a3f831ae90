"""The command line of `export.py`."""

import json
import sys

from jsonargparse import ArgumentParser

from fibermodels.training.checkpoint import export


def main() -> None:
    """Runs `export.py`. Errors of the user give one message and exit status 2."""
    parser = ArgumentParser(prog="export.py", description="Publishes what a checkpoint trained.")
    parser.add_argument("--checkpoint", type=str, required=True, help="runs/NAME/checkpoints/best.ckpt")
    parser.add_argument("--out", type=str, required=True, help="the files' path, without an ending")
    parser.add_argument("--overwrite", type=bool, default=False, help="replace earlier files")
    parser.add_argument("--half", type=bool, default=False, help="store the weights in 16 bits")
    options = parser.parse_args()
    try:
        content = export(options.checkpoint, options.out, options.overwrite, options.half)
    except (ValueError, FileNotFoundError, FileExistsError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    print(json.dumps({key: content[key] for key in ("sha256", "test_scores")}, indent=2))
