"""Samples for the applications: of any FiberModel, and with the same noise for edited conditions."""

from collections.abc import Sequence

import torch
from torch import Tensor

from fibermodels.checks import check_images, check_numbers
from fibermodels.core import FiberModel, FiberSamples, Subject
from fibermodels.noise import seeded

ROWS = 512
"""Images in one call of a subject, and about as many samples in one call of a model."""


def device_of(subject: Subject) -> torch.device:
    """Where a subject's weights are."""
    return next((each.device for each in (*subject.parameters(), *subject.buffers())), torch.device("cpu"))


@torch.no_grad()
def representations(subject: Subject, images: Tensor) -> Tensor:
    """Representations `(..., *feature_shape)` of images `(..., C, H, W)`, in batches; both are on the CPU."""
    flat, where = images.reshape(-1, *images.shape[-3:]), device_of(subject)
    found = torch.cat([subject(part.to(where)).cpu() for part in flat.split(ROWS)])
    return found.unflatten(0, images.shape[:-3]) if images.ndim > 4 else found


def decisions(subject: Subject, images: Tensor) -> Tensor:
    """The largest entry of the representation of each image `(B, C, H, W)`, `(B,)`."""
    return representations(subject, images).flatten(1).argmax(1)


def fibers(model: FiberModel, subject: Subject, images: Tensor, n: int, seed: int) -> FiberSamples:
    """Samples of the fibers of images `(B, C, H, W)`, on the CPU; a target's samples do not depend on the batches.

    Raises:
        ValueError: no images for the subject, `n` below 1, or a negative seed.
    """
    check_images(images, tuple(subject.image_shape), "images")
    check_numbers("fibers", {"n": n}, least=1)
    check_numbers("fibers", {"seed": seed}, least=0)
    h = representations(subject, images)
    x_hat = edited(model, subject, images, [h], n, seed)[0]
    return FiberSamples(images, h, x_hat, representations(subject, x_hat))


@torch.no_grad()
def edited(
    model: FiberModel, subject: Subject, images: Tensor, conditions: Sequence[Tensor], n: int, seed: int
) -> Tensor:
    """Samples of several conditions of the same targets, each with the same noise.

    Args:
        model: any model.
        subject: gives the device.
        images: the queries `(B, C, H, W)`, for models that need them.
        conditions: E of them, `(B, *feature_shape)` each.
        n: samples of each target.
        seed: of the noise.

    Returns:
        `(E, n, B, C, H, W)` on the CPU.
    """
    where, size, found = device_of(subject), max(1, ROWS // n), []
    for h in conditions:
        generator = seeded("samples", seed)  # as for all samples of this project
        parts = [
            model.sample(told.to(where), n, generator, x.to(where)).cpu()
            for told, x in zip(h.split(size), images.split(size), strict=True)
        ]
        found.append(torch.cat(parts, 1))
    return torch.stack(found)
