"""The statistics that standardise a learner's condition. They are measured once, before the first step."""

import sys
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from fibermodels.checks import check_finite
from fibermodels.core import Subject
from fibermodels.nn import Standardise
from fibermodels.trainable import Trainable
from fibermodels.training.record import given_parts

IMAGES = 10_000
"""The largest number of training images that are measured."""

BATCH = 500
"""Images that are represented in one call."""


def unsettled(learner: Trainable) -> list[Standardise]:
    """The modules of a learner that standardise and have no statistics yet, without those in its frozen parts."""
    given = {id(module) for part in given_parts(learner).values() for module in part.modules()}
    own = [module for module in learner.modules() if isinstance(module, Standardise) and id(module) not in given]
    return [module for module in own if not module.settled]


@torch.no_grad()
def representations(data: Any, subject: Subject, device: torch.device) -> Iterator[Tensor]:
    """Representations of the first training images of epoch 0, in fixed order.

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
        h = batch["h"] if "h" in batch else subject(batch["x"].to(device))
        check_finite(h, f"representations h of the training set, batch {number} of {BATCH} images")
        yield h[:left].cpu()
        left -= len(h)
        if left <= 0:
            return


def measure(learner: Trainable, subject: Subject, data: Any, device: torch.device, say: bool = True) -> int:
    """Measures the missing statistics on at most `IMAGES` training images; returns the number of measured modules.

    Args:
        learner: the learner, whose modules are changed.
        subject, data, device: as in `representations`.
        say: whether to print one line.
    """
    modules = [module for module in unsettled(learner) if module.shape == tuple(subject.feature_shape)]
    if modules:
        first, *others = modules
        first.measure(representations(data, subject, device))
        for module in others:
            module.load_state_dict(first.state_dict())
        if say:
            count = min(IMAGES, len(data.split("train")))
            print(f"measured mean and deviation of h on {count} training {subject.input_space.word}", file=sys.stderr)
    return len(modules)
