"""The command `export`."""

import json
from collections.abc import Sequence
from typing import Any

from jsonargparse import Namespace

from fibermodels.commands import Parser, explained
from fibermodels.programs import called
from fibermodels.training.checkpoint import load
from fibermodels.training.exporting import export
from fibermodels.training.pretrained import save_pretrained


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command. Errors of the user give one message and exit status 2."""
    parser = Parser(prog=called("export"), description="Publishes what a checkpoint trained.")
    parser.add_argument("--checkpoint", type=str, required=True, help="runs/NAME/checkpoints/best.ckpt")
    parser.add_argument(
        "--out", type=str, required=True, help="the files' path, without an ending; with --folder true a folder"
    )
    parser.add_argument("--folder", type=bool, default=False, help="write a folder for the hub, with a page README.md")
    parser.add_argument("--overwrite", type=bool, default=False, help="replace earlier files")
    parser.add_argument("--half", type=bool, default=False, help="store the weights in 16 bits")
    parser.add_argument(
        "--frozen", type=bool, default=True, help="store the frozen parts, too, such as subject and latent space"
    )
    parser.add_argument("--result", type=str | None, default=None, help="folder of a result of evaluate.py to show")
    parser.add_argument("--license", type=str | None, default=None, help="such as mit; for the page")
    parser.add_argument("--repository", type=str | None, default=None, help="user/name on the hub; for the page")
    options = parser.parse_args(arguments)
    with explained():
        content = _folder(options) if options.folder else _files(options)
    print(json.dumps({key: content[key] for key in ("sha256", "test_scores")}, indent=2))


def _files(options: Namespace) -> dict[str, Any]:
    for name in ("license", "repository"):
        if options[name] is not None:
            raise ValueError(f"{name}: expected only with --folder true, which writes a page")
    return export(options.checkpoint, options.out, options.overwrite, options.half, options.frozen, options.result)


def _folder(options: Namespace) -> dict[str, Any]:
    if not options.frozen:
        raise ValueError("frozen: expected true with --folder true, because whoever loads the folder needs all parts")
    names = ("result", "license", "repository", "half", "overwrite")
    return save_pretrained(load(options.checkpoint), options.out, **{name: options[name] for name in names})
