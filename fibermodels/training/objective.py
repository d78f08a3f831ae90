"""From a batch to loss terms."""

import torch
from torch import Tensor

from fibermodels.checks import check_finite
from fibermodels.core import Subject
from fibermodels.trainable import Supervised, Trainable, TrainableFiberModel

Terms = tuple[dict[str, Tensor], Tensor | None, Tensor | None]
"""Loss terms, each `(B,)`; what the loss was told, representations or labels; latents, where there are such."""


def labels_of(batch: dict[str, Tensor], learner: Trainable) -> Tensor:
    """The labels `y` of a batch."""
    if "y" not in batch:
        raise ValueError(
            f"a {type(learner).__name__} trains on labels 'y'; the data's batches hold {sorted(batch)} alone"
        )
    return batch["y"]


def told(learner: Trainable, subject: Subject | None, batch: dict[str, Tensor]) -> Tensor | None:
    """What the loss is told beside the images: representations, or a supervised learner's labels."""
    if isinstance(learner, Supervised):
        return labels_of(batch, learner)
    if "h" in batch or subject is None:
        return batch.get("h")
    x = batch["x"]
    with torch.no_grad(), torch.autocast(x.device.type, enabled=False):  # conditions are not rounded
        return subject(x)


def own_terms(learner: Trainable, subject: Subject | None, batch: dict[str, Tensor]) -> Terms:
    """The learner's own loss on a batch."""
    if "x" in batch and tuple(batch["x"].shape[1:]) != tuple(learner.image_shape):
        given, taken = list(batch["x"].shape[1:]), list(learner.image_shape)
        raise ValueError(f"data: expected images {taken}, which the learner takes, got {given}")
    h = told(learner, subject, batch)
    if isinstance(learner, TrainableFiberModel) and h is not None:
        z = batch["z"] if "z" in batch else learner.draw_latents(batch["x"], h)
        return dict(learner.latent_loss(z, h)), h, z
    return dict(learner.loss(batch["x"], h)), h, None


def means(terms: dict[str, Tensor]) -> dict[str, Tensor]:
    """The mean of every term, and their sum, the loss."""
    each = {name: term.mean() for name, term in terms.items()}
    return {**each, "loss": torch.stack(list(each.values())).sum()}


def check_inputs(x: Tensor | None, h: Tensor | None, z: Tensor | None, where: str) -> None:
    """Refuses images, representations and latents that are NaN or infinite."""
    for name, value in (("images x", x), ("representations h", h), ("latents z", z)):
        if value is not None:
            check_finite(value, f"{name} in {where}")
