"""Judges: networks other than the subject that score samples."""

import torch
from torch import Tensor

from fibermodels.checks import check_images
from fibermodels.core import FiberSamples, Subject


class Asked:
    """A network that is applied to images in memory, in batches and without gradients."""

    def __init__(self, network: Subject, device: str | torch.device, batch_size: int) -> None:
        self.network, self.device, self.batch_size = network.to(device), device, batch_size

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        """The network's outputs for images `(B, C, H, W)`, on its device."""
        check_images(images[:1], self.network.image_shape, f"{type(self.network).__name__}, as a judge")
        return torch.cat([self.network(part.to(self.device)) for part in images.split(self.batch_size)])


def seen_by(
    network: Subject, samples: FiberSamples, device: str | torch.device = "cpu", batch_size: int = 100
) -> FiberSamples:
    """The same images with the representations of another network."""
    asked = Asked(network, device, batch_size)
    h_hat = torch.stack([asked(slot).cpu() for slot in samples.x_hat])
    return FiberSamples(samples.x, asked(samples.x).cpu(), samples.x_hat, h_hat)
