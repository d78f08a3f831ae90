"""Two traits of a grey digit on which the laws of suites depend: how much ink it has, and how far it leans.

Both are smooth functions of the pixels, so a law that depends on them is known for every digit, also for one without a
label.
"""

import torch
from torch import Tensor


def traits(digits: Tensor) -> tuple[Tensor, Tensor]:
    """Ink and slant of digits `(..., 1, H, W)`, each `(...)` in (-1, 1); both are about 0 for a usual digit of MNIST.

    Ink is the mean intensity, `tanh((mean - .13) / .04)`. Slant is the correlation `r` of the ink's coordinates, with x
    to the right and y upwards, `tanh(3 r - .4)`.
    """
    ink = digits.flatten(-3).mean(-1)
    height, width = digits.shape[-2:]
    y = -torch.linspace(-1, 1, height, device=digits.device, dtype=digits.dtype)[:, None]
    x = torch.linspace(-1, 1, width, device=digits.device, dtype=digits.dtype)
    share = digits.squeeze(-3) / digits.squeeze(-3).sum((-2, -1), keepdim=True).clamp_min(1e-6)

    def mean(value: Tensor) -> Tensor:
        return (share * value).sum((-2, -1))

    mx, my = mean(x.expand(height, width)), mean(y.expand(height, width))
    covariance = mean(x * y) - mx * my
    variance = (mean(x.square().expand(height, width)) - mx**2) * (mean(y.square().expand(height, width)) - my**2)
    slant = covariance / variance.clamp_min(1e-8).sqrt()
    return torch.tanh((ink - 0.13) / 0.04), torch.tanh(3 * slant - 0.4)


def correlated(noise: Tensor, rho: Tensor) -> Tensor:
    """Normal numbers `(..., C)` with unit variance and correlation `rho` in [0, 1) between any two, from independent
    ones: the symmetric root of the correlation matrix, `sqrt(1 - rho) (I - J / C) + sqrt(1 + (C - 1) rho) J / C`."""
    mean = noise.mean(-1, keepdim=True)
    rho = rho[..., None]
    return (1 - rho).sqrt() * (noise - mean) + (1 + (noise.shape[-1] - 1) * rho).sqrt() * mean
