"""Suites: what a known law promises, for every suite."""

import pytest
import torch
from cases import images, subject

from fibermodels.core import FiberSamples
from fibermodels.noise import seeded, skip_targets
from fibermodels.suites import (
    BlobMoments,
    Blobs,
    ColourDigits,
    DependentColours,
    DetexturedEncoder,
    Orbits,
    PowerSpectrum,
    TexturedDigits,
    colour,
    law_metrics,
)
from fibermodels.suites.blobs import MODES, _angles
from fibermodels.suites.digit_traits import correlated, traits

SUITES = {
    "colour_digits": (ColourDigits, subject),
    "dependent_colours": (DependentColours, subject),
    "textured_digits": (TexturedDigits, lambda: DetexturedEncoder(dim=6, width=16, blocks=1)),
    "blobs": (lambda: Blobs(2000), BlobMoments),
    "orbits": (Orbits, PowerSpectrum),
}


@pytest.fixture(scope="module", params=SUITES)
def suite(request):
    data, phi = SUITES[request.param]
    law = data()
    return law, phi(), law.split("val").images(slice(200))


def drawn(suite, seed, n=4):
    """Exact samples."""
    law, phi, x = suite
    content, h = law.content(x), phi(x)
    noise = torch.randn(n, len(x), law.noise_dim, generator=seeded("drawn", seed))
    x_hat = torch.stack([law.render(content, law.draw(e, content)) for e in noise])
    return FiberSamples(x, h, x_hat, torch.stack([phi(slot) for slot in x_hat]))


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
    assert members.std(0).mean() > 0.01


def test_members_of_a_target_do_not_depend_on_the_batch(suite):
    law, _, x = suite
    whole = law.members(x, 3, seeded(1))
    generator = seeded(1)
    skip_targets(10, generator)
    torch.testing.assert_close(law.members(x[10:], 3, generator), whole[:, 10:], atol=1e-5, rtol=0)


def test_factors_are_read_back(suite):
    """The factors of a rendering are those that it was rendered with, and the content is the split's."""
    law, _, x = suite
    content = law.split("val").contents[:200]
    torch.testing.assert_close(law.content(x), content, atol=5e-5, rtol=0)
    factors = law.draw(torch.randn(2, 200, law.noise_dim, generator=seeded(2)), content)
    painted = torch.stack([law.render(content, slot) for slot in factors])
    found = law.factors(painted, x)
    torch.testing.assert_close(law.embed(found), law.embed(factors), atol=2e-4, rtol=0)


def test_images_are_renderings_that_change_with_the_epoch(suite):
    law, _, _ = suite
    split = law.split("val")
    first = split.images(slice(20))
    split.set_epoch(1)
    other = split.images(slice(20))
    split.set_epoch(0)
    assert torch.equal(split.images(slice(20)), first)
    assert (other - first).abs().flatten(1).amax(1).min() > 0.01
    torch.testing.assert_close(law.content(other), law.content(first), atol=5e-5, rtol=0)


def test_subjects_are_differentiable(suite):
    _, phi, x = suite
    noisy = (x[:4] + 0.01 * torch.rand(x[:4].shape, generator=seeded(3))).requires_grad_()
    (gradient,) = torch.autograd.grad(phi(noisy).square().sum(), noisy)
    assert gradient.isfinite().all()
    assert gradient.abs().max() > 0


def test_exact_samples_score_at_the_floor(suite):
    scores = suite[0].law_scores(drawn(suite, 3), drawn(suite, 4))
    count = 4 * 200
    assert 0.3 < scores["factor_ks"] * count**0.5 < 1.7  # its mean is .8687 for independent numbers
    assert abs(scores["joint_distance"]) < 0.01
    assert scores["mode_error"] < 0.06
    assert scores["pixel_error"] < 1e-3
    for name in ("factor_ks", "joint_distance", "mode_error", "pixel_error"):
        assert abs(scores[f"{name}_floor"] - scores[name]) < 0.06


@pytest.fixture(scope="module", params=SUITES)
def law(request):
    """A suite with 1,000 contents, their representations, and exact factors of each."""
    data, phi = SUITES[request.param]
    suite = data()
    split = suite.split("train")
    content = split.contents[:1000]
    return suite, content, phi()(split.images(slice(1000))), factors(suite, content, 32, "known")


def factors(suite, content, n, *seed, scale=1.0):
    noise = scale * torch.randn(n, len(content), suite.noise_dim, generator=seeded("factors", *seed))
    return torch.stack([suite.draw(each, content) for each in noise])


def scores(law, found):
    """KS distance, joint distance and mode error of factors `(n, B, K)`."""
    suite, content, h, known = law
    own, exact = suite.embed(found), suite.embed(known)
    modes = law_metrics.mode_error(suite.modes(found, content), suite.modes(known, content))
    return law_metrics.factor_ks(own, exact), law_metrics.joint_distance(own[:2], exact, h), modes


def test_a_narrow_law_is_found(law):
    suite, content, _, _ = law
    ks = [scores(law, factors(suite, content, 8, "narrow", scale=scale))[0] for scale in (1.0, 0.9, 0.8)]
    assert ks[0] < 1.5 * 0.8687 / 8000**0.5 * 1.2  # 8 samples of each target against 32 exact ones
    assert ks[1] > 1.3 * ks[0]
    assert ks[2] > 1.3 * ks[1]


def test_a_missing_mode_is_found(law):
    suite, content, _, _ = law
    tries = factors(suite, content, 40, "tries")
    other = ~suite.modes(tries, content)[..., 0].bool()
    pick = other & (other.cumsum(0) == 1)
    found = (tries * pick[..., None]).sum(0, keepdim=True)
    exact = factors(suite, content, 1, "exact")
    assert scores(law, found)[2] > 0.1 > scores(law, exact)[2]


