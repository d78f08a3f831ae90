"""The colour law: it colours grey digits at random, and recovers them.

For a grey digit `m` in [0, 1] and a background `c` per channel, drawn from

    p(c) = 0.60 N(0.70, 0.080^2) + 0.35 N(0.50, 0.015^2) + 0.05 N(0.10, 0.020^2),

independently over channels, the coloured image is

    x = clip((1 - m) c + m f(c), 0, 1),    f(c) = (c + 0.5) mod 1.

A subject that first removes the colours cannot distinguish two colourings of a digit: these form its fiber, and `p(c)`
is the distribution on it. All images are `(..., 3, H, W)` in [0, 1], all colours `(..., 3)`.

Reference: arXiv 2603.21782, eqs. 13 to 15.
"""

import torch
from torch import Tensor

WEIGHTS = (0.60, 0.35, 0.05)
MEANS = (0.70, 0.50, 0.10)
STDS = (0.080, 0.015, 0.020)


def backgrounds(noise: Tensor, weights: Tensor | None = None) -> Tensor:
    """Colours from standard normal noise of the same shape: the mixture's quantile of the noise's probability
    (5e-5 of them lie above 1).

    Args:
        noise: `(...)`.
        weights: of the three components, `(..., 3)`; None takes those of the law.
    """
    means, stds = (torch.tensor(v, dtype=torch.double, device=noise.device) for v in (MEANS, STDS))
    grid = torch.linspace(-0.2, 1.3, QUANTILES, dtype=torch.double, device=noise.device)
    table = torch.special.ndtr((grid[:, None] - means) / stds)  # each component's distribution function
    target = torch.special.ndtr(noise.double())
    if weights is None:
        mass = table @ torch.tensor(WEIGHTS, dtype=torch.double, device=noise.device)
        left = torch.searchsorted(mass, target).sub(1).clamp(0, QUANTILES - 2)
        low, high = mass[left], mass[left + 1]
    else:
        shares = weights.double()
        left = torch.zeros(noise.shape, dtype=torch.long, device=noise.device)
        for bit in reversed(range(QUANTILES.bit_length() - 1)):  # a binary search, because the weights differ
            step = left + 2**bit
            left = torch.where((shares * table[step]).sum(-1) < target, step, left)
        low, high = ((shares * table[place]).sum(-1) for place in (left, left + 1))
    share = ((target - low) / (high - low).clamp_min(1e-300)).clamp(0, 1)
    return (grid[left] + share * (grid[1] - grid[0])).to(noise.dtype)


QUANTILES = 2**11 + 1
"""Grid points of the distribution functions, a twentieth of the narrowest deviation apart."""


def sample_backgrounds(count: int, generator: torch.Generator | None = None) -> Tensor:
    """`count` independent colours `(count, 3)` from the mixture."""
    return backgrounds(torch.randn(count, 3, generator=generator))


def density(colour: Tensor) -> Tensor:
    """The mixture's density at `colour`, elementwise."""
    weights, means, stds = (torch.tensor(v, dtype=colour.dtype, device=colour.device) for v in (WEIGHTS, MEANS, STDS))
    z = (colour.unsqueeze(-1) - means) / stds
    return (weights / (stds * (2 * torch.pi) ** 0.5) * torch.exp(-0.5 * z * z)).sum(-1)


def foreground(background: Tensor) -> Tensor:
    """`f(c) = (c + 0.5) mod 1`: the colour of a digit on a background `c`."""
    return (background + 0.5) % 1


def colourise(digits: Tensor, backgrounds: Tensor, foregrounds: Tensor | None = None) -> Tensor:
    """Images `(..., 3, H, W)` in [0, 1] from grey digits `(..., 1, H, W)` and colours `(..., 3)`.

    Images with `foregrounds` other than `f(backgrounds)` are out of distribution.
    """
    if foregrounds is None:
        foregrounds = foreground(backgrounds)
    c, f = backgrounds[..., None, None], foregrounds[..., None, None]
    return (c + digits * (f - c)).clamp(0, 1)


def estimate_backgrounds(images: Tensor) -> Tensor:
    """The background `(..., 3)`: the mean of the first pixel column, which contains no digit."""
    return images[..., 0].mean(-1)


def decolorise(images: Tensor) -> Tensor:
    """The digit's intensity in each channel, `|x - c| / |f(c) - c|`, `(..., 3, H, W)`.

    It is differentiable almost everywhere; the denominator is 1/2 for every `c` in [0, 1].
    """
    c = estimate_backgrounds(images)[..., None, None]
    return (images - c).abs() / (foreground(c) - c).abs()


def digit(images: Tensor) -> Tensor:
    """The grey digit `(..., 1, H, W)` in [0, 1] of coloured images `(..., 3, H, W)`.

    It is the median over the channels, which is exact even where the tail of the law clipped one of them.
    """
    return decolorise(images).median(-3, keepdim=True).values.clamp(0, 1)
