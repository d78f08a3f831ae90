"""The recipe that won on real images, for any network and any inputs: `fit` trains it, and `init` writes it as YAML.

A generator in one call (`EnergyScore` with `nn.Upsampler`, over pixels) is trained by the energy score of patches and
of the first stages of the subject's own network, and by the fiber loss of the layer: the cosine of maps, the difference
of standardised vectors. Muon takes the steps, of which it needs a few hundred. For maps it is the recipe of
`configs/cifar10/energy_score.yaml`, and `docs/cifar10.md` has its figures.
Inputs without places (points, tables, signals) have flow matching with `nn.MLP`, over the inputs as they are,
standardised.
"""

from dataclasses import dataclass
from typing import Literal, Self

import torch
from torch import Tensor

from fibermodels.core import Data, Subject
from fibermodels.data import Table
from fibermodels.diffusion import Midpoint
from fibermodels.latents import Identity
from fibermodels.models import EnergyScore, FiberLoss, FlowMatching
from fibermodels.nn import MLP, Upsampler
from fibermodels.spaces import ImageSpace
from fibermodels.subjects import Cut, Live, Timm, Torchvision
from fibermodels.subjects.stages import first_stages
from fibermodels.trainable import TrainableFiberModel
from fibermodels.training.module import Training

WIDTHS = (48, 64, 96, 128)
"""Channels of the generator, from the cheapest to those of the recipe; an MLP is four times as wide."""

STEPS, BATCH = 2800, 64
"""Optimiser steps of the recipe, and images of a step."""

FIBER_WEIGHT = 1.0
"""With 2, or with the logits in the fiber loss too, a short training makes metamers (`docs/cifar10.md`)."""

LEARNING_RATES = {"muon": 7e-3, "adamw": 2e-3}
"""By optimizer: generators have Muon, flow matching has AdamW."""

LINEAR_RATE = 3e-3
"""Of a generator that starts at a linear regression, at the full batch: larger steps lose more than they learn, above
all in small batches (`docs/python.md`)."""

LAYERED = (Cut, Live, Timm, Torchvision)
"""Subjects whose layers have the names of the network's modules."""

SCALED = 10_000
"""Training inputs whose mean and deviation are measured, at most."""

PREVIEW = 32
"""Validation images that are sampled after each epoch."""


@dataclass(frozen=True)
class Scale:
    """Mean and deviation of inputs, for each entry of a vector or each channel of a signal or map."""

    mean: list[float]
    std: list[float]

    @classmethod
    def of(cls, x: Tensor) -> Self:
        """Those of inputs `(N, *input_shape)`; the deviation of what does not vary is 1."""
        flat = x.transpose(0, 1).flatten(1).double()
        std = flat.std(1, correction=0)
        found = flat.mean(1), torch.where(std > 0, std, 1)
        return cls(*([float(f"{value:.6g}") for value in each] for each in found))


def scale_of(data: Data) -> Scale | None:
    """That of the training inputs of a data module; None for a `Table`, whose rows are standardised already."""
    return None if isinstance(data, Table) else Scale.of(data.split("train").inputs(slice(SCALED)))


def training(
    subject: Subject,
    width: int = WIDTHS[-1],
    fiber_weight: float | None = None,
    learning_rate: float | None = None,
    seed: int = 0,
    scale: Scale | None = None,
    batch: int = BATCH,
) -> Training:
    """The module that is trained.

    Args:
        subject: the network under study. If it is one of `LAYERED`, the score compares the network's first stages, too.
        width: channels of the generator.
        fiber_weight: lambda; None takes 1 for generators, and 0 for flow matching, whose law it would bend.
        learning_rate: its peak; None takes .007 for generators from maps, .003 sqrt(batch / 64) for those from
            vectors, and .002 for flow matching.
        seed: of all random numbers.
        scale: of the inputs, unless they are images; None takes them as they are.
        batch: images of a step.

    Raises:
        ValueError: images whose sides are not multiples of 4, or a number out of its range.
    """
    learner = learner_of(subject, width, scale)
    generator = isinstance(learner, EnergyScore)
    optimizer: Literal["muon", "adamw"] = "muon" if generator else "adamw"
    if fiber_weight is None:
        fiber_weight = FIBER_WEIGHT if generator else 0.0
    if learning_rate is None:
        starts = generator and learner.linear is not None
        learning_rate = round(LINEAR_RATE * min(1.0, batch / BATCH) ** 0.5, 5) if starts else LEARNING_RATES[optimizer]
    vector = len(subject.feature_shape) == 1  # those of any two images may be nearly parallel
    fiber = FiberLoss(fiber_weight, "rms", standardise=True) if vector else FiberLoss(fiber_weight, "cosine")
    return Training(
        learner, subject, fiber, learning_rate=learning_rate, optimizer=optimizer, seed=seed, preview=PREVIEW
    )


def learner_of(subject: Subject, width: int, scale: Scale | None) -> TrainableFiberModel:
    """What is trained for inputs of this kind; arguments as in `training`."""
    space, features = subject.input_space, list(subject.feature_shape)
    if isinstance(space, ImageSpace):
        latents = Identity(space.shape, 0.5)
    else:
        mean, std = (None, None) if scale is None else (scale.mean, scale.std)
        latents = Identity(input_shape=list(space.shape), mean=mean, std=std)
        if len(space.shape) != 3 or space.shape[1] % 4 or space.shape[2] % 4:
            return FlowMatching(latents, features, MLP(4 * width, 3), Midpoint(8))
    stages = list[Subject]()
    if isinstance(subject, LAYERED):
        stages = [subject.at(stage) for stage in first_stages(subject, subject.arguments["layer"])]
    sizes = patch_sizes(*space.shape[1:])
    vector = len(features) == 1
    return EnergyScore(latents, features, Upsampler(width), patch_sizes=sizes, features=stages, regression=vector)


def patch_sizes(height: int, width: int) -> list[int]:
    """In pixels: 4, 8 and 32 as on CIFAR-10, and the whole of larger images."""
    return [4, 8, 32, *([max(height, width)] if max(height, width) > 32 else [])]
