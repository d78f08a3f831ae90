"""Calibration: a right model passes, and each corruption fails the test that is made for it."""

import math

import numpy as np
import pytest
import torch
from cases import images, subject
from scipy import stats
from torch import nn

from fibermodels.core import FiberSamples, Subject
from fibermodels.evaluation.calibration import calibration, rank_figure, scalar_ranks, subset
from fibermodels.evaluation.judging import Judges
from fibermodels.metrics.calibration import coverage_pvalue, coverage_ranks, energy_score, ranks, uniformity_pvalue
from fibermodels.metrics.descriptions import components, pixel_scalars, standardised
from fibermodels.metrics.two_sample import joint_pvalue
from fibermodels.models import Oracle
from fibermodels.noise import seeded
from fibermodels.suites import ColourDigits

SEEDS, LEVEL = 200, 0.05
RIGHT = (2, 20)
"""The number of rejections in 200 tests at level .05 lies here with a probability of 99.6 %."""


def gaussian(count, n=9, seed=0, dependence=0.6, spread=1.0):
    """Images of Gaussian pixels about a mean that depends linearly on `h`, and samples whose spread may be wrong.

    Half of the noise is a colour of the whole image, the other half is smooth, as in images.
    """
    generator = seeded("gaussian", seed)
    h = torch.randn(count, 4, generator=generator)
    weights = torch.randn(4, 3 * 8 * 8, generator=seeded("weights")) / 2
    colours = torch.randn(1 + n, count, 3, 1, 1, generator=generator).expand(-1, -1, -1, 8, 8)
    patches = torch.randn(1 + n, count, 3, 2, 2, generator=generator).repeat_interleave(4, -1).repeat_interleave(4, -2)
    noise = (colours + patches) / 2**0.5
    noise[1:] *= spread
    x = (h @ weights).view(count, 3, 8, 8) * dependence + (1 - dependence**2) ** 0.5 * noise
    return of(0.5 + 0.1 * x, h)


def of(members, h):
    return FiberSamples(members[0], h, members[1:], h.expand(len(members) - 1, *h.shape))


def changed(samples, x_hat):
    return FiberSamples(samples.x, samples.h, x_hat, samples.h_hat)


class TestRanks:
    def test_by_hand(self):
        members = torch.tensor([[2.0, 0.0, 9.0], [1.0, 1.0, 1.0], [3.0, 3.0, 3.0]])
        assert ranks(members, seeded(0)).tolist() == [1, 0, 2]

    @pytest.mark.parametrize("rounding", [0.0, 1e-7])
    def test_equal_values_are_ordered_at_random(self, rounding):
        """Also if errors of rounding make the images' values the larger ones."""
        members = 0.7 * torch.ones(5, 4000) + rounding * torch.tensor([1.0, 0, 0, 0, 0])[:, None]
        counts = torch.bincount(ranks(members, seeded(1)), minlength=5)
        assert stats.chisquare(counts).pvalue > 0.01

    @pytest.mark.parametrize("n", [1, 2, 9, 100])
    @pytest.mark.parametrize("count", [20, 500])
    def test_uniform_ranks_are_rejected_at_the_level(self, n, count):
        found = torch.randint(n + 1, (2000, count), generator=seeded("uniform", n, count))
        pvalues = np.array([uniformity_pvalue(own, n) for own in found])
        assert (pvalues < 0.05).mean() < 0.065
        assert (pvalues < 0.01).mean() < 0.02
        if n > 1:
            assert (pvalues < 0.05).mean() > 0.03

    def test_one_sample_gives_the_test_of_a_coin(self):
        """Against scipy's chi-square test of two counts, which is the same."""
        found = (torch.rand(300, generator=seeded("coin")) < 0.45).long()
        expected = stats.chisquare(torch.bincount(found)).pvalue
        assert uniformity_pvalue(found, 1) == pytest.approx(expected)

    @pytest.mark.parametrize(
        ("spread", "count", "stated", "chi_square"),
        [(0.9, 500, 0.43, 0.26), (0.9, 2000, 0.96, 0.89), (0.8, 500, 0.98, 0.93)],
    )
    def test_the_power_is_as_stated(self, spread, count, stated, chi_square):
        """At 9 samples per target, of the smooth test and of scipy's chi-square test of ten counts."""
        values = torch.randn(10, SEEDS, count, generator=seeded("power", count))
        found = (spread * values[1:] < values[0]).sum(0)
        power = np.mean([uniformity_pvalue(own, 9) < LEVEL for own in found])
        others = np.mean([stats.chisquare(torch.bincount(own, minlength=10)).pvalue < LEVEL for own in found])
        error = 3 * (0.25 / SEEDS) ** 0.5
        assert power == pytest.approx(stated, abs=error)
        assert others == pytest.approx(chi_square, abs=error)

    @pytest.mark.parametrize("shift", [(0.15, 1.0), (0.0, 1.2), (-0.15, 1.0)])
    def test_wrong_means_and_wide_spreads_are_found(self, shift):
        values = torch.randn(10, 2000, generator=seeded("shift"))
        values[1:] = shift[0] + shift[1] * values[1:]
        assert uniformity_pvalue(ranks(values, seeded(2)), 9) < 1e-3

    def test_a_dropped_mode_is_found(self):
        """Two modes at -1 and 1, of which the samples have one in four targets of five: mean and spread are wrong."""
        generator = seeded("mode")
        signs = 2.0 * torch.randint(2, (10, 1000), generator=generator) - 1
        values = signs + 0.3 * torch.randn(10, 1000, generator=generator)
        assert uniformity_pvalue(ranks(values, seeded(3)), 9) > 0.01
        values[1:] = 1 + 0.3 * torch.randn(9, 1000, generator=generator)
        assert uniformity_pvalue(ranks(values, seeded(3)), 9) < 1e-6


