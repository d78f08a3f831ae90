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


def check_label(owner: str, classifier: Subject, label: int) -> None:
    """Refuses a network that returns no logits `(B, K)`, and a class that it does not have."""
    if len(classifier.feature_shape) != 1:
        raise ValueError(f"{owner}: classifier: expected logits, got outputs {list(classifier.feature_shape)}")
    check_numbers(owner, {"label": label}, least=0, below=classifier.feature_shape[0])


def of_class(owner: str, label: int, classifier: Subject, references: Tensor) -> Tensor:
    """Which references `(R, C, H, W)` a classifier decides for a class, `(R,)`.

    Raises:
        ValueError: as `check_label`; all references are of the class, or none is.
    """
    check_label(owner, classifier, label)
    chosen = decisions(classifier, references) == label
    if chosen.all() or not chosen.any():
        raise ValueError(
            f"{owner}: references: expected images that are decided for class {label}, and others; "
            f"{int(chosen.sum())} of {len(references)} are"
        )
    return chosen


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
