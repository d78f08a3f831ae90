"""Low-pass filters of images."""

from typing import Literal

import torch
from torch import Tensor

FilterName = Literal["ideal", "gaussian", "butterworth"]


def low_pass(images: Tensor, cutoff: float, filter: FilterName = "ideal", order: int = 2) -> Tensor:
    """Images `(B, C, H, W)` whose frequencies are multiplied by a gain of their radius `r`:

        ideal          1 for r <= cutoff, else 0
        gaussian       exp(-r^2 / (2 cutoff^2))
        butterworth    1 / (1 + (r / cutoff)^(2 order))

    with `r = sqrt(u^2 + v^2)` and `u`, `v` in shares of the Nyquist frequency (half a cycle per pixel). The image
    continues periodically. A sharp filter overshoots at edges: its output may leave [0, 1] a little.
    """
    height, width = images.shape[-2:]
    u = 2 * torch.fft.fftfreq(height, device=images.device, dtype=images.dtype)
    v = 2 * torch.fft.rfftfreq(width, device=images.device, dtype=images.dtype)
    radius = torch.hypot(u[:, None], v)
    if filter == "ideal":
        gain = (radius <= cutoff).to(images)
    elif filter == "gaussian":
        gain = torch.exp(-0.5 * (radius / cutoff).square())
    else:
        gain = 1 / (1 + (radius / cutoff) ** (2 * order))
    return torch.fft.irfft2(gain * torch.fft.rfft2(images), (height, width))
