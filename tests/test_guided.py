"""Guided priors: the strength that reaches a fidelity, renoised targets, and what bad input is told."""

import pytest
import torch
from cases import FEATURES, diffusion, flow_matching, images, subject, vae
from torch import Tensor

from fibermodels.core import Subject
from fibermodels.diffusion import DDIM, Ancestral, GaussianMixture, Heun, Midpoint
from fibermodels.guidance import (
    DPS,
    NDTM,
    Cost,
    FiberDistance,
    Guidance,
    Guided,
    MomentMatching,
    Renoised,
    ScoreEnergy,
    StrengthSearch,
    Unguided,
    calibrate,
)
from fibermodels.guidance.strength import find_strength
from fibermodels.latents import Identity
from fibermodels.noise import seeded, target_noise


class Pull(Guidance):
    """Takes the data towards the one image that fits the target: `strength / (1 + strength)` of the way."""

    def step(self, objective, z, t, s, strength):
        data, noise = objective.denoise(z, t)
        self.aims = [*getattr(self, "aims", []), objective.h]
        goal = objective.prior.encode(objective.h.view(-1, 1, 2, 2))
        return data + (strength / (1 + strength))[:, None] * (goal - data), noise

    def calls(self, t):
        return 1


class Pixels(Subject):
    """The image is the representation."""

    image_shape, feature_shape = (1, 2, 2), (4,)

    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1)