def vectors(count, seed, spread=1.0, dependence=0.7, dim=6):
    """Gaussian vectors `(10, count, dim)` whose mean is linear in `h`."""
    generator = seeded("vectors", seed)
    h = torch.randn(count, 3, generator=generator)
    noise = torch.randn(10, count, dim, generator=generator)
    noise[1:] *= spread
    mean = h @ torch.randn(3, dim, generator=seeded("mean")) / 3**0.5
    return dependence * mean + (1 - dependence**2) ** 0.5 * noise, h


def unconditional(slots):
    """Draws of the marginal law, from a model that ignores its condition: every slot is of another target."""
    return torch.stack([slot.roll(7 * (i + 1), 0) for i, slot in enumerate(slots)])


def rejections(test, number=SEEDS, **options):
    return sum(test(seed, **options) < LEVEL for seed in range(number))


def tarp(seed, permuted=False, **options):
    features, h = vectors(150, seed, **options)
    features = torch.cat((features[:1], unconditional(features[1:]))) if permuted else features
    own = seeded("tarp", seed)
    return coverage_pvalue(coverage_ranks(features, h, own), 9, own)


def joint(seed, permuted=False, count=100, **options):
    features, h = vectors(count, seed, **options)
    features = torch.cat((features[:1], unconditional(features[1:]))) if permuted else features
    return joint_pvalue(features, h, seeded("joint", seed))


@pytest.mark.parametrize("test", [tarp, joint], ids=["tarp", "joint"])
class TestOfVectors:
    def test_a_right_model_is_rejected_at_the_level(self, test):
        assert RIGHT[0] <= rejections(test) <= RIGHT[1]

    def test_a_narrow_law_is_found(self, test):
        assert rejections(test, 20, spread=0.7) >= 18

    def test_the_condition_must_be_used(self, test):
        """Samples of other targets have the right marginal law, and the wrong joint one."""
        assert rejections(test, 20, permuted=True) >= 18


def test_coverage_by_hand():
    """The references of the later targets are the images of the first, and of the second."""
    h = torch.tensor([[0.0], [1.0], [1.1]])
    features = torch.tensor([[[0.0], [4.0], [9.0]], [[0.0], [3.0], [8.0]], [[0.0], [5.0], [4.5]]])
    assert coverage_ranks(features, h, seeded(0)).tolist() == [1, 2]


@pytest.mark.parametrize("spread", [1.0, 0.7])
def test_the_smooth_test_of_coverage_agrees(spread):
    features, h = vectors(600, 3, spread)
    found = coverage_ranks(features, h, seeded("coverage"))
    own, other = coverage_pvalue(found, 9, seeded("credibility")), uniformity_pvalue(found, 9)
    assert (own > 0.05 and other > 0.05) if spread == 1 else (own < 1e-3 and other < 1e-3)


def test_ranks_alone_do_not_see_a_model_that_ignores_its_condition():
    """Samples of the marginal law have uniform ranks: only the two tests above find them."""
    features, _ = vectors(1000, 0)
    marginal = unconditional(features[1:])
    members = torch.cat((features[:1], marginal))
    assert uniformity_pvalue(ranks(members[..., 0], seeded(4)), 9) > 0.01


