"""The command `init`: one config for your own network and images, which `train` runs as it is."""

import os
import shlex
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from jsonargparse import Namespace
from torch import nn

from fibermodels.checks import check_number
from fibermodels.commands import Parser, explained
from fibermodels.config import import_class
from fibermodels.data.arrays import ENDINGS
from fibermodels.data.given import as_data, shape_for, shapes
from fibermodels.files import check_new, save_tensors, write_text
from fibermodels.programs import called
from fibermodels.subjects import Cut, Timm
from fibermodels.subjects.live import expected_input, input_channels
from fibermodels.subjects.networked import Networked
from fibermodels.subjects.preprocess import Preprocess
from fibermodels.subjects.stages import steps
from fibermodels.training.planning import planned, whole
from fibermodels.training.recipe import BATCH, training
from fibermodels.training.written import text

TIMM = "timm:"
"""The prefix of a network's name in timm."""

LISTED = 120
"""The most layers that are listed."""


def parser() -> Parser:
    """The options of the command."""
    own = Parser(
        prog=called("init"),
        description="Writes one config for your own network and images, with comments; `fibermodels train` runs it.",
    )
    own.add_argument(
        "--network",
        type=str,
        required=True,
        help="import path of an nn.Module's class, such as mypackage.nets.ResNet, or timm:NAME",
    )
    own.add_argument("--layer", type=str, default="spatial", help="a module's name, or spatial, pooled or logits")
    own.add_argument("--images", type=str, required=True, help="a folder of images")
    own.add_argument("--out", type=str | None, default=None, help="the file; default: NETWORK-LAYER.yaml")
    own.add_argument(
        "--size", type=int | None, default=None, help="pixels per side; default: the images' own, up to 64"
    )
    own.add_argument(
        "--mean", type=list[float] | None, default=None, help="of the network's input, for images in [0, 1]"
    )
    own.add_argument(
        "--std", type=list[float] | None, default=None, help="of the network's input, for images in [0, 1]"
    )
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
        FileNotFoundError, FileExistsError: there are no images; the file exists.
        ValueError: the network or its layer is unknown, or an option does not fit.
    """
    since = time.perf_counter()
    check_number("init", "minutes", options.minutes, above=0)
    if Path(options.images).suffix in ENDINGS:
        raise ValueError(
            f"images: expected a folder of images, got '{options.images}'; for points, tables and signals take the "
            "config of docs/inputs.md, or fibermodels.fit in Python"
        )
    timm = options.network.startswith(TIMM)
    name = options.network.removeprefix(TIMM)
    out = Path(options.out or f"{name.rpartition('.')[2] if not timm else name}-{options.layer}.yaml")
    if out.suffix not in (".yaml", ".yml"):
        raise ValueError(f"out: expected a file that ends in .yaml, got '{out}'")
    random = out.with_suffix(".safetensors")
    for file in (out, random):
        check_new(file, options.overwrite)
    package = "" if timm else trusted(name)
    found = shapes(options.images)
    shape = shape_for(found, options.size)
    if shape[1] % 4 or shape[1] < 8:
        raise ValueError(f"size: expected a multiple of 4 of at least 8, got {shape[1]}")
    arguments, notes = _of_timm(options, name, shape) if timm else _of_class(options, name, shape)
    subject = _built(Timm if timm else Cut, arguments)
    data = as_data(options.images, options.size, BATCH, channels=subject.image_shape[0])
    images = len(data.listing("train").files)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    plan = whole(images, device)
    if options.minutes is not None:
        x = torch.rand(min(BATCH, images), *subject.image_shape)
        plan = planned(partial(training, subject), x, images, options.minutes, device, since)
    allowed = f"FIBERMODELS_IMPORTS={package} " if package else ""
    command = f"{allowed}fibermodels train --config {shlex.quote(str(out))}"
    weights = options.weights if options.weights is not None else random.name  # all layers must have the same
    if options.weights is None:
        save_tensors({key: value.clone() for key, value in subject.network.state_dict().items()}, random)
    write_text(
        out, text(command, out.stem, training(subject, plan.width, batch=plan.batch), data, plan, weights, notes)
    )
    print(
        f"{images} training images of {shape[1]} x {shape[2]} pixels; layer '{options.layer}' of {name} returns "
        f"{' x '.join(map(str, subject.feature_shape))}"
    )
    for remark in [*_scaled(found, shape), *(f"{key}: {note}" for key, note in notes.items())]:
        print(f"note: {remark}")
    print(f"{plan}\n{out}\nto train: {command}")


def _scaled(found: list[tuple[int, int, int]], shape: list[int]) -> list[str]:
    """A remark on images that are not taken as they are."""
    sizes = {(height, width) for _, height, width in found}
    if sizes == {(shape[1], shape[2])}:
        return []
    own = "{} x {}".format(*sizes.pop()) if len(sizes) == 1 else "of several sizes"
    return [f"the images are {own}, and are scaled and cropped to {shape[1]} x {shape[2]}; --size changes this"]


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


def _of_class(options: Namespace, network: str, shape: list[int]) -> tuple[dict[str, Any], dict[str, str]]:
    """The arguments of `Cut`, and remarks on them."""
    cls = import_class(network, lambda found: isinstance(found, type) and issubclass(found, nn.Module), "an nn.Module")
    try:
        made = cls(**options.network_args)
    except TypeError as error:
        raise ValueError(f"network_args: cannot build {network}: {error}; give --network_args.NAME VALUE") from error
    channels = input_channels(made) or shape[0]
    arguments: dict[str, Any] = {"network": network}
    if options.network_args:
        arguments["network_args"] = dict(options.network_args)
    shape = [1 if channels == 1 else shape[0], *shape[1:]]
    arguments |= {"layer": options.layer, "image_shape": shape}
    arguments |= {"mean": options.mean or [0.0] * channels, "std": options.std or [1.0] * channels}
    arguments |= {"weights": options.weights}
    notes = {}
    if options.mean is None and options.std is None:
        notes["mean"] = "the network gets images in [0, 1] as they are; give its own mean and std if it normalises"
    if options.weights is None:
        notes["weights"] = "as the class starts, at random unless it loads its own; give the file of trained ones"
    return arguments, notes


def _of_timm(options: Namespace, model: str, shape: list[int]) -> tuple[dict[str, Any], dict[str, str]]:
    """The arguments of `Timm`, and remarks on them.

    Raises:
        ValueError: timm has no such network.
    """
    if options.network_args:
        raise ValueError("network_args: expected only for a class, got them for a network of timm")
    preview = Timm(model, "pooled", shape, crop_pct=1.0)
    found, fixed = cast(Preprocess, preview.preprocess), expected_input(preview.network).size
    side = fixed[0] if fixed else max(shape[1:])
    mean, std = (options[key] or [round(float(v), 6) for v in getattr(found, key).flatten()] for key in ("mean", "std"))
    arguments = {
        "model": model, "layer": options.layer, "image_shape": shape, "mean": mean, "std": std,
        "input_size": side, "crop_pct": 1.0, "weights": options.weights,
    }  # fmt: skip
    notes = {"crop_pct": "the network sees the whole image"}
    notes["input_size"] = (
        "the only one that it takes" if fixed else f"that of the images; timm's is {found.crop[0]}, and slower"
    )
    if options.weights is None:
        notes["weights"] = "random ones; `pretrained` takes timm's"
    return arguments, notes


def _built(kind: type[Networked], arguments: dict[str, Any]) -> Networked:
    """The subject; if it has no such layer, the message lists the layers that it has."""
    try:
        return kind(**arguments)
    except ValueError as error:
        if not str(error).startswith("layer: there is no"):
            raise
        subject = kind(**{**arguments, "layer": "logits" if kind is Cut else "pooled"})
        first, _, _ = str(error).partition("Expected one of")
        message = f"{first.strip()} These layers run, with the shapes of their outputs:"
    for name, shape in steps(subject)[:LISTED]:
        message += f"\n  {name:40} {' x '.join(map(str, shape[1:]))}"
    print(f"error: {message}", file=sys.stderr)
    sys.exit(2)
