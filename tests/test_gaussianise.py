"""The quantile map against distributions whose quantiles are known."""

import pytest
import torch

from fibermodels.nn import Gaussianise
from fibermodels.noise import seeded


@pytest.fixture
def measured():
    """Of a bimodal law with a gap, beside a lognormal one; with a million samples."""
    noise = torch.randn(1_000_000, 2, generator=seeded("codes"))
    codes = torch.stack((3 * noise[:, 0].sign() + 0.01 * noise[:, 0], noise[:, 1].exp()), 1)
    layer = Gaussianise(2)
    layer.measure(codes)
    return layer, noise, codes


def test_it_is_the_identity_before_it_is_measured():
    code = torch.tensor([[-5.0, 0.3], [1.7, 4.2]])
    torch.testing.assert_close(Gaussianise(2)(code), code)
    torch.testing.assert_close(Gaussianise(2).inverse(code), code)


def test_codes_become_the_normal_values_they_were_made_of(measured):
    """Both laws are monotone functions of normal noise, so that noise is the answer, gap or none."""
    layer, noise, codes = measured
    inner = (noise.abs() < 2.5).all(1)
    torch.testing.assert_close(layer(codes[inner]), noise[inner], atol=0.03, rtol=0)


def test_normal_values_become_codes(measured):
    layer, noise, codes = measured
    inner = ((noise.abs() < 2.5) & (noise.abs() > 0.01)).all(1)  # away from the gap's two sides
    torch.testing.assert_close(layer.inverse(noise[inner]), codes[inner], atol=0.02, rtol=0.02)


def test_the_inverse_is_the_inverse_beyond_the_ends_too(measured):
    layer, _, _ = measured
    value = torch.linspace(-6, 6, 400)[:, None].expand(-1, 2)
    torch.testing.assert_close(layer(layer.inverse(value)), value, atol=5e-3, rtol=0)  # float32, and a slope of 0.01


def test_it_is_monotone(measured):
    layer, _, _ = measured
    for way in (layer, layer.inverse):
        line = way(torch.linspace(-6, 6, 2000)[:, None].expand(-1, 2))
        assert (line.diff(dim=0) >= 0).all()


def test_gradients_are_slopes(measured):
    layer, _, _ = measured
    value = torch.tensor([[0.5012, -0.7013], [-4.0, 4.0]], dtype=torch.double).requires_grad_()
    layer = layer.double()
    (gradient,) = torch.autograd.grad(layer.inverse(value).sum(), value)
    slope = (layer.inverse(value + 1e-6) - layer.inverse(value - 1e-6)) / 2e-6
    torch.testing.assert_close(gradient, slope, atol=1e-6, rtol=1e-6)


def test_knots_that_coincide_stay_finite():
    """Rounded to 16 bits, quantiles that lie close together are one."""
    layer = Gaussianise(1)
    layer.measure(torch.cat((torch.zeros(500, 1), torch.ones(500, 1))))
    values = torch.linspace(-4, 4, 101)[:, None].requires_grad_()
    codes = layer.inverse(values)
    assert layer(codes).isfinite().all()
    assert torch.autograd.grad(codes.sum(), values)[0].isfinite().all()


def test_it_computes_in_the_precision_of_its_knots(measured):
    """What arrives in 16 bits, under mixed precision, is rounded once and not again."""
    layer, noise, codes = measured
    for way, given in ((layer, codes), (layer.inverse, noise)):
        rounded = given[:1000].bfloat16()
        torch.testing.assert_close(way(rounded), way(rounded.to(layer.knots.dtype)), atol=0, rtol=0)
