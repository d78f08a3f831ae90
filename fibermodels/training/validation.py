"""What validation says of a fiber model beside its loss."""

import torch
from torch import Tensor

from fibermodels import distances
from fibermodels.core import FiberModel, Subject
from fibermodels.trainable import TrainableFiberModel


@torch.no_grad()
def preview(
    model: FiberModel, subject: Subject, x: Tensor, h: Tensor, generator: torch.Generator
) -> tuple[Tensor, dict[str, Tensor]]:
    """One sample for each target, and how well it fits.

    Args:
        model: that samples.
        subject: that judges.
        x: the targets' images `(B, C, H, W)`.
        h: the targets `(B, *feature_shape)`.
        generator: of the samples.

    Returns:
        The samples `(B, C, H, W)`; their RMS to their own target and to another one, each `(B,)`. A model that does
        not use its condition has the same RMS to both.
    """
    x_hat = model.sample(h, 1, generator, x)[0]
    h_hat = subject(x_hat)
    return x_hat, {
        "fiber_rms": distances.rms(h, h_hat),
        "fiber_rms_shuffled": distances.rms(h.roll(1, 0), h_hat),
    }


@torch.no_grad()
def energy(model: TrainableFiberModel, z: Tensor, h: Tensor) -> Tensor:
    """The mean energy score of two samples per target against its latents: it compares any two families over one
    latent space."""
    draws = [model.transport(torch.randn(len(h), *model.noise_shape, device=h.device), h) for _ in range(2)]
    return distances.energy_score(z, *draws).mean()
