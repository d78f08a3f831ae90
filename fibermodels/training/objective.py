"""Loss terms of a batch, their means over an epoch, and the scores of validation."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from fibermodels import distances
from fibermodels.core import FiberModel, Subject
from fibermodels.proper_scores import energy_score
from fibermodels.trainable import Supervised, Trainable, TrainableFiberModel


class Terms(NamedTuple):
    """The learner's own loss on a batch.

    Args:
        values: the terms.
        h: what the loss was told, representations or labels.
        z: latents, if the model has a latent space.
        drawn: the inputs that the loss drew, `(draws, B, *input_shape)`, if it drew any.
    """

    values: dict[str, Tensor]
    h: Tensor | None = None
    z: Tensor | None = None
    drawn: Tensor | None = None


class NonFiniteLoss(RuntimeError):
    """A loss term became NaN or infinite."""


def labels_of(batch: dict[str, Tensor], learner: Trainable) -> Tensor:
    """The labels `y` of a batch.

    Raises:
        ValueError: the batch has no labels.
    """
    if "y" not in batch:
        raise ValueError(
            f"a {type(learner).__name__} trains on labels 'y'; the data's batches hold {sorted(batch)} alone"
        )
    return batch["y"]


def own_terms(learner: Trainable, subject: Subject | None, batch: dict[str, Tensor]) -> Terms:
    """The learner's own loss terms on a batch, each `(B,)`.

    Raises:
        ValueError: the inputs have another shape than the learner takes, or labels are missing.
    """
    if "x" in batch and tuple(batch["x"].shape[1:]) != learner.input_shape:
        given, taken = list(batch["x"].shape[1:]), list(learner.input_shape)
        raise ValueError(f"data: expected {learner.input_space.word} {taken}, which the learner takes, got {given}")
    if isinstance(learner, Supervised):
        h: Tensor | None = labels_of(batch, learner)
    elif "h" in batch or subject is None:
        h = batch.get("h")
    else:
        x = batch["x"]
        with torch.no_grad(), torch.autocast(x.device.type, enabled=False):  # conditions are not rounded
            h = subject(x)
    if isinstance(learner, TrainableFiberModel) and h is not None:
        z = batch["z"] if "z" in batch else learner.draw_latents(batch["x"], h)
        values, drawn = learner.drawn_loss(z, h)
        return Terms(values, h, z, drawn)
    return Terms(learner.loss(batch["x"], h), h)


def check_terms(values: dict[str, Tensor], where: str) -> None:
    """Checks loss terms.

    Raises:
        NonFiniteLoss: a term is NaN or infinite.
    """
    bad = [name for name, value in values.items() if not math.isfinite(value)]
    if bad:
        terms = " and ".join(name for name in bad if name != "loss") or "sum"
        raise NonFiniteLoss(
            f"the loss term {terms} is not finite at {where}; the checkpoints of earlier epochs are kept"
        )


class EpochMeans:
    """Sums of the loss terms over the steps of an epoch, which a checkpoint keeps.

    Values stay on their device until `total` is called, so a step does not wait for an accelerator.
    """

    def __init__(self) -> None:
        self.restart()

    def restart(self, sums: list[float] | None = None, steps: int = 0) -> None:
        """Starts an epoch with zero, or continues it with the sums of `steps` steps."""
        self.pending: list[Tensor] = []
        self.sums, self.steps = sums or [], steps

    def add(self, means: dict[str, Tensor]) -> None:
        """Adds the terms of one step."""
        self.pending.append(torch.stack(list(means.values())))

    def total(self) -> list[float]:
        """The sums so far, in the order of the terms."""
        if self.pending:
            steps = torch.stack(self.pending).cpu().double()
            self.sums = (steps.sum(0) + (torch.tensor(self.sums, dtype=torch.double) if self.sums else 0)).tolist()
            self.steps += len(steps)
            self.pending = []
        return self.sums


@torch.no_grad()
def preview(
    model: FiberModel, subject: Subject, x: Tensor, h: Tensor, generator: torch.Generator
) -> tuple[Tensor, dict[str, Tensor]]:
    """One sample for each target `x` `(B, *input_shape)`, and how well it fits its representation `h`.

    Returns:
        The samples `(B, *input_shape)`; their RMS to their own target and to another one, each `(B,)`. A model that
        does not use its condition has the same RMS to both.
    """
    x_hat = model.sample(h, 1, generator, x)[0]
    h_hat = subject(x_hat)
    return x_hat, {
        "fiber_rms": distances.rms(h, h_hat),
        "fiber_rms_shuffled": distances.rms(h.roll(1, 0), h_hat),
    }


@torch.no_grad()
def energy(model: TrainableFiberModel, z: Tensor, h: Tensor) -> Tensor:
    """The mean energy score of two samples per target against its latents, which compares any two models over one
    latent space."""
    draws = [model.transport(torch.randn(len(h), *model.noise_shape, device=h.device), h) for _ in range(2)]
    score = energy_score(z.flatten(1)[:, None], torch.stack(draws).flatten(2)[:, :, None])
    return score.mean() * z[0].numel() ** 0.5