class Scaled(Subject):
    """Points times a number."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.input_shape, self.feature_shape, self.scale = (4,), (4,), scale

    def forward(self, images: Tensor) -> Tensor:
        return self.scale * images


class Scored(Subject):
    """The score `a x` of points."""

    def __init__(self, a: Tensor) -> None:
        super().__init__()
        self.input_shape, self.feature_shape, self.a = (2,), (1,), a

    def forward(self, images: Tensor) -> Tensor:
        return (images @ self.a)[:, None]


def pulled(**options) -> Guided:
    """A narrow Gaussian around grey, guided."""
    prior = GaussianMixture(Identity((1, 2, 2)), [[0.0] * 4], [[0.05] * 4])
    return Guided(prior, Pixels(), Pull(), **{"sampler": DDIM(10)} | options)


class TestStrength:
    def test_it_finds_the_crossing_of_each_target(self):
        crossing = torch.tensor([0.03, 0.5, 1.0, 7.0, 40.0])
        found, reached = find_strength(lambda s: 0.2 * crossing / s, 0.2, 5, 14)
        torch.testing.assert_close(found, crossing, rtol=1e-2, atol=0)
        torch.testing.assert_close(reached, torch.full((5,), 0.2), rtol=1e-2, atol=0)

    def test_it_keeps_the_nearest_where_more_is_worse_again(self):
        """A target whose RMS has its least, 0.3, at strength 1 and never reaches 0.1."""
        found, reached = find_strength(lambda s: 0.3 + s.log().square(), 0.1, 1, 8)
        assert reached.item() == pytest.approx(0.3, abs=1e-6)
        assert found.item() == pytest.approx(1)

    @pytest.mark.parametrize("exponent", [-40, -20, -9, 9, 20, 40])
    def test_it_reaches_strengths_of_any_size(self, exponent):
        """The Gaussian posterior's mean for a cost times k: the RMS a / (1 + k s) is 0.1 at (a / 0.1 - 1) / k."""
        a, k = torch.tensor([0.3, 0.9]), 2.0**-exponent
        asked = []
        found, reached = find_strength(lambda s: asked.append(s) or a / (1 + k * s), 0.1, 2, 14)
        torch.testing.assert_close(reached, torch.full((2,), 0.1), rtol=0.1, atol=0)
        torch.testing.assert_close(found, (a / 0.1 - 1) / k, rtol=0.15, atol=0)
        assert len(asked) == 14

    @pytest.mark.parametrize("wild", [float("nan"), float("inf"), 50.0])
    def test_a_strength_that_diverges_is_too_large_also_where_it_is_the_first(self, wild):
        """Beyond twice the strength that is asked for, samples leave the data."""

        def measure(s):
            return torch.where(k * s > 4, wild, 0.3 / (1 + k * s))

        for k in (2.0**14, 2.0**-14):
            found, reached = find_strength(measure, 0.1, 1, 12)
            assert reached.item() == pytest.approx(0.1, rel=0.1)
            assert found.item() == pytest.approx(2 / k, rel=0.15)

    def test_a_subject_with_large_numbers_needs_a_tiny_strength(self):
        """DPS of a squared cost: a subject times 1000 has the same samples at a millionth of the strength."""
        prior, h = GaussianMixture(Identity(input_shape=[4]), [[0.0] * 4], [[0.5] * 4]), torch.full((2, 4), 0.8)
        chosen = []
        for scale in (1.0, 1000.0):
            steered = Guided(prior, Scaled(scale), DPS(), FiberDistance("squared"), DDIM(20))
            model = StrengthSearch(steered, 0.1 * scale, rounds=14)
            model.sample(scale * h, 2, seeded("scaled"))
            assert model.report()["target_rms_missed"] == 0
            chosen.append(model.report()["strength_50"])
        assert chosen[1] < 2**-6
        assert chosen[0] / chosen[1] == pytest.approx(1e6, rel=0.1)

    def test_one_strength_reaches_an_expected_score(self):
        z = torch.randn(100, 1, generator=seeded("z"))
        z = z - z.mean()
        found = calibrate(lambda s: z + s, lambda x: x, 3.0, rounds=14)
        assert found.score == pytest.approx(3, rel=1e-2)
        assert found.strength == pytest.approx(3, rel=1e-2)
        torch.testing.assert_close(found.samples, z + found.strength)
        least = calibrate(lambda s: z + s, lambda x: x, -1.0, rounds=4)
        assert least.strength == pytest.approx(2**-7), "the nearest of those that were tried"

    def test_calibrated_energy_dps_is_near_the_tilt(self):
        """The tilt of N(0, S) by exp(l a x) is N(l S a, S): its mean is along S a. DPS reaches the expected score; its
        mean is between S a and a, because the last steps hardly see the prior."""
        a, covariance = torch.tensor([0.8, 0.6]), torch.tensor([1.0, 0.1])
        prior = GaussianMixture(Identity(input_shape=[2]), [[0.0, 0.0]], [covariance.sqrt().tolist()])
        model = Guided(prior, Scored(a), DPS(), ScoreEnergy(), Ancestral(20))

        def draw(strength: float) -> Tensor:
            model.strength = strength
            return model.sample(torch.zeros(1, 1), 400, seeded("tilt"))[:, 0]

        found = calibrate(draw, lambda x: x @ a, 1.5, rounds=8)
        assert found.score == pytest.approx(1.5, rel=0.03)
        angle = torch.atan2(*found.samples.mean(0).flip(0))
        assert torch.atan2(*(covariance * a).flip(0)) < angle < torch.atan2(*a.flip(0))

    @pytest.mark.parametrize("goal", [0.02, 0.05, 0.1])
    def test_a_guided_prior_reaches_the_fidelity_asked_for(self, goal):
        """On fresh samples, at different strengths for near and far targets."""
        model = StrengthSearch(pulled(), goal, rounds=10)
        h = 0.5 + torch.linspace(0.12, 0.4, 6)[:, None] * torch.ones(1, 4)
        x_hat = model.sample(h, 8, seeded("fresh"))
        rms = (x_hat.flatten(2) - h).square().mean(2).sqrt().mean(0)
        torch.testing.assert_close(rms, torch.full((6,), goal), rtol=0.2, atol=0)
        report = model.report()
        assert report["target_rms"] == pytest.approx(goal)
        assert report["target_rms_missed"] == 0
        assert report["strength_10"] < report["strength_50"] < report["strength_90"]

    def test_it_says_where_it_cannot(self):
        """No image has pixels of 1.2: the nearest is white."""
        model, h = StrengthSearch(pulled(), 0.1), torch.full((2, 4), 1.2)
        with pytest.warns(
            UserWarning, match=r"2 of 2 targets none of the 8 strengths that were tried came .*RMS is 0\.2"
        ):
            model.sample(h, 1, seeded(0))
        assert model.report()["target_rms_missed"] == 1

    def test_samples_do_not_depend_on_the_batch(self):
        model, h = StrengthSearch(pulled(), 0.05), torch.rand(5, 4, generator=seeded("targets"))
        whole, generator = model.sample(h, 2, seeded(1)), seeded(1)
        torch.testing.assert_close(torch.cat([model.sample(part, 2, generator) for part in h.split(2)], 1), whole)

    def test_its_samples_are_those_of_the_steered_prior_at_the_strength_it_found(self):
        inner, h = pulled(), torch.full((1, 4), 0.8)
        model = StrengthSearch(inner, 0.05)
        found = model.sample(h, 2, seeded(1))
        noise, chosen = target_noise(2 + 4, 1, inner.noise_shape, seeded(1)), model.report()["strength_50"]
        torch.testing.assert_close(found, inner.steering(h, None)(noise[:2], torch.tensor([chosen])))
        assert model.network_calls == inner.network_calls
        assert model.report()["search_calls_per_target"] == 4 * 8 * 10

    def test_it_composes_with_a_renoised_target(self):
        """The query reaches the inner model, and the fidelity asked for is reached."""
        x = 0.5 + torch.linspace(0.12, 0.4, 6)[:, None, None, None] * torch.ones(1, 1, 2, 2)
        model, h = StrengthSearch(Renoised(pulled()), 0.1), x.flatten(1)
        found = model.sample(h, 8, seeded("fresh"), x)
        rms = (found.flatten(2) - h).square().mean(2).sqrt().mean(0)
        torch.testing.assert_close(rms, torch.full((6,), 0.1), rtol=0.25, atol=0)


