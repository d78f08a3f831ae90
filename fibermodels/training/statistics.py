"""What a learner's networks measure on the training set: once, before the first step."""

import sys
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from fibermodels.checks import check_finite
from fibermodels.core import Subject
from fibermodels.nn import Measured, Regression, Standardise
from fibermodels.trainable import Trainable, TrainableFiberModel
from fibermodels.training.record import given_parts

IMAGES = 10_000
"""The largest number of training images that are measured."""

BATCH = 500
"""Images that are represented in one call."""


def unsettled(learner: Trainable) -> list[Measured]:
    """The modules of a learner that have no statistics yet, without those in its frozen parts."""
    given = {id(module) for part in given_parts(learner).values() for module in part.modules()}
    own = [module for module in learner.modules() if isinstance(module, Measured) and id(module) not in given]
    return [module for module in own if not module.settled]


@torch.no_grad()
def represented(data: Any, subject: Subject, device: torch.device) -> Iterator[dict[str, Tensor]]:
    """Batches of the first training images of epoch 0 in fixed order, with their representations `h`.

    Args:
        data: the training data; their batches have images `x` or cached representations `h`.
        subject: the network that represents the images.
        device: the device of the subject.

    Raises:
        ValueError: a representation is not finite.
    """
    images = data.split("train")
    images.set_epoch(0)
    left = IMAGES
    for number, batch in enumerate(images.batches(BATCH)):
        own = {name: rows[:left].to(device) for name, rows in batch.items() if name in ("x", "h", "z")}
        if "h" not in own:
            own["h"] = subject(own["x"])
        check_finite(own["h"], f"representations h of the training set, batch {number} of {BATCH} images")
        yield own
        left -= len(own["h"])
        if left <= 0:
            return


def measure(learner: Trainable, subject: Subject, data: Any, device: torch.device, say: bool = True) -> int:
    """Measures the missing statistics on at most `IMAGES` training images; returns the number of measured modules.

    Args:
        learner: the learner, whose modules are changed.
        subject, data, device: as in `represented`.
        say: whether to print one line.
    """
    modules = [module for module in unsettled(learner) if module.shape == tuple(subject.feature_shape)]
    scales = [module for module in modules if isinstance(module, Standardise)]
    seen = list[Tensor]()  # so that the subject runs once
    for module in modules:
        if isinstance(module, Regression) and isinstance(learner, TrainableFiberModel):
            seen.clear()
            module.measure(_pairs(learner, subject, data, device, seen))
    if scales:
        first, *others = scales
        first.measure(seen or (batch["h"].cpu() for batch in represented(data, subject, device)))
        for other in others:
            other.load_state_dict(first.state_dict())
    if modules and say:
        count = min(IMAGES, len(data.split("train")))
        word = subject.input_space.word
        more = "" if len(scales) == len(modules) else ", and a linear regression,"
        print(f"measured mean and deviation of h{more} on {count} training {word}", file=sys.stderr)
    return len(modules)


def _pairs(
    learner: TrainableFiberModel, subject: Subject, data: Any, device: torch.device, seen: list[Tensor]
) -> Iterator[tuple[Tensor, Tensor]]:
    """Representations and the means of latents; the representations, which are vectors, are kept in `seen`."""
    for batch in represented(data, subject, device):
        h = batch["h"]
        seen.append(h.cpu())
        yield h, batch["z"] if "z" in batch else learner.latents.moments(batch["x"], h)[0]