def test_a_missing_dependence_on_the_target_is_found(law):
    suite, content, _, _ = law
    exact, others = (
        scores(law, factors(suite, content, 2, "e")),
        scores(law, factors(suite, content.roll(1, 0), 2, "o")),
    )
    if isinstance(suite, ColourDigits):  # its law is the same on every fiber
        assert abs(others[1] - exact[1]) < 0.002
    else:
        assert others[1] > 0.0015 > abs(exact[1])
    assert others[2] < 0.04


def test_a_missing_dependence_between_factors_is_found_jointly_only(law):
    """Each factor from another exact sample of the same target."""
    suite, content, _, known = law
    several = factors(suite, content, 2 * known.shape[-1], "apart").unflatten(0, (2, -1))
    apart = torch.stack([several[:, k, :, k] for k in range(known.shape[-1])], -1)
    ks, joint, _ = scores(law, apart)
    assert ks < 1.6 * 0.8687 / 2000**0.5
    assert joint < 0.001 if isinstance(suite, ColourDigits) else joint > 0.0015


def test_noise_on_pixels_moves_the_pixel_error(suite):
    exact = drawn(suite, 5)
    noise = 0.02 * torch.randn(exact.x_hat.shape, generator=seeded("noise"))
    noisy = FiberSamples(exact.x, exact.h, (exact.x_hat + noise).clamp(0, 1), exact.h_hat)
    found = suite[0].law_scores(noisy, exact)
    assert found["pixel_error"] > 0.009  # half of the noise of dark pixels is clipped
    assert found["pixel_error_floor"] < 1e-3
    assert abs(found["mode_error"] - found["mode_error_floor"]) < 0.05


def test_ks_against_a_closed_form():
    """Ranks among exact factors give Kolmogorov and Smirnov's distance from the true distribution function."""
    found = 0.3 + torch.randn(4, 3000, 1, generator=seeded(7))
    known = torch.randn(400, 3000, 1, generator=seeded(8))
    normal = torch.distributions.Normal(0, 1)
    exact = (normal.cdf(torch.tensor(0.15)) - normal.cdf(torch.tensor(-0.15))).item()  # sup |Phi(x) - Phi(x - .3)|
    assert law_metrics.factor_ks(found, known) == pytest.approx(exact, abs=0.01)


def test_joint_distance_of_normal_laws():
    """`(2 E|f - g| - E|f - f'| - E|g - g'|) / E|g - g'|` of normal numbers with a shift, in closed form."""
    from scipy.stats import foldnorm, norm

    g, f = (torch.from_numpy(norm.ppf((torch.arange(2000).numpy() + 0.5) / 2000)).float() for _ in range(2))
    order = torch.randperm(2000, generator=seeded("order"))
    h = torch.randn(2000, 6, generator=seeded(9))  # unrelated to the factors
    across, within = 2**0.5 * foldnorm.mean(0.5 / 2**0.5), 2**0.5 * foldnorm.mean(0)
    found = law_metrics.joint_distance(0.5 + f[order].view(1, -1, 1), g.view(1, -1, 1), h)
    assert found == pytest.approx(2 * (across - within) / within, rel=0.08)


def test_colours_follow_their_law():
    """Kolmogorov and Smirnov's distance of 12,000 colours from the mixture, whose mean is .8687 / sqrt(N)."""
    law, x = ColourDigits(), images(40)
    colours = law.factors(law.members(x, 100, seeded(5)), x).flatten().sort().values.double()
    steps = torch.linspace(0, 1, 20001, dtype=torch.double)
    mass = colour.density(steps).cumsum(0)
    exact = (mass / mass[-1])[(colours.clamp(0, 1) * 20000).round().long()]
    found = torch.arange(1, len(colours) + 1) / len(colours)
    assert (found - exact).abs().max() < 2 * 0.8687 / len(colours) ** 0.5


def test_copula_has_the_given_correlation():
    rho = torch.tensor([0.0, 0.5, 0.9])
    numbers = correlated(torch.randn(200_000, 3, 3, generator=seeded(6)), rho)
    for column, expected in enumerate(rho):
        found = torch.corrcoef(numbers[:, column].T)
        off = found[~torch.eye(3, dtype=torch.bool)]
        torch.testing.assert_close(off, expected.expand(6), atol=0.01, rtol=0)
        torch.testing.assert_close(numbers[:, column].var(0), torch.ones(3), atol=0.02, rtol=0)


def test_traits_by_hand():
    """A stroke that leans to the right has a positive slant, and its mirror image the opposite one."""
    stroke = torch.eye(20).flip(1)[None, None]
    right, left = traits(stroke)[1], traits(stroke.flip(-1))[1]
    assert right == pytest.approx(torch.tanh(torch.tensor(3 - 0.4)).item(), abs=1e-4)
    assert left == pytest.approx(torch.tanh(torch.tensor(-3 - 0.4)).item(), abs=1e-4)
    assert traits(stroke)[0] == pytest.approx(torch.tanh(torch.tensor((0.05 - 0.13) / 0.04)).item(), abs=1e-5)


def test_von_mises_fisher_means():
    """The mean of the cosine on S^3 is `I_2(k) / I_1(k)`."""
    from scipy.special import ive

    k = torch.tensor([4.0, 8.0, 16.0])
    angles = _angles(torch.rand(100_000, 3, generator=seeded(1)), k)
    torch.testing.assert_close(
        angles.cos().mean(0),
        torch.from_numpy(ive(2, k.numpy()) / ive(1, k.numpy())),
        atol=3e-3,
        rtol=0,
        check_dtype=False,
    )
    assert torch.equal(MODES @ MODES.T, torch.eye(3))
