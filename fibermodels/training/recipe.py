"""The recipe that won on real images, for any network and any images: `fit` trains it, and `init` writes it as YAML.

A generator in one call (`EnergyScore` with `nn.Upsampler`, over pixels) is trained by the energy score of patches and
of the first stages of the subject's own network, and by the fiber loss of the layer and of the logits. It is the recipe
of `configs/cifar10/energy_score.yaml`, and `docs/cifar10.md` has its figures.
"""

from fibermodels.core import Subject
from fibermodels.latents import Identity
from fibermodels.models import EnergyScore, FiberLoss
from fibermodels.nn import Upsampler
from fibermodels.subjects import Cut, Live, Timm, Torchvision
from fibermodels.subjects.stages import first_stages, has_logits
from fibermodels.training.module import Training

WIDTHS = (48, 64, 96, 128)
"""Channels of the generator, from the cheapest to those of the recipe."""

STEPS, BATCH = 2800, 64
"""Optimiser steps of the recipe, and images of a step."""

FIBER_WEIGHT, LEARNING_RATE = 2.0, 2e-3

LAYERED = (Cut, Live, Timm, Torchvision)
"""Subjects whose layers have the names of the network's modules."""

PREVIEW = 32
"""Validation images that are sampled after each epoch."""


def training(
    subject: Subject,
    width: int = WIDTHS[-1],
    fiber_weight: float = FIBER_WEIGHT,
    learning_rate: float = LEARNING_RATE,
    seed: int = 0,
) -> Training:
    """The module that is trained.

    Args:
        subject: the network under study. If it is one of `LAYERED`, the score compares the network's first
            stages, too, and the fiber loss asks for its logits.
        width: channels of the generator.
        fiber_weight: lambda.
        learning_rate: its peak.
        seed: of all random numbers.

    Raises:
        ValueError: images whose sides are not multiples of 4, or a number out of its range.
    """
    stages, logits = list[Subject](), list[Subject]()
    if isinstance(subject, LAYERED):
        layer = subject.arguments["layer"]
        stages = [subject.at(stage) for stage in first_stages(subject, layer)]
        logits = [subject.at("logits")] if has_logits(subject, layer) else []
    learner = EnergyScore(
        Identity(subject.image_shape, 0.5),
        list(subject.feature_shape),
        Upsampler(width),
        patch_sizes=patch_sizes(*subject.image_shape[1:]),
        features=stages,
    )
    fiber = FiberLoss(fiber_weight, "cosine", later=logits)
    return Training(learner, subject, fiber, learning_rate=learning_rate, seed=seed, preview=PREVIEW)


def patch_sizes(height: int, width: int) -> list[int]:
    """In pixels: 4, 8 and 32 as on CIFAR-10, and the whole of larger images."""
    return [4, 8, 32, *([max(height, width)] if max(height, width) > 32 else [])]
