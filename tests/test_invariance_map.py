"""Invariance maps against the null space of linear networks and the law of colour digits."""

import pytest
import torch
from linear_fibers import SIDE, SPREAD, Linear, LinearFiber, correlation, linear, pictures

from fibermodels.applications import (
    invariance_map,
)
from fibermodels.noise import seeded
from fibermodels.suites.colour import backgrounds


class TestInvarianceMap:
    def test_it_is_the_null_space_of_the_jacobian(self):
        """The spread of a linear network's fiber is the diagonal of the projection on the null space, by autograd."""
        subject = linear()
        x = pictures(2)
        found = invariance_map(LinearFiber(subject), subject, x, n=400)
        jacobian = torch.autograd.functional.jacobian(subject, x[:1]).reshape(12, -1)
        projection = torch.eye(SIDE**2) - torch.linalg.pinv(jacobian) @ jacobian
        truth = SPREAD * projection.diagonal().clamp(min=0).sqrt().view(SIDE, SIDE)
        for spread in found.spread:
            assert correlation(spread, truth) > 0.98
            torch.testing.assert_close(spread.mean(), truth.mean(), rtol=0.05, atol=0)
        leading = found.directions.flatten(2)
        torch.testing.assert_close(leading @ projection, leading, rtol=0, atol=1e-4)
        assert found.merits[0].value < 1e-5 < found.merits[0].null
        assert found.figures()["fiber_rms"] < 1e-5 < found.figures()["fiber_rms_null"]
        assert "fiber_rms" not in invariance_map(LinearFiber(subject), subject, x[:1], n=4).figures(), "it has no null"

    def test_it_sees_what_a_network_does_not_ignore(self):
        """Samples that ignore the condition vary in pixels that the network sees: the figure of merit is its null."""
        subject = linear()
        blind = LinearFiber(Linear(torch.zeros(1, SIDE**2)))
        blind.push = lambda noise, h: (0.5 + SPREAD * noise).unflatten(1, blind.image_shape)
        found = invariance_map(blind, subject, pictures(16), n=200, directions=4)
        assert 0.7 < found.merits[0].value / found.merits[0].null < 1.4
        assert 0.9 < found.figures()["fiber_rms"] / found.figures()["fiber_rms_null"] < 1.1

    def test_colour_digits_vary_in_colour_only(self, digits):
        """The deviation of each pixel is that of `(1 - m) c + m (c + 1/2 mod 1)` under the law of the colour `c`."""
        data, oracle, subject, x = digits
        found = invariance_map(oracle, subject, x[:3], n=256, directions=3, factors=data.factors)
        c = backgrounds(torch.randn(4000, 1, generator=seeded("law")))[:, 0]
        ink = data.content(x[:3]).flatten(1)  # (B, D)
        law = (1 - ink[..., None]) * c + ink[..., None] * ((c + 0.5) % 1)
        truth = law.clamp(0, 1).std(-1).view_as(found.spread)
        assert correlation(found.spread, truth) > 0.95
        assert found.shares.sum(1).min() > 0.5
        assert found.factors.shape == (3, 3)
        torch.testing.assert_close(found.factors.mean(), c.std(), rtol=0.15, atol=0)

    def test_errors_name_the_argument(self, digits):
        _, oracle, subject, x = digits
        with pytest.raises(ValueError, match="invariance_map: directions"):
            invariance_map(oracle, subject, x, directions=0)
        with pytest.raises(ValueError, match="invariance_map: n"):
            invariance_map(oracle, subject, x, n=2)
        with pytest.raises(ValueError, match="images: expected shape"):
            invariance_map(oracle, subject, x[:, :1])
