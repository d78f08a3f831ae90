"""The colour law: its inverse, its invariance, its density and its sampler."""

import pytest
import torch

from fibermodels.data.digits import load_digits
from fibermodels.noise import seeded
from fibermodels.suites import colour


@pytest.fixture(scope="module")
def digits():
    return load_digits("digits", "train")[:200]


def test_decolorise_inverts_colourise(digits):
    backgrounds = colour.sample_backgrounds(len(digits), seeded(0)).clamp(0, 1)
    images = colour.colourise(digits, backgrounds)
    assert images.min() >= 0
    assert images.max() <= 1
    torch.testing.assert_close(colour.estimate_backgrounds(images), backgrounds, atol=1e-6, rtol=0)
    torch.testing.assert_close(colour.decolorise(images), digits.expand(-1, 3, -1, -1), atol=1e-5, rtol=0)


def test_by_hand():
    digit = torch.tensor([[[[0.0, 0.5, 1.0]]]])
    image = colour.colourise(digit, torch.tensor([[0.7, 0.2, 0.5]]))
    torch.testing.assert_close(image[0, :, 0], torch.tensor([[0.7, 0.45, 0.2], [0.2, 0.45, 0.7], [0.5, 0.25, 0.0]]))


def test_density_integrates_to_one_and_matches_samples():
    grid = torch.linspace(-0.5, 1.5, 200_001, dtype=torch.double)
    density = colour.density(grid)
    assert torch.trapezoid(density, grid).item() == pytest.approx(1, abs=1e-6)
    draws = colour.sample_backgrounds(200_000, seeded(1)).double().flatten()
    mean = torch.trapezoid(density * grid, grid).item()
    assert draws.mean().item() == pytest.approx(mean, abs=1e-3)
    for threshold in (0.3, 0.49, 0.5, 0.6, 0.75):
        below = torch.trapezoid(torch.where(grid < threshold, density, 0), grid).item()
        assert (draws < threshold).double().mean().item() == pytest.approx(below, abs=3e-3)


def test_decolorise_is_differentiable(digits):
    images = colour.colourise(digits[:4], colour.sample_backgrounds(4, seeded(2)).clamp(0.1, 0.45))
    images = (images.double() + 0.01 * torch.rand(images.shape, generator=seeded(3)).double()).requires_grad_()
    pixels = torch.zeros_like(images)
    pixels[..., 3:5, 0:4] = torch.rand(pixels[..., 3:5, 0:4].shape, generator=seeded(4)).double()
    (gradient,) = torch.autograd.grad((colour.decolorise(images) * torch.arange(28)).sum(), images)
    step = 1e-6
    with torch.no_grad():
        up = (colour.decolorise(images + step * pixels) * torch.arange(28)).sum()
        down = (colour.decolorise(images - step * pixels) * torch.arange(28)).sum()
    assert ((up - down) / (2 * step)).item() == pytest.approx((gradient * pixels).sum().item(), rel=1e-5)
