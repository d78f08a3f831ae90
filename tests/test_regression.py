"""The linear part of a generator: ridge regression by an independent solver, its lambda, and when it is measured."""

import pytest
import torch
from torch.nn.functional import adaptive_avg_pool2d

from fibermodels.latents import Identity
from fibermodels.models import EnergyScore
from fibermodels.nn import MLP, Regression, Upsampler
from fibermodels.nn.regression import RIDGES
from fibermodels.noise import seeded

ROWS, INPUTS, OUTPUTS = 40, 6, 3


def rows(noise=0.5):
    """Representations of several scales, one of them constant, and noisy linear functions of them."""
    draw = seeded("regression", 0)
    h = torch.randn(ROWS, INPUTS, generator=draw) * torch.logspace(-2, 1, INPUTS) + 3
    h[:, 2] = 1.0
    law = torch.randn(INPUTS, OUTPUTS, generator=draw)
    return h, (h - 3) @ law + 5 + noise * torch.randn(ROWS, OUTPUTS, generator=draw)


def ridge(h, z, penalty):
    """By least squares over rows that are extended by those of the penalty, centred and in units of deviations."""
    mean, std = h.double().mean(0), h.double().std(0, correction=0)
    std = torch.where(std > 0, std, 1)
    own = torch.cat(((h - mean) / std, (penalty * len(h)) ** 0.5 * torch.eye(h.shape[1]).double()))
    target = torch.cat((z - z.double().mean(0), torch.zeros(h.shape[1], z.shape[1]).double()))
    weight = torch.linalg.lstsq(own, target).solution
    return lambda other: (other - mean) / std @ weight + z.double().mean(0)


def measured(h, z, batch=ROWS):
    found = Regression([z.shape[1]], [h.shape[1]])
    found.measure(zip(h.split(batch), z.split(batch), strict=True))
    return found


class TestRegression:
    @pytest.mark.parametrize("noise", [0.1, 10.0])
    def test_it_is_ridge_regression_with_the_best_lambda_of_two_halves(self, noise):
        h, z = rows(noise)
        first, second = (h[::2], z[::2]), (h[1::2], z[1::2])
        errors = {
            penalty: sum(
                float((ridge(*own, penalty)(other[0]) - other[1]).square().sum())
                for own, other in ((first, second), (second, first))
            )
            for penalty in RIDGES
        }
        expected = ridge(h, z, min(errors, key=errors.get))(h)
        torch.testing.assert_close(measured(h, z)(h).double(), expected, atol=1e-4, rtol=1e-4)

    def test_batches_of_even_size_change_nothing(self):
        h, z = rows()
        torch.testing.assert_close(measured(h, z, 8)(h), measured(h, z)(h))

    def test_of_maps_it_predicts_thumbnails(self):
        h, _ = rows()
        law = torch.randn(INPUTS, 2 * 16 * 16, generator=seeded("thumbnails"))
        z = (h - h.mean(0)) @ law
        found = Regression([2, 16, 16], [INPUTS])
        found.measure([(h, z)])
        maps = found(h).unflatten(1, (2, 16, 16))
        assert found.weight.shape == (INPUTS, 2 * 8 * 8)
        truth = adaptive_avg_pool2d(z.unflatten(1, (2, 16, 16)), 8)
        seen = adaptive_avg_pool2d(maps, 8)
        assert (seen - truth).square().mean() < 0.1 * truth.square().mean()

    def test_before_it_is_measured_it_is_zero_and_not_saved(self):
        found = Regression([OUTPUTS], [INPUTS])
        assert not found(rows()[0]).any()
        assert not found.state_dict()
        assert not found.settled

    def test_saved_ones_are_settled(self):
        h, z = rows()
        own, other = measured(h, z), Regression([OUTPUTS], [INPUTS])
        other.load_state_dict(own.state_dict())
        assert other.settled
        assert torch.equal(other(h), own(h))

    def test_too_few_rows_and_rows_that_are_not_finite(self):
        h, z = rows()
        with pytest.raises(ValueError, match="at least four finite rows to measure, got 3"):
            measured(h[:3], z[:3])
        with pytest.raises(ValueError, match="at least four finite rows"):
            measured(h.clone().fill_(torch.nan), z)

    def test_maps_are_refused(self):
        with pytest.raises(ValueError, match=r"a vector, \[D\], got \[4, 8, 8\]"):
            EnergyScore(Identity((3, 8, 8)), [4, 8, 8], Upsampler(16), regression=True)


def test_a_generator_starts_at_it_and_adds_to_it():
    h, z = rows()
    model = EnergyScore(Identity(input_shape=[OUTPUTS]), [INPUTS], MLP(8, 1), regression=True)
    model.linear.measure([(h, z)])
    noise = torch.randn(ROWS, OUTPUTS, generator=seeded("generator"))
    torch.testing.assert_close(model.push(noise, h), model.linear(h))
    with torch.no_grad():
        for own in model.network.parameters():
            own.add_(0.1)
    added = model.push(noise, h) - model.linear(h)
    plain = EnergyScore(Identity(input_shape=[OUTPUTS]), [INPUTS], MLP(8, 1))
    plain.network.load_state_dict(model.network.state_dict())
    torch.testing.assert_close(added, plain.push(noise, h), atol=1e-5, rtol=1e-4)
    assert added.abs().max() > 0.01
