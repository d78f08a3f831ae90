"""Energies of fixed filters, against ramps, constants and plain deviations."""

import pytest
import torch

from fibermodels.latents import Identity
from fibermodels.models import EnergyScore
from fibermodels.nn import Upsampler
from fibermodels.subjects import FilterEnergies

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
