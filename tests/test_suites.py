"""Suites: what a known law promises, for every suite."""

import pytest
import torch
from cases import images, subject

from fibermodels.core import FiberSamples
from fibermodels.noise import seeded, skip_targets
from fibermodels.suites import ColourDigits, colour

SUITES = {"colour_digits": (ColourDigits, subject, images)}


@pytest.fixture(params=SUITES)
def suite(request):
    data, phi, targets = SUITES[request.param]
    return data(), phi(), targets(40)


def test_members_lie_on_the_fiber(suite):
    law, phi, x = suite
    h, members = phi(x), law.members(x, 6, seeded(0))
    assert members.shape == (6, *x.shape)
    along = torch.stack([phi(slot) - h for slot in members]).square().mean().sqrt()
    assert along < 1e-4 * h.std(0).square().mean().sqrt()


def test_members_are_varied_and_are_images(suite):
    law, _, x = suite
    members = law.members(x, 6, seeded(0))
    assert members.min() >= 0
    assert members.max() <= 1
    assert members.std(0).mean() > 0.05


def test_members_of_a_target_do_not_depend_on_the_batch(suite):
    law, _, x = suite
    whole = law.members(x, 3, seeded(1))
    generator = seeded(1)
    skip_targets(10, generator)
    assert torch.equal(law.members(x[10:], 3, generator), whole[:, 10:])


def test_factors_are_one_row_for_each_image_and_vary_along_a_fiber(suite):
    law, _, x = suite
    members = law.members(x, 2, seeded(2))
    factors = law.factors(members)
    assert factors.shape[:2] == members.shape[:2]
    assert (factors[0] - factors[1]).abs().amax(1).min() > 0


def test_exact_samples_score_at_the_floor(suite):
    law, phi, x = suite
    h = phi(x)

    def drawn(seed):
        x_hat = law.members(x, 50, seeded(seed))
        return FiberSamples(x, h, x_hat, h.expand(50, *h.shape))

    scores = law.law_scores(drawn(3), drawn(4))
    for name in [name for name in scores if f"{name}_floor" in scores]:
        assert scores[name] == pytest.approx(scores[f"{name}_floor"], rel=0.3), name


def test_colours_are_read_back():
    """The factors of an image are the colours that it was painted in."""
    colours = colour.sample_backgrounds(40, seeded(6)).clamp(0, 1)
    painted = colour.colourise(colour.digit(images(40)), colours)
    torch.testing.assert_close(ColourDigits().factors(painted), colours, atol=1e-5, rtol=0)


def test_colours_follow_their_law():
    """Kolmogorov and Smirnov's distance of 12,000 colours from the mixture, whose mean is .8687 / sqrt(N)."""
    law, x = ColourDigits(), images(40)
    colours = law.factors(law.members(x, 100, seeded(5))).flatten().sort().values.double()
    steps = torch.linspace(0, 1, 20001, dtype=torch.double)
    mass = colour.density(steps).cumsum(0)
    exact = (mass / mass[-1])[(colours.clamp(0, 1) * 20000).round().long()]
    found = torch.arange(1, len(colours) + 1) / len(colours)
    assert (found - exact).abs().max() < 2 * 0.8687 / len(colours) ** 0.5