class TestRenoised:
    X = torch.rand(3, 1, 2, 2, generator=seeded("x"))

    def test_it_aims_at_what_the_prior_sees_of_the_query(self):
        """At the start that is nothing: every target is the prior's mean, whatever the query."""
        model = pulled()
        Renoised(model).sample(Pixels()(self.X), 1, seeded(0), self.X)
        torch.testing.assert_close(model.guidance.aims[0], torch.full((3, 4), 0.5), atol=0.05, rtol=0)

    def test_without_noise_it_is_the_query_itself(self):
        """For a flat prior the clean estimate at the last, nearly noiseless step is the query."""
        wide = GaussianMixture(Identity((1, 2, 2)), [[0.0] * 4], [[30.0] * 4])
        model, h = Guided(wide, Pixels(), Pull(), sampler=DDIM(200)), Pixels()(self.X)
        Renoised(model).sample(h, 1, seeded(0), self.X)
        torch.testing.assert_close(model.guidance.aims[-1], h, atol=1e-2, rtol=0)

    def test_the_noise_on_the_query_is_fresh_in_every_step(self):
        """For a flat prior the clean estimate is the noised state itself, so the aims give the noise back."""
        wide = GaussianMixture(Identity((1, 2, 2)), [[0.0] * 4], [[1e4] * 4])
        model = Guided(wide, Pixels(), Pull(), sampler=Ancestral(40))
        Renoised(model).sample(torch.full((500, 4), 0.5), 1, seeded(0), torch.full((500, 1, 2, 2), 0.5))
        early, late = (torch.stack(model.guidance.aims)[[i, i + 1]].flatten(1) for i in (20, 30))
        for pair in (early, late):
            assert torch.corrcoef(pair)[0, 1].abs() < 0.1  # 2000 numbers of no correlation: 0.02

    @pytest.mark.parametrize("sampler", [DDIM, Ancestral, Heun, Midpoint], ids=lambda cls: cls.__name__)
    def test_calls_are_counted_and_samples_do_not_depend_on_the_batch(self, sampler):
        model = Renoised(pulled(sampler=sampler(10)))
        calls, denoiser = [], model.model.prior.denoiser()
        model.model.prior.denoiser = lambda h=None: lambda z, t: calls.append(1) or denoiser(z, t)
        h = Pixels()(self.X)
        whole = model.sample(h, 2, seeded(0), self.X)
        assert len(calls) == model.network_calls == 2 * model.model.sampler.calls
        generator = seeded(0)
        parts = [model.sample(h[i : i + 1], 2, generator, self.X[i : i + 1]) for i in range(3)]
        torch.testing.assert_close(torch.cat(parts, 1), whole)

    def test_strength_zero_is_the_prior(self):
        """The law of the prior: the noise on the query does not reach the samples."""
        model, h = Renoised(pulled(strength=0.0)), Pixels()(self.X)
        noise = torch.randn(3, *model.noise_shape, generator=seeded(1))
        found = model.steer(noise, h, torch.zeros(3), model.model.prior.encode(self.X))
        torch.testing.assert_close(found, model.model.steer(noise[:, 0], h))

    def test_it_needs_the_query(self):
        with pytest.raises(ValueError, match="Renoised: x: expected the query images"):
            Renoised(pulled()).sample(torch.rand(2, 4), 1)
        with pytest.raises(ValueError, match=r"Renoised: x: expected shape \(B, 1, 2, 2\)"):
            Renoised(pulled()).sample(torch.rand(2, 4), 1, x=torch.rand(2, 1, 3, 3))


