"""Features without weights: energies of filters, against ramps, constants and plain deviations; low
frequencies, against scipy."""

import pytest
import torch
from scipy.fft import dctn

from fibermodels.latents import Identity
from fibermodels.models import EnergyScore
from fibermodels.nn import Upsampler
from fibermodels.subjects import FilterEnergies, LowFrequencies

FLOOR = 0.01


def test_the_first_channels_are_the_deviations_of_cells():
    images = torch.rand(3, 3, 16, 16)
    seen = FilterEnergies([3, 16, 16], cells=2, scales=[1])(images)[:, :3]
    cells = images.unfold(2, 8, 8).unfold(3, 8, 8).flatten(4)
    torch.testing.assert_close(seen, (cells.var(-1, correction=0) + FLOOR**2).sqrt())


@pytest.mark.parametrize("scale", [1, 2, 4])
def test_a_ramp_has_its_slope_at_every_scale(scale):
    slope, width = 0.03, 32
    ramp = (slope * torch.arange(width)).expand(1, 1, width, width)
    seen = FilterEnergies([1, width, width], scales=[scale])(ramp)[0, 1].item()
    columns = width // scale  # of blocks; the last has none to its right
    assert seen == pytest.approx(((slope * scale) ** 2 * (columns - 1) / columns + FLOOR**2) ** 0.5, rel=1e-4)


def test_it_sees_no_brightness_and_no_mirror():
    images, phi = torch.rand(2, 3, 32, 32), FilterEnergies([3, 32, 32])
    torch.testing.assert_close(phi(images + 0.3), phi(images), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(phi(images.flip(3)), phi(images), atol=1e-5, rtol=1e-4)
    assert phi(torch.full((1, 3, 32, 32), 0.4)).sub(FLOOR).abs().max() < 1e-4


def test_it_is_a_feature_of_scores():
    torch.manual_seed(0)
    features = [FilterEnergies([3, 16, 16], cells) for cells in (1, 2)]
    model = EnergyScore(Identity([3, 16, 16]), [4], Upsampler(16), features=features)
    losses = model.latent_loss(torch.randn(4, 3 * 16 * 16), torch.randn(4, 4))
    (gradient,) = torch.autograd.grad(losses["features"].sum(), [next(model.network.parameters())], allow_unused=True)
    assert losses["features"].isfinite().all()
    assert gradient is None or gradient.isfinite().all()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"image_shape": [32]}, r"image_shape: expected \[C, H, W\]"),
        ({"image_shape": [3, 32, 32], "cells": 0}, "cells: expected"),
        ({"image_shape": [3, 32, 32], "scales": [5]}, "scales: expected cells of more than one block"),
        ({"image_shape": [3, 32, 32], "cells": 8, "scales": [4]}, "scales: expected cells of more than one block"),
    ],
)
def test_bad_arguments(given, message):
    with pytest.raises(ValueError, match=message):
        FilterEnergies(**given)


class TestLowFrequencies:
    def test_they_are_those_of_scipy(self):
        grey = torch.rand(2, 1, 16, 16).double()
        found = LowFrequencies([1, 16, 16], blocks=8, highest=2)(grey)
        blocks = grey.unfold(2, 2, 2).unfold(3, 2, 2).mean((4, 5))[:, 0]
        expected = torch.from_numpy(dctn(blocks.numpy(), axes=(1, 2), norm="ortho"))
        order = [(u, v) for u in range(8) for v in range(8) if u + v <= 2]
        torch.testing.assert_close(found, torch.stack([expected[:, u, v] for u, v in order], 1), atol=1e-6, rtol=1e-5)

    def test_colours_are_seen_in_opponent_directions(self):
        """A grey image has brightness alone; all directions together keep the length of a coarse image."""
        phi = LowFrequencies([3, 8, 8], blocks=2, highest=1)
        grey = torch.rand(2, 1, 8, 8).expand(2, 3, 8, 8)
        brightness, *colours = phi(grey).chunk(3, 1)
        assert torch.cat(colours).abs().max() < 1e-5
        torch.testing.assert_close(brightness[:, 0], 2 * 3**0.5 * grey.mean((1, 2, 3)))
        columns = torch.rand(2, 3, 1, 2).repeat_interleave(4, 3).expand(2, 3, 8, 8)  # nothing above u + v = 1
        torch.testing.assert_close(phi(columns).norm(dim=1), columns[:, :, :2, ::4].flatten(1).norm(dim=1))

    def test_sixteen_bits_lose_no_more_than_rounding(self):
        x = torch.rand(2, 3, 8, 8)
        with torch.autocast("cpu", torch.bfloat16):
            torch.testing.assert_close(LowFrequencies([3, 8, 8])(x), LowFrequencies([3, 8, 8])(x.double()).float())

    @pytest.mark.parametrize(
        ("given", "message"),
        [
            ({"image_shape": [32]}, r"image_shape: expected \[C, H, W\]"),
            ({"image_shape": [3, 30, 32]}, "blocks: expected a divisor"),
            ({"image_shape": [3, 32, 32], "highest": 8}, "highest: expected"),
            ({"image_shape": [3, 32, 32], "blocks": 0}, "blocks: expected"),
        ],
    )
    def test_bad_arguments(self, given, message):
        with pytest.raises(ValueError, match=message):
            LowFrequencies(**given)
