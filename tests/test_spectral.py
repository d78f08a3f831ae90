"""Filtered samples: what keeps its representation without high frequencies, and power spectra."""

import math

import torch

from fibermodels.core import FiberSamples, Subject
from fibermodels.filters import low_pass
from fibermodels.metrics.spectral import filtered_rms, radial_power
from fibermodels.noise import seeded


class Flat(Subject):
    """All pixels, as a vector."""

    def __init__(self):
        super().__init__()
        self.input_shape, self.feature_shape = (1, 16, 16), (256,)
        self.freeze()

    def forward(self, images):
        return images.flatten(1)


def of(x, x_hat):
    return FiberSamples(x, x.flatten(1), x_hat, x_hat.flatten(2))


def wave(frequency):
    """A wave with this share of the Nyquist frequency along the rows."""
    return torch.cos(math.pi * frequency * torch.arange(16)).expand(1, 1, 16, 16).contiguous()


def test_a_wave_is_lost_below_its_frequency_and_kept_above():
    x = wave(0.5)
    own, theirs = filtered_rms(Flat(), of(x, x[None]), [0.25, 0.75])
    torch.testing.assert_close(own, torch.tensor([2**-0.5, 0.0]), atol=1e-5, rtol=0)
    torch.testing.assert_close(theirs, own)


def test_what_is_hidden_in_high_frequencies_is_found():
    """A sample that has the target's representation by high frequencies alone: filtered, it is another image."""
    x = torch.randn(5, 1, 16, 16, generator=seeded("x"))
    hidden = x - low_pass(x, 0.5) + low_pass(torch.randn(5, 1, 16, 16, generator=seeded("y")), 0.5)
    (own,), (theirs,) = filtered_rms(Flat(), of(x, hidden[None]), [0.5])
    low = low_pass(hidden, 0.5) - x
    torch.testing.assert_close(own, low.flatten(1).square().mean(1).sqrt().mean())
    assert own > theirs + 0.1


def test_the_power_of_a_wave_is_in_its_ring_and_of_noise_everywhere():
    power = radial_power(wave(0.5), 8)
    assert power.argmax() == 4
    assert power.sum() > 0
    assert power[torch.arange(8) != 4].max() < 1e-10
    noise = radial_power(torch.randn(2000, 1, 16, 16, generator=seeded("n")), 8)
    torch.testing.assert_close(noise, torch.full((8,), 1 / 256).double(), rtol=0.12, atol=0)
