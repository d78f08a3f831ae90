"""The half of `init` that is about folders of images."""

from typing import Any, cast

import torch
from jsonargparse import Namespace

from fibermodels.data.given import as_data, shape_for, shapes
from fibermodels.subjects import Cut, Timm
from fibermodels.subjects.live import expected_input, input_channels
from fibermodels.subjects.preprocess import Preprocess
from fibermodels.training.new_subject import RANDOM, Given, built, network_of
from fibermodels.training.recipe import BATCH


def of_images(options: Namespace, name: str, timm: bool) -> Given:
    """The network and the folder of images.

    Args:
        options: of the command.
        name: the import path of a class, or the name of a network of timm.
        timm: whether it is the latter.

    Raises:
        FileNotFoundError: there are no images.
        ValueError: the network or its layer is unknown, or an option does not fit.
    """
    found = shapes(options.images)
    shape = shape_for(found, options.size)
    if shape[1] % 4 or shape[1] < 8:
        raise ValueError(f"size: expected a multiple of 4 of at least 8, got {shape[1]}")
    arguments, notes = _of_timm(options, name, shape) if timm else _of_class(options, name, shape)
    subject = built(Timm if timm else Cut, arguments)
    data = as_data(options.images, options.size, BATCH, channels=subject.image_shape[0])
    count = len(data.listing("train").files)
    x = torch.rand(min(BATCH, count), *subject.image_shape)
    told = f"{count} training images of {shape[1]} x {shape[2]} pixels"
    return Given(subject, data, count, x, told, notes, _scaled(found, shape))


def _scaled(found: list[tuple[int, int, int]], shape: list[int]) -> list[str]:
    """A remark on images that are not taken as they are."""
    sizes = {(height, width) for _, height, width in found}
    if sizes == {(shape[1], shape[2])}:
        return []
    own = "{} x {}".format(*sizes.pop()) if len(sizes) == 1 else "of several sizes"
    return [f"the images are {own}, and are scaled and cropped to {shape[1]} x {shape[2]}; --size changes this"]


def _of_class(options: Namespace, network: str, shape: list[int]) -> tuple[dict[str, Any], dict[str, str]]:
    """The arguments of `Cut`, and remarks on them."""
    made = network_of(network, options.network_args)
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
        notes["weights"] = RANDOM
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