class Nan(Cost):
    def forward(self, subject, images, h):
        return subject(images).sum(1) * float("nan")


class Detached(Subject):
    """A subject without gradients: what it gives back is cut off."""

    image_shape, feature_shape = (3, 28, 28), (FEATURES,)

    def forward(self, images):
        return images.detach().flatten(1)[:, :FEATURES]


class TestBadInput:
    """Each one clear message."""

    H = torch.zeros(2, FEATURES)

    def test_a_prior_whose_images_do_not_fit(self):
        prior = GaussianMixture(Identity((1, 2, 2)), [[0.0] * 4], [[1.0] * 4])
        with pytest.raises(ValueError, match=r"the subject takes images \(3, 28, 28\), the prior makes \(1, 2, 2\)"):
            Guided(prior, subject(), DPS())

    def test_a_prior_whose_latents_do_not_fit(self):
        with pytest.raises(ValueError, match=r"expected means and stds of shape \(1, 6\)"):
            GaussianMixture(vae(), [[0.0] * 4], [[1.0] * 4])

    def test_a_target_that_does_not_fit_a_conditional_prior(self):
        model = Guided(diffusion(), subject(), DPS(), sampler=DDIM(2))
        with pytest.raises(ValueError, match=r"representation.*\b5\b"):
            model.sample(self.H[:, 1:], 1)

    def test_a_schedule_that_reaches_zero_signal(self):
        with pytest.raises(ValueError, match=r"zero signal"):
            Guided(diffusion(schedule="cosine"), subject(), MomentMatching())
        Guided(diffusion(schedule="cosine"), subject(), MomentMatching(until=0.9))  # where there is signal

    @pytest.mark.parametrize("guidance", [NDTM(), DPS()], ids=["ndtm", "dps"])
    def test_a_subject_without_gradients(self, guidance):
        with pytest.raises(ValueError, match="expected a differentiable subject"):
            Guided(diffusion(), Detached(), guidance, sampler=DDIM(2)).sample(self.H, 1)

    @pytest.mark.parametrize("guidance", [NDTM(), DPS()], ids=["ndtm", "dps"])
    def test_a_cost_that_is_nan(self, guidance):
        with pytest.raises(ValueError, match="the cost of row 0 is nan: expected finite costs"):
            Guided(diffusion(), subject(), guidance, Nan(), DDIM(2)).sample(self.H, 1)

    @pytest.mark.parametrize("strength", [-1.0, float("nan")])
    def test_a_negative_strength(self, strength):
        with pytest.raises(ValueError, match="Guided: strength: expected a number of at least 0, got"):
            Guided(diffusion(), subject(), DPS(), strength=strength)

    @pytest.mark.parametrize("option", [{"target_rms": 0.0}, {"rounds": 0}, {"samples": 0}])
    def test_a_search(self, option):
        with pytest.raises(ValueError, match=f"StrengthSearch: {next(iter(option))}: expected a number"):
            StrengthSearch(pulled(), **{"target_rms": 0.1} | option)

    def test_a_target_that_is_not_finite(self):
        h = torch.tensor([[0.5] * 4, [0.5, 0.5, 0.5, float("inf")]])
        with pytest.raises(ValueError, match="h: expected finite numbers, got NaN or infinity first in row 1"):
            pulled().sample(h, 1)

    def test_samples_that_are_not_finite(self):
        """Guidance so strong that the state overflows."""
        model = pulled(strength=1.0)
        model.guidance.step = lambda objective, z, t, s, strength: (z + torch.nan, z)
        with pytest.raises(ValueError, match="Guided: samples by Pull: expected finite numbers"):
            model.sample(torch.rand(2, 4), 1, seeded(0))


def test_flow_matching_is_guided_like_diffusion():
    """And an unconditional prior, too: the same guidance brings each nearer to the fiber."""
    phi, x = subject(), images(6)
    for prior in (diffusion(), flow_matching(), GaussianMixture(vae(), [[0.0] * 6], [[1.0] * 6])):
        h = phi(x)
        plain = Unguided(prior, DDIM(10))
        guided = Guided(prior, phi, DPS(), FiberDistance("squared"), DDIM(10), strength=3.0)
        errors = [(phi(m.sample(h, 1, seeded(0))[0]) - h).square().mean() for m in (plain, guided)]
        assert errors[1] < 0.9 * errors[0]
