"""Laws in the plane: level curves with their law, and constraints on a score."""

import math

import pytest
import torch
from scipy.stats import kstest, vonmises

from fibermodels.core import FiberSamples
from fibermodels.noise import seeded
from fibermodels.subjects import SpatialMean
from fibermodels.suites import AngularScore, Circles, CirclesClassifier, FourModes
from fibermodels.suites.angular import (
    divergence,
    kernel_density,
    stein_discrepancy,
    tilt,
    tilted_to,
    total_variation,
    truncated_to,
    truncation,
)
from fibermodels.suites.circles import BINS, SPREAD, arc_kl, circles_prior, density, draw, rings
from fibermodels.suites.level_curves import LevelCurves, onto


def gaussian(x):
    """Of mean (1, 0) and deviation 1."""
    return (-(x - torch.tensor([1.0, 0.0])).square().sum(1) / 2).exp()


class TestLevelCurves:
    def test_a_gaussian_on_a_circle_is_a_von_mises_law(self):
        """The density of N(m, I) on |x| = r is exp(r m cos(angle)) up to a constant."""
        curve = LevelCurves(lambda x: x.norm(dim=1), gaussian).curve(1.5)
        points = curve.at(torch.rand(4000, generator=seeded("u")))
        torch.testing.assert_close(points.norm(dim=1), torch.full((4000,), 1.5), atol=1e-3, rtol=0)
        angle = torch.atan2(points[:, 1], points[:, 0])
        assert kstest(angle.numpy(), vonmises(kappa=1.5).cdf).pvalue > 0.01

    def test_the_law_is_that_of_draws_near_the_curve(self):
        """Draws whose value is within 0.01 of a level are draws of the law on it, whatever the slope of the function;
        without the slope, the law would be rejected."""

        def phi(x):
            return x[:, 0] ** 2 + 3 * x[:, 1] ** 2 + 0.5 * x[:, 0]

        x = torch.randn(1_500_000, 2, generator=seeded("draws")) + torch.tensor([1.0, 0.0])
        near = x[(phi(x) - 2.0).abs() < 0.01]
        assert len(near) > 2000
        u, distance = LevelCurves(phi, gaussian).curve(2.0).positions(near)
        assert distance.max() < 0.01
        assert kstest(u.numpy(), "uniform").pvalue > 0.01
        slope = 2 * torch.stack((x[:, 0] + 0.25, 3 * x[:, 1]), 1)
        wrong = LevelCurves(phi, lambda x: gaussian(x) * torch.stack((2 * x[:, 0] + 0.5, 6 * x[:, 1]), 1).norm(dim=1))
        assert slope.norm(dim=1).std() > 0.5
        assert kstest(wrong.curve(2.0).positions(near)[0].numpy(), "uniform").pvalue < 1e-4

    def test_positions_and_points_are_inverse(self):
        curve = LevelCurves(lambda x: x.norm(dim=1), gaussian).curve(1.0)
        u = torch.rand(100, generator=seeded("u"))
        torch.testing.assert_close(curve.positions(curve.at(u))[0], u, atol=1e-3, rtol=0)

    def test_newton_steps_reach_the_curve(self):
        x = 0.9 * torch.nn.functional.normalize(torch.randn(50, 2, generator=seeded("x")), dim=1)
        near = onto(lambda x: x.square().sum(1), x, torch.ones(50))
        torch.testing.assert_close(near.norm(dim=1), torch.ones(50))

    def test_a_level_outside_of_the_square(self):
        with pytest.raises(ValueError, match="no point of the square of side 6 has the value 99"):
            LevelCurves(lambda x: x.norm(dim=1), gaussian).curve(99.0)


WEIGHTS = "data/weights/circles/classifier.safetensors"


@pytest.fixture(scope="module")
def circles():
    return Circles(CirclesClassifier(WEIGHTS))


