"""The command `init`: one config for your own network and data, which `train` runs as it is."""

import os
import shlex
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from jsonargparse import Namespace

from fibermodels.checks import check_number
from fibermodels.commands import Parser, explained
from fibermodels.data.arrays import ENDINGS
from fibermodels.files import check_new, save_tensors, write_text
from fibermodels.programs import called
from fibermodels.training.new_images import of_images
from fibermodels.training.new_inputs import of_file
from fibermodels.training.planning import planned, whole
from fibermodels.training.recipe import training
from fibermodels.training.written import text

TIMM = "timm:"
"""The prefix of a network's name in timm."""


def parser() -> Parser:
    """The options of the command."""
    own = Parser(
        prog=called("init"),
        description="Writes one config, with comments, for your own network and your images, table, points or signals; "
        "`fibermodels train` runs it.",
    )
    own.add_argument(
        "--network",
        type=str,
        required=True,
        help="import path of an nn.Module's class, such as mypackage.nets.ResNet, or timm:NAME",
    )
    own.add_argument(
        "--layer",
        type=str | None,
        default=None,
        help="a module's name, or spatial, pooled or logits; default: spatial for images, logits for other inputs",
    )
    own.add_argument("--images", type=str | None, default=None, help="a folder of images")
    own.add_argument(
        "--data",
        type=str | None,
        default=None,
        help="instead of --images: a .csv, .npy, .npz or .safetensors file of a table, points, signals or maps",
    )
    own.add_argument(
        "--label",
        type=str | None,
        default=None,
        help="of a table in a .csv file: name or number of the column with the classes, or none; rows are standardised",
    )
    own.add_argument("--out", type=str | None, default=None, help="the file; default: NETWORK-LAYER.yaml")
    own.add_argument(
        "--size", type=int | None, default=None, help="pixels per side; default: the images' own, up to 64"
    )
    own.add_argument(
        "--mean",
        type=list[float] | None,
        default=None,
        help="of the network's input: for images in [0, 1], or for rows in the units of the file",
    )
    own.add_argument("--std", type=list[float] | None, default=None, help="likewise")
    own.add_argument("--weights", type=str | None, default=None, help="the network's file; for timm also `pretrained`")
    own.add_argument(
        "--network_args", type=dict[str, Any], default={}, help="arguments of the class, --network_args.NAME VALUE each"
    )
    own.add_argument(
        "--minutes",
        type=float | None,
        default=None,
        help="of the training on this machine: steps are measured, and the generator has the width that they allow; "
        "default: the whole recipe, whatever time it takes",
    )
    own.add_argument("--overwrite", type=bool, default=False, help="replace an earlier file")
    return own


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command. Errors of the user give one message and exit status 2."""
    options = parser().parse_args(arguments)
    with explained():
        write(options)


def write(options: Namespace) -> None:
    """Writes the file and says what it assumes.

    Raises:
        FileNotFoundError, FileExistsError: there are no data; the file exists.
        ValueError: the network or its layer is unknown, or an option does not fit.
    """
    since = time.perf_counter()
    check_number("init", "minutes", options.minutes, above=0)
    timm = options.network.startswith(TIMM)
    name = options.network.removeprefix(TIMM)
    _check(options, timm)
    options.layer = options.layer or ("spatial" if options.images else "logits")
    out = Path(options.out or f"{name.rpartition('.')[2] if not timm else name}-{options.layer}.yaml")
    if out.suffix not in (".yaml", ".yml"):
        raise ValueError(f"out: expected a file that ends in .yaml, got '{out}'")
    random = out.with_suffix(".safetensors")
    for file in (out, random):
        check_new(file, options.overwrite)
    package = "" if timm else trusted(name)
    given = of_images(options, name, timm) if options.images else of_file(options, name)
    subject, build = given.subject, partial(training, given.subject, scale=given.scale)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    plan = whole(given.count, device, places=given.x.ndim == 4)
    if options.minutes is not None:
        plan = planned(build, given.x, given.count, options.minutes, device, since)
    weights = options.weights if options.weights is not None else random.name  # all layers must have the same
    if options.weights is None:
        save_tensors({key: value.clone() for key, value in subject.network.state_dict().items()}, random)
    allowed = f"FIBERMODELS_IMPORTS={package} " if package else ""
    commands = [f"{allowed}fibermodels {words}" for words in _commands(out)]
    write_text(
        out, text(commands, out.stem, build(plan.width, batch=plan.batch), given.data, plan, weights, given.notes)
    )
    print(f"{given.told}; layer '{options.layer}' of {name} returns {' x '.join(map(str, subject.feature_shape))}")
    for remark in [*given.remarks, *(f"{key}: {note}" for key, note in given.notes.items())]:
        print(f"note: {remark}")
    print(f"{plan}\n{out}")
    for aim, command in zip(("train", "sample", "score"), commands, strict=True):
        print(f"to {aim}: {command}")


def _check(options: Namespace, timm: bool) -> None:
    """Refuses options that do not fit the kind of data.

    Raises:
        ValueError: naming the option.
    """
    if bool(options.images) == bool(options.data):
        raise ValueError(f"expected one of --images and --data, got {'both' if options.images else 'none'}")
    if options.images and Path(options.images).suffix in ENDINGS:
        raise ValueError(
            f"images: expected a folder of images, got '{options.images}'; give a file of numbers as --data"
        )
    if options.images and options.label is not None:
        raise ValueError("label: expected only with --data, got it with --images")
    if options.data and options.size is not None:
        raise ValueError("size: expected only with --images, got it with --data")
    if options.data and timm:
        raise ValueError(f"network: expected the import path of a class with --data, got '{options.network}'")


def _commands(out: Path) -> tuple[str, str, str]:
    """What the user can do next: train, then sample and score."""
    best = shlex.quote(f"runs/{out.stem}/checkpoints/best.ckpt")
    samples, results = (shlex.quote(f"{folder}/{out.stem}") for folder in ("samples", "results"))
    return (
        f"train --config {shlex.quote(str(out))}",
        f"sample --checkpoint {best} --targets 8 --out {samples}",
        f"evaluate --checkpoint {best} --out {results}",
    )


def trusted(network: str) -> str:
    """The package of a class that the user has named on the command line, which may be imported from now on.

    Raises:
        ValueError: it is no import path.
    """
    package, dot, _ = network.partition(".")
    if not dot or not all(word.isidentifier() for word in network.split(".")):
        raise ValueError(
            f"network: expected an import path such as mypackage.nets.ResNet, or timm:NAME, got '{network}'"
        )
    known = os.environ.get("FIBERMODELS_IMPORTS", "").split(",")
    os.environ["FIBERMODELS_IMPORTS"] = ",".join([*filter(None, known), package])
    return package
