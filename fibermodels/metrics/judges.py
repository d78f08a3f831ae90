"""Judges: networks other than the subject that score samples."""

import torch
from torch import Tensor

from fibermodels.core import FiberSamples, Subject


@torch.no_grad()
def outputs(network: Subject, images: Tensor, device: str | torch.device = "cpu", batch_size: int = 100) -> Tensor:
    """A network's outputs for images `(B, C, H, W)` in memory, computed in batches, on `device`.

    Raises:
        ValueError: the network takes other images.
    """
    network.input_space.check(images[:1], f"{type(network).__name__}, as a judge")
    network.to(device)
    return torch.cat([network(part.to(device)) for part in images.split(batch_size)])


def seen_by(
    network: Subject, samples: FiberSamples, device: str | torch.device = "cpu", batch_size: int = 100
) -> FiberSamples:
    """The same images with the representations of another network."""
    h, *h_hat = (outputs(network, x, device, batch_size).cpu() for x in (samples.x, *samples.x_hat))
    return FiberSamples(samples.x, h, samples.x_hat, torch.stack(h_hat))
