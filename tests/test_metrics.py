"""Every metric: optimal on the oracle, worse with graded corruption, right on values computed by hand."""

import math
from itertools import pairwise

import pytest
import torch
from cases import images, subject

from fibermodels import metrics
from fibermodels.core import FiberSamples
from fibermodels.models import Oracle
from fibermodels.noise import seeded
from fibermodels.suites import ColourDigits, colour, colour_metrics, law_metrics


def pixel_error(samples):
    """Of colour digits, from `law_metrics`."""
    nearest = colour.colourise(colour.digit(samples.x), colour.estimate_backgrounds(samples.x_hat))
    return law_metrics.pixel_error(samples.x_hat, nearest)


LOWER_IS_BETTER = {
    metrics.fiber_rms,
    metrics.fiber_l2_squared,
    colour_metrics.colour_kl,
    colour_metrics.colour_w1,
    colour_metrics.contrast_error,
    pixel_error,
}
HIGHER_IS_BETTER = {metrics.cosine, metrics.mean_reciprocal_rank}


@pytest.fixture(scope="module")
def oracle():
    phi, x = subject(), images(250)
    h = phi(x)
    x_hat = Oracle(ColourDigits()).sample(h, 8, seeded("metrics"), x)
    return phi, FiberSamples(x, h, x_hat, torch.stack([phi(slot) for slot in x_hat]))


def corrupted(phi, exact, amount):
    """Moves each channel's digit colour and background by independent normal amounts, and adds noise."""
    generator = seeded("corruption")
    shift = amount * torch.randn((*exact.x_hat.shape[:3], 1, 1), generator=generator)
    digit = (exact.x_hat - colour.estimate_backgrounds(exact.x_hat)[..., None, None]).abs() > 0.1
    noise = 0.3 * amount * torch.randn(exact.x_hat.shape, generator=generator)
    x_hat = (exact.x_hat + shift * (1 - 2 * digit.float()) + noise).clamp(0, 1)
    return FiberSamples(exact.x, exact.h, x_hat, torch.stack([phi(slot) for slot in x_hat]))


def test_the_oracle_is_optimal(oracle):
    _, exact = oracle
    assert metrics.fiber_rms(exact) < 1e-5
    assert metrics.fiber_l2_squared(exact) < 1e-8
    assert metrics.cosine(exact) == pytest.approx(1, abs=1e-6)
    assert metrics.mean_reciprocal_rank(exact) > 0.999
    assert colour_metrics.contrast_error(exact) < 1e-4
    assert pixel_error(exact) < 1e-3  # ten colours in a million are clipped


def test_a_shuffled_oracle_is_not(oracle):
    _, exact = oracle
    shuffled = FiberSamples(exact.x, exact.h, exact.x_hat.roll(1, 1), exact.h_hat.roll(1, 1))
    assert metrics.fiber_rms(shuffled) > 100 * metrics.fiber_rms(exact)
    assert metrics.fiber_rms(shuffled) > 0.05
    assert metrics.mean_reciprocal_rank(shuffled) < 0.5
    assert metrics.fiber_rms_shuffled(exact) > 0.05
    assert colour_metrics.colour_kl(shuffled) == pytest.approx(
        colour_metrics.colour_kl(exact)
    )  # the colours are still right


@pytest.mark.parametrize("metric", sorted(LOWER_IS_BETTER | HIGHER_IS_BETTER, key=lambda m: m.__name__))
def test_corruption_makes_it_worse_monotonically(oracle, metric):
    phi, exact = oracle
    sign = 1 if metric in LOWER_IS_BETTER else -1
    values = [sign * metric(exact), *(sign * metric(corrupted(phi, exact, a)) for a in (0.03, 0.08, 0.2))]
    assert all(a < b for a, b in pairwise(values)), values


def test_every_metric_of_samples_is_covered():
    of_samples = {getattr(metrics, name) for name in metrics.__all__}
    of_law = {
        colour_metrics.colour_kl,
        colour_metrics.colour_w1,
        colour_metrics.contrast_error,
        pixel_error,
    }
    special = {
        metrics.fiber_rms_std,
        metrics.fiber_rms_shuffled,
        metrics.column_w1,
        metrics.cosine_per_location,
        metrics.pairwise_distance,
        metrics.nll_bits_per_dim,
    }  # neither lower nor higher is better, or not of samples: tests of their own below
    assert of_samples | of_law == LOWER_IS_BETTER | HIGHER_IS_BETTER | special


def by_hand(h, h_hat):
    h, h_hat = torch.tensor(h), torch.tensor(h_hat)
    x = torch.zeros(len(h), 3, 2, 2)
    return FiberSamples(x, h, torch.zeros(len(h_hat), *x.shape), h_hat)


def test_fidelity_by_hand():
    samples = by_hand([[0.0, 0.0], [3.0, 4.0]], [[[1.0, 1.0], [3.0, 4.0]], [[0.0, 2.0], [0.0, 0.0]]])
    rms = [1.0, 0.0, math.sqrt(2), 5 / math.sqrt(2)]
    assert metrics.fiber_rms(samples) == pytest.approx(sum(rms) / 4)
    mean = sum(rms) / 4
    assert metrics.fiber_rms_std(samples) == pytest.approx(math.sqrt(sum((r - mean) ** 2 for r in rms) / 4))
    assert metrics.fiber_l2_squared(samples) == pytest.approx((2 + 0 + 4 + 25) / 4)
    shuffled = [math.sqrt(13 / 2), 5 / math.sqrt(2), math.sqrt(13 / 2), 0]
    assert metrics.fiber_rms_shuffled(samples) == pytest.approx(sum(shuffled) / 4)
    assert metrics.mean_reciprocal_rank(samples) == pytest.approx((1 + 1 + 1 + 1 / 2) / 4)