class TestCircles:
    def test_the_density_is_that_of_the_draws(self):
        means, weights = rings()
        mixture = torch.distributions.MixtureSameFamily(
            torch.distributions.Categorical(weights),
            torch.distributions.Independent(torch.distributions.Normal(means, torch.full_like(means, SPREAD)), 1),
        )
        x = draw(2000, seeded("x"))
        torch.testing.assert_close(density(x).log(), mixture.log_prob(x), atol=1e-4, rtol=1e-4)
        other = mixture.sample((2000,))
        assert kstest(x.norm(dim=1).numpy(), other.norm(dim=1).numpy()).pvalue > 0.01

    def test_members_are_on_the_fiber_and_have_the_law(self, circles):
        x = circles.split("test").inputs(slice(6))
        members = circles.members(x, 300, seeded(1))
        h, found = circles.subject(x), torch.stack([circles.subject(slot) for slot in members])
        torch.testing.assert_close(found, h.expand_as(found), atol=1e-4, rtol=1e-4)
        assert kstest(circles.factors(members, x).flatten().numpy(), "uniform").pvalue > 0.01
        again = circles.members(x[:2], 300, seeded(1))
        torch.testing.assert_close(again, members[:, :2])

    def test_scores_notice_what_is_wrong(self, circles):
        x = circles.split("test").inputs(slice(5))
        members = circles.members(x, 200, seeded(2))
        h = circles.subject(x)

        def scores(x_hat):
            own = FiberSamples(x, h, x_hat, h.expand(len(x_hat), *h.shape))
            return circles.law_scores(own, FiberSamples(x, h, members, h.expand(200, *h.shape)))

        right = scores(circles.members(x, 200, seeded(3)))
        half = members[:, :, :].clone()
        keep = circles.factors(members, x)[..., 0] < 0.5
        for i in range(len(x)):
            half[:, i] = members[keep[:, i], i][torch.arange(200) % int(keep[:, i].sum())]
        assert right["arc_kl"] < 2 * (BINS - 1) / 400
        assert scores(half)["arc_kl"] == pytest.approx(math.log(2), abs=0.1)
        assert scores(half)["factor_ks"] > 0.4 > right["factor_ks"]

    def test_the_floor_of_the_divergence(self):
        u = torch.rand(50, 4000, generator=seeded("u"))
        assert arc_kl(u) == pytest.approx((BINS - 1) / 100, rel=0.1)

    def test_the_exact_prior_has_the_law_of_the_points(self):
        from fibermodels.diffusion import DDIM
        from fibermodels.guidance import Unguided

        found = Unguided(circles_prior(), DDIM(60)).sample(torch.zeros(1, 1), 2000, seeded(0))[:, 0]
        assert kstest(found.norm(dim=1).numpy(), draw(20_000, seeded("r")).norm(dim=1).numpy()).pvalue > 0.001

    def test_other_subjects_are_refused(self):
        with pytest.raises(ValueError, match=r"expected a network of inputs \(2,\) with one output"):
            Circles(SpatialMean([2, 4]))


class TestTilts:
    def test_the_score_is_least_on_the_diagonal(self):
        angle = torch.linspace(0, 2 * math.pi, 9)[:-1]
        x = torch.stack((angle.cos(), angle.sin()), 1)
        expected = 4 * (1 - (angle - math.pi / 4).cos())
        torch.testing.assert_close(AngularScore()(5 * x)[:, 0], expected, atol=1e-5, rtol=1e-5)

    def test_the_tilt_is_the_nearest_law_of_its_expected_score(self):
        """Of a Gaussian score it is a shift, with the divergence `lambda^2 / 2`; and every other law is farther."""
        s = torch.randn(400_000, generator=seeded("s"))
        strength = tilted_to(s, 1.0)
        assert strength == pytest.approx(1.0, abs=0.02)
        assert divergence(tilt(s, strength)) == pytest.approx(0.5, abs=0.02)
        hard = truncation(s, truncated_to(s, 1.0))
        assert float(hard @ s.double()) == pytest.approx(1.0, abs=1e-3)
        assert divergence(hard) > divergence(tilt(s, strength))
        share = float((hard > 0).double().mean())
        assert divergence(hard) == pytest.approx(-math.log(share))

    def test_total_variation_of_truncations(self):
        s = torch.rand(1000, generator=seeded("s"))
        one, other = truncation(s, 0.2), truncation(s, 0.6)
        kept = [(s >= level).double().mean() for level in (0.2, 0.6)]
        assert total_variation(one, other) == pytest.approx(float(1 - kept[1] / kept[0]))

    def test_the_prior(self):
        prior = FourModes()
        x = prior.draw(20_000, seeded("x"))
        axis = torch.linspace(-7, 7, 200)
        grid = torch.cartesian_prod(axis, axis)
        assert float(prior.log_density(grid).exp().sum() * (axis[1] - axis[0]) ** 2) == pytest.approx(1, abs=1e-3)
        smooth = kernel_density(x[:3000], grid[::40], 0.3)
        assert torch.corrcoef(torch.stack((smooth, prior.log_density(grid[::40]).exp())))[0, 1] > 0.97
        assert (x.abs() - 2).mean().abs() < 0.02

    def test_the_stein_discrepancy_tells_the_law_from_others(self):
        """Of draws of the law its square is about the kernel's mean diagonal over their number."""
        x = torch.randn(1500, 2, generator=seeded("x"))
        right, few = stein_discrepancy(x, -x), stein_discrepancy(x[:150], -x[:150])
        assert few / right == pytest.approx(10**0.5, rel=0.35)
        assert right**2 == pytest.approx(4 / 1500, rel=0.5)  # E |slope|^2 + 2, on the diagonal
        shifted = x + torch.tensor([0.5, 0.0])
        assert stein_discrepancy(shifted, -shifted) > 5 * right
