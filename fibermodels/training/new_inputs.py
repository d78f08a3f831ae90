"""The half of `init` that is about files of numbers: tables, points, signals and maps."""

from pathlib import Path
from typing import Any

import torch
from jsonargparse import Namespace
from torch import nn

from fibermodels.config import locate
from fibermodels.data import Arrays, Table
from fibermodels.data.arrays import ENDINGS
from fibermodels.data.table import check_columns
from fibermodels.spaces import ImageSpace
from fibermodels.subjects import Cut
from fibermodels.training.new_subject import RANDOM, Given, built, network_of
from fibermodels.training.recipe import BATCH, scale_of

NONE = "none"
"""The label of a table without classes."""

AS_THEY_ARE = "the network gets the inputs as they are; give its own mean and std if it normalises"

STANDARDISED = (
    "the network gets rows that are standardised by the training rows; if it was trained on others, give the mean and "
    "std of its own normalisation in the units of the file; --mean [0] --std [1] gives it the file's rows as they are"
)


def of_file(options: Namespace, network: str) -> Given:
    """The network and the file of numbers.

    With a `label`, a CSV file is a table, whose rows are standardised (`data.Table`). Without, the file has inputs in
    their own units (`data.Arrays`); rows of numbers become signals if the network's first layer is a `Conv1d` and the
    network takes no vectors.

    Args:
        options: of the command.
        network: the import path of its class.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file has categories, text or images, the network or its layer is unknown, or an option does not
            fit.
    """
    if Path(options.data).suffix not in ENDINGS:
        raise ValueError(f"data: expected a file that ends in {', '.join(ENDINGS)}, got '{options.data}'")
    made = network_of(network, options.network_args)
    table = options.label is not None
    data: Table | Arrays
    if table:
        data = Table(options.data, _label(options.label), BATCH)
    else:
        data = Arrays(options.data, BATCH)
    space = data.split("train").space()
    if isinstance(space, ImageSpace):
        raise ValueError(f"data: '{options.data}' has images as bytes: expected a folder of image files, as --images")
    shape, remarks = list(space.shape), []
    if not table:
        shape = _shape(made, shape)
        if shape != list(space.shape):
            data = Arrays(options.data, BATCH, input_shape=shape)
            remarks = [
                f"rows of {space.shape[0]} numbers are signals of {_by(shape)}, because the network has a Conv1d"
            ]
        elif len(shape) == 1 and Path(options.data).suffix == ".csv":
            check_columns(locate(options.data))
            remarks = ["columns are in their own units; for a table give --label COLUMN, the column of classes, or "
                       f"--label {NONE}"]  # fmt: skip
    arguments: dict[str, Any] = {"network": network}
    if options.network_args:
        arguments["network_args"] = dict(options.network_args)
    arguments |= {"layer": options.layer, "input_shape": shape, "weights": options.weights}
    arguments |= _statistics(options, data, shape[0])
    notes = {}
    if "mean" not in arguments:
        notes["mean"] = STANDARDISED if table else AS_THEY_ARE
    if options.weights is None:
        notes["weights"] = RANDOM
    x = data.split("train").inputs(slice(BATCH))
    count = len(data.split("train"))
    told = f"{count} training rows of {shape[0]} columns" if table else f"{count} training inputs of {_by(shape)}"
    return Given(built(Cut, arguments), data, count, x, told, notes, remarks, scale_of(data))


def _by(shape: list[int]) -> str:
    return " x ".join(map(str, shape)) + (" numbers" if len(shape) == 1 else "")


def _label(text: str) -> str | int | None:
    """The label of a `Table`: a name, a number, or None."""
    return None if text == NONE else int(text) if text.removeprefix("-").isdigit() else text


def _shape(network: nn.Module, shape: list[int]) -> list[int]:
    """The shape in which a network takes inputs: signals of as many channels as its first `Conv1d` has, if it does not
    take vectors."""
    conv = next((module for module in network.modules() if isinstance(module, nn.Conv1d)), None)
    if len(shape) != 1 or conv is None or shape[0] % conv.in_channels or _takes(network, shape):
        return shape
    signal = [conv.in_channels, shape[0] // conv.in_channels]
    return signal if _takes(network, signal) else shape


@torch.no_grad()
def _takes(network: nn.Module, shape: list[int]) -> bool:
    try:
        network.eval()(torch.zeros(2, *shape))
    except (RuntimeError, IndexError):
        return False
    return True


def _statistics(options: Namespace, data: Table | Arrays, size: int) -> dict[str, list[float]]:
    """The arguments `mean` and `std` of the subject, if the user gave one of them: a number for each entry, or one."""
    if options.mean is None and options.std is None:
        return {}
    mean, std = options.mean or [0.0], options.std or [1.0]
    if isinstance(data, Table):
        return {key: [float(f"{v:.9g}") for v in values] for key, values in data.statistics(mean, std).items()}
    return {"mean": mean * size if len(mean) == 1 else mean, "std": std * size if len(std) == 1 else std}