def test_cosine_by_hand():
    samples = by_hand([[1.0, 0.0], [0.0, 2.0]], [[[2.0, 0.0], [-1.0, 0.0]]])
    assert metrics.cosine(samples) == pytest.approx(0.5)


def test_fiber_rms_std_of_the_oracle(oracle):
    assert metrics.fiber_rms_std(oracle[1]) < 1e-5


def of_colours(backgrounds):
    """Samples whose first column shows `backgrounds` `(n, B, 3)`."""
    x_hat = backgrounds[..., None, None].expand(-1, -1, -1, 2, 2)
    count = backgrounds.shape[1]
    h = torch.zeros(count, 1)
    return FiberSamples(torch.zeros(count, 3, 2, 2), h, x_hat, torch.zeros(len(x_hat), count, 1))


def test_colour_metrics_of_one_colour_by_hand():
    """All mass in one bin: KL is -log of the law's mass there, W1 the mean distance to it."""
    samples = of_colours(torch.full((2, 50, 3), 0.705))
    centres = (torch.arange(100, dtype=torch.double) + 0.5) / 100
    law = colour.density(centres)
    law /= law.sum()
    assert colour_metrics.colour_kl(samples) == pytest.approx(-math.log(law[70]), rel=1e-6)
    assert colour_metrics.colour_w1(samples) == pytest.approx((law * (centres - 0.705).abs()).sum().item(), rel=1e-4)


def test_colour_kl_of_exact_colours_is_that_of_a_sample():
    """E KL of N draws in K well-filled bins is about (K - 1) / 2N; the law fills about 60 bins."""
    exact = of_colours(colour.sample_backgrounds(40_000, seeded(5)).view(4, 10_000, 3))
    assert 0.002 < colour_metrics.colour_kl(exact) < 0.005
    assert colour_metrics.colour_w1(exact) < 0.004


@pytest.mark.parametrize("blur", [0.01, 0.02, 0.03])
def test_colour_kl_of_blurred_colours(blur):
    """Against the KL of the law convolved with N(0, blur^2), by quadrature on the same bins."""
    draws = colour.sample_backgrounds(400_000, seeded(6)).view(4, 100_000, 3)
    samples = of_colours((draws + blur * torch.randn(draws.shape, generator=seeded(7))).clamp(0, 1))
    grid = -0.5 + (torch.arange(20_000, dtype=torch.double) + 0.5) * 1e-4
    weights, means = torch.tensor(colour.WEIGHTS).double(), torch.tensor(colour.MEANS).double()
    stds = (torch.tensor(colour.STDS).double().square() + blur**2).sqrt()
    density = (weights / stds * torch.exp(-0.5 * ((grid[:, None] - means) / stds) ** 2)).sum(-1)
    inside = (grid >= 0) & (grid < 1)
    p = torch.zeros(100, dtype=torch.double).index_add_(0, (grid[inside] * 100).long(), density[inside])
    p /= p.sum()
    q = colour.density((torch.arange(100, dtype=torch.double) + 0.5) / 100)
    q /= q.sum()
    bias = ((p > 1e-6).sum().item() - 1) / (2 * 100_000)  # of a histogram of 100,000 draws, to first order
    assert colour_metrics.colour_kl(samples) == pytest.approx(
        torch.special.xlogy(p, p / q).sum().item() + bias, rel=0.03
    )


def test_contrast_error_by_hand():
    digits = torch.zeros(1, 1, 4, 4)
    digits[..., 2, 2] = 1.0
    c = torch.tensor([[0.2, 0.3, 0.4]])
    x = colour.colourise(digits, c)
    half = colour.colourise(digits * 0.5, c)
    mixed = torch.stack((x[:, 0], half[:, 1], x[:, 2]), 1)
    h = torch.zeros(1, 1)
    samples = FiberSamples(x, h, torch.stack((mixed, half)), torch.zeros(2, 1, 1))
    assert colour_metrics.contrast_error(samples) == pytest.approx((0.5 / 3 + 0.5) / 2, abs=1e-6)
    one = 0.25 / 16**0.5  # the digit's one pixel of 16 is off by a quarter, in one channel of three, and in all
    assert pixel_error(samples) == pytest.approx((one / 3**0.5 + one) / 2, abs=1e-6)


def test_pairwise_distance():
    x_hat = torch.stack((torch.zeros(2, 3, 2, 2), torch.full((2, 3, 2, 2), 0.5), torch.full((2, 3, 2, 2), 0.2)))
    samples = FiberSamples(x_hat[0], torch.zeros(2, 1), x_hat, torch.zeros(3, 2, 1))
    assert metrics.pairwise_distance(samples) == pytest.approx((0.5 + 0.2 + 0.3) / 3)
    single = FiberSamples(x_hat[0], torch.zeros(2, 1), x_hat[:1], torch.zeros(1, 2, 1))
    assert math.isnan(metrics.pairwise_distance(single))
