"""Do samples have their representation by what is visible? Without their high frequencies they should keep it.

An adversarial image has its representation by fine patterns, and loses it in a low-pass filter; a natural image loses
what its details say. So the error of filtered samples is compared with that of filtered targets.

Reference: EquiDiff, eq. 3.5 and figure 4.2.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from fibermodels import distances
from fibermodels.core import FiberSamples, Subject
from fibermodels.filters import FilterName, low_pass

CUTOFFS = (0.1, 0.2, 0.3, 0.5, 0.7, 0.9)
"""Shares of the Nyquist frequency."""


@torch.no_grad()
def filtered_rms(
    subject: Subject, samples: FiberSamples, cutoffs: Sequence[float] = CUTOFFS, filter: FilterName = "ideal"
) -> tuple[Tensor, Tensor]:
    """The fiber RMS `rms(phi(LP_f x_hat) - h)` of filtered samples, averaged over samples and targets, and that of
    filtered targets, `rms(phi(LP_f x) - h)`; each `(F,)`, one for each cut-off.

    Args:
        subject: the network of the representations.
        samples: of images, or of maps `(C, H, W)`.
        cutoffs: shares of the Nyquist frequency.
        filter: as in `low_pass`.
    """

    def error(x: Tensor, cutoff: float) -> Tensor:
        return distances.rms(samples.h, subject(low_pass(x, cutoff, filter))).mean()

    own = [torch.stack([error(slot, cutoff) for slot in samples.x_hat]).mean() for cutoff in cutoffs]
    return torch.stack(own), torch.stack([error(samples.x, cutoff) for cutoff in cutoffs])


def radial_power(x: Tensor, bins: int = 14) -> Tensor:
    """The mean power of images `(..., C, H, W)` in `bins` rings of equal width of the radius of their frequencies, from
    0 to the Nyquist frequency: `(bins,)`. The sum over all frequencies, corners included, is the mean square pixel."""
    height, width = x.shape[-2:]
    power = torch.fft.fft2(x.double(), norm="forward").abs().square().flatten(0, -3).mean(0)
    u, v = 2 * torch.fft.fftfreq(height), 2 * torch.fft.fftfreq(width)
    ring = (torch.hypot(u[:, None], v) * bins).long()
    return torch.stack([power[ring == i].mean() for i in range(bins)])