def test_joint_statistic_against_its_definition():
    """The p-value of all `2^4` exchanges of four pairs, by enumeration."""
    features, h = vectors(4, 5)
    members = features[:2]
    found = joint_pvalue(members, h, seeded("enumerated"))
    flat = (h - h.mean(0)) / h.std(0, correction=0)
    similar = torch.exp(-torch.cdist(flat, flat) / torch.cdist(flat, flat).median())

    def statistic(first, second):
        return (similar * (torch.cdist(first, second) + torch.cdist(second, first)
                           - torch.cdist(first, first) - torch.cdist(second, second))).sum()  # fmt: skip

    values = []
    for code in range(16):
        swap = torch.tensor([code >> i & 1 for i in range(4)], dtype=torch.bool)[:, None]
        values.append(statistic(torch.where(swap, members[1], members[0]), torch.where(swap, members[0], members[1])))
    exact = (torch.stack(values) >= values[0] - 1e-5).double().mean().item()
    assert found == pytest.approx(exact, abs=0.08)


def test_the_energy_score_is_lowest_for_the_truth():
    """Against narrow, wide and shifted laws, noise, a permuted condition and the mean alone."""
    exact = gaussian(2000)
    x_hat, best = exact.x_hat, energy_score(exact)
    noisy = x_hat + 0.05 * torch.randn(x_hat.shape, generator=seeded("noisy"))
    others = {"shifted": x_hat + 0.04, "noisy": noisy, "permuted": x_hat.roll(1, 1)}
    others |= {f"spread {spread}": gaussian(2000, spread=spread).x_hat for spread in (0, 0.6, 1.5)}
    scores = {name: energy_score(changed(exact, own)) for name, own in others.items()}
    assert all(score > 1.005 * best for score in scores.values()), (best, scores)


def test_the_energy_score_by_hand():
    x, x_hat = torch.zeros(1, 1, 1, 1), torch.tensor([1.0, 3.0, 4.0]).view(3, 1, 1, 1, 1)
    found = energy_score(FiberSamples(x, torch.zeros(1, 1), x_hat, torch.zeros(3, 1, 1)))
    assert found == pytest.approx(8 / 3 - (2 + 3 + 1) / 3 / 2)
    assert math.isnan(energy_score(FiberSamples(x, torch.zeros(1, 1), x_hat[:1], torch.zeros(1, 1, 1))))


class TestOfImages:
    def test_a_right_model_passes(self):
        found = [calibration(gaussian(200, seed=seed)) for seed in range(20)]
        assert sum(own["rank_rejected"] for own in found) <= 8, "of 240 at level .01"
        for name in ("rank_pvalue", "tarp_pvalue", "joint_test_pvalue"):
            pvalues = [own[name] for own in found]
            assert min(pvalues) > 1e-3
            assert sum(p < LEVEL for p in pvalues) <= 4

    def test_a_narrow_law_fails(self):
        found = calibration(gaussian(1000, spread=0.8))
        assert found["rank_rejected"] > 3
        assert max(found["rank_pvalue"], found["tarp_pvalue"], found["joint_test_pvalue"]) < 0.01

    def test_targets_are_outside_of_narrow_samples(self):
        right, narrow = (calibration(gaussian(1000, spread=spread)) for spread in (1.0, 0.7))
        assert right["rank_outside_floor"] == narrow["rank_outside_floor"] == 2 / 10
        assert right["rank_outside"] == pytest.approx(0.2, abs=0.02)
        assert narrow["rank_outside"] > 0.3

    def test_a_forgotten_condition_fails_tarp_and_the_joint_test(self):
        exact = gaussian(1000)
        found = calibration(changed(exact, unconditional(exact.x_hat)))
        assert max(found["tarp_pvalue"], found["joint_test_pvalue"]) < 0.01

    def test_a_dropped_mode_fails(self):
        """Images are dark or bright, and samples always bright."""
        exact = gaussian(500)
        generator = seeded("dark")
        dark = 0.3 * torch.randint(2, (10, 500, 1, 1, 1), generator=generator)
        members = torch.cat((exact.x[None], exact.x_hat)) - dark
        assert calibration(of(members, exact.h))["rank_pvalue"] > 0.01
        members[1:] = exact.x_hat
        found = calibration(of(members, exact.h))
        assert max(found["rank_pvalue"], found["tarp_pvalue"], found["joint_test_pvalue"]) < 0.01

    def test_pixel_noise_fails(self):
        exact = gaussian(500)
        noise = 0.02 * torch.randn(exact.x_hat.shape, generator=seeded("grain"))
        found = calibration(changed(exact, exact.x_hat + noise))
        assert max(found["rank_pvalue"], found["joint_test_pvalue"]) < 0.01

    @pytest.mark.parametrize("n", [1, 2])
    def test_few_samples(self, n):
        found = calibration(gaussian(100, n=n))
        assert math.isnan(found["energy_score"]) == (n == 1)
        assert min(found["rank_pvalue"], found["tarp_pvalue"], found["joint_test_pvalue"]) > 1e-3
        many = gaussian(1000, n=n)
        broken = calibration(changed(many, many.x_hat + 0.05))
        assert max(broken["rank_pvalue"], broken["joint_test_pvalue"]) < 0.01

    def test_few_targets_have_an_energy_score_only(self):
        assert set(calibration(gaussian(19))) == {"energy_score"}

    def test_samples_equal_to_their_targets_do_not_stop_it(self):
        exact = gaussian(50)
        found = calibration(changed(exact, exact.x.expand_as(exact.x_hat)))
        assert found["joint_test_pvalue"] == 1
        assert found["energy_score"] == 0

    def test_the_result_repeats(self):
        assert calibration(gaussian(60)) == calibration(gaussian(60))


def test_the_oracle_of_colour_digits_passes():
    phi, x = subject(), images(250)
    h = phi(x)
    x_hat = Oracle(ColourDigits()).sample(h, 9, seeded("calibrated"), x)
    exact = FiberSamples(x, h, x_hat, h.expand(9, *h.shape))
    found = calibration(exact)
    assert min(found["rank_pvalue"], found["tarp_pvalue"], found["joint_test_pvalue"]) > 0.01
    noisy = x_hat + 0.03 * torch.randn(x_hat.shape, generator=seeded("noisy digits"))
    assert calibration(changed(exact, noisy.clamp(0, 1)))["rank_pvalue"] < 1e-3


class Pooled(Subject):
    """Random maps of images of 8 x 8."""

    def __init__(self, width: int = 5) -> None:
        super().__init__()
        self.image_shape, self.feature_shape = (3, 8, 8), (width, 2, 2)
        self.register_buffer("weight", torch.randn(width, 3, 4, 4, generator=seeded("pooled")))
        self.freeze()

    def forward(self, images):
        return nn.functional.conv2d(images, self.weight, stride=4)


def test_judges_add_their_components():
    samples = subset(gaussian(300))
    samples = changed(samples, samples.x_hat.clamp(0, 1))
    samples = FiberSamples(samples.x.clamp(0, 1), samples.h, samples.x_hat, samples.h_hat)
    seen = Judges(features={"net": Pooled(), "wide": Pooled(300)}).vectors(samples, batch_size=64)
    assert {name: tuple(own.shape) for name, own in seen.items()} == {"net": (10, 300, 5), "wide": (10, 300, 256)}
    found = calibration(samples, seen)
    assert found["rank_scalars"] == 12 + 4 + 4
    assert min(found["rank_pvalue"], found["tarp_pvalue"], found["joint_test_pvalue"]) > 0.01
    assert set(scalar_ranks(samples, seen)) >= {"component 1 of net", "component 4 of wide"}


def test_scalars_are_those_of_their_names():
    samples = gaussian(30, n=2)
    found = pixel_scalars(samples)
    assert len(found) == 12
    torch.testing.assert_close(found["mean of channel 2"][0], samples.x[:, 1].mean((1, 2)))
    torch.testing.assert_close(
        found["contrast of channel 3"][1], samples.x_hat[0, :, 2].flatten(1).std(1, correction=0)
    )
    x = torch.zeros(1, 1, 1, 3)
    x[..., 1] = 1
    flat = pixel_scalars(FiberSamples(x, torch.zeros(1, 1), x[None], torch.zeros(1, 1, 1)))
    assert flat["edge energy"].tolist() == [[1.0], [1.0]]


def test_components_are_those_of_sklearn():
    from sklearn.decomposition import PCA

    members = torch.randn(4, 50, 6, generator=seeded("pca")) * torch.tensor([5.0, 3, 2, 1, 0.5, 0.1])
    deviations = (members - members.mean(0)).flatten(0, 1)
    expected = torch.from_numpy(PCA(2).fit(deviations.numpy()).components_).double()
    torch.testing.assert_close(components(members, 2).abs(), (members.double() @ expected.T).abs(), atol=1e-4, rtol=0)
    flat = standardised(members).flatten(0, 1)
    assert flat.square().sum(1).mean().item() == pytest.approx(1, rel=1e-4)


def test_large_results_are_tested_in_part(monkeypatch):
    from fibermodels.evaluation import calibration as module

    monkeypatch.setattr(module, "MOST", 30), monkeypatch.setattr(module, "SLOTS", 4)
    samples = gaussian(50)
    part = subset(samples)
    assert part.x_hat.shape[:2] == (4, 30)
    rows = [(samples.x == own).flatten(1).all(1).nonzero().item() for own in part.x]
    assert rows == sorted(rows)
    torch.testing.assert_close(part.x_hat, samples.x_hat[:4, rows])


def test_the_figure_is_written(tmp_path):
    rank_figure(gaussian(100), tmp_path / "ranks.png")
    assert (tmp_path / "ranks.png").stat().st_size > 10_000
