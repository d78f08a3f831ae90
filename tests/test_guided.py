"""Guided priors: the strength that reaches a fidelity, renoised targets, and what bad input is told."""

import pytest
import torch
from cases import FEATURES, diffusion, flow_matching, images, subject, vae
from torch import Tensor

from fibermodels.core import Subject
from fibermodels.diffusion import GaussianMixture
from fibermodels.guidance import DPS, NDTM, Cost, FiberDistance, Guidance, Guided, MomentMatching, Unguided
from fibermodels.guidance.strength import HIGHEST, LOWEST, find_strength
from fibermodels.latents import Identity
from fibermodels.models import Diffusion
from fibermodels.noise import seeded


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


def pulled(**options) -> Guided:
    """A narrow Gaussian around grey, guided."""
    prior = GaussianMixture(Identity((1, 2, 2)), [[0.0] * 4], [[0.05] * 4])
    return Guided(prior, Pixels(), Pull(), steps=10, **options)


class TestStrength:
    def test_bisection_finds_the_crossing_of_each_target(self):
        crossing = torch.tensor([0.03, 0.5, 1.0, 7.0, 40.0])
        found, reached = find_strength(lambda s: 0.2 * crossing / s, 0.2, 5, 14)
        torch.testing.assert_close(found, crossing, rtol=1e-2, atol=0)
        torch.testing.assert_close(reached, torch.full((5,), 0.2), rtol=1e-2, atol=0)

    def test_it_keeps_the_nearest_where_more_is_worse_again(self):
        """A target whose RMS has its least, 0.3, at strength 1 and never reaches 0.1."""
        found, reached = find_strength(lambda s: 0.3 + s.log().square(), 0.1, 1, 8)
        assert reached.item() == pytest.approx(0.3, abs=1e-6)
        assert found.item() == pytest.approx(1)

    def test_it_looks_between_its_ends(self):
        asked = []
        find_strength(lambda s: asked.append(s) or torch.ones(1), 0.5, 1, 12)
        assert LOWEST < min(asked) <= max(asked) < HIGHEST

    @pytest.mark.parametrize("goal", [0.02, 0.05, 0.1])
    def test_a_guided_prior_reaches_the_fidelity_asked_for(self, goal):
        """On fresh samples, at different strengths for near and far targets."""
        model = pulled(target_rms=goal, search_rounds=10)
        h = 0.5 + torch.linspace(0.12, 0.4, 6)[:, None] * torch.ones(1, 4)
        x_hat = model.sample(h, 8, seeded("fresh"))
        rms = (x_hat.flatten(2) - h).square().mean(2).sqrt().mean(0)
        torch.testing.assert_close(rms, torch.full((6,), goal), rtol=0.2, atol=0)
        report = model.report()
        assert report["target_rms"] == pytest.approx(goal)
        assert report["target_rms_missed"] == 0
        assert report["strength_10"] < report["strength_50"] < report["strength_90"]

    def test_it_says_where_it_cannot(self):
        model, h = pulled(target_rms=1e-5), torch.full((2, 4), 0.9)
        with pytest.warns(
            UserWarning, match="for 2 of 2 targets no strength up to 64 came within a fifth of target_rms"
        ):
            model.sample(h, 1, seeded(0))
        assert model.report()["target_rms_missed"] == 1

    def test_samples_do_not_depend_on_the_batch(self):
        model, h = pulled(target_rms=0.05), torch.rand(5, 4, generator=seeded("targets"))
        whole, generator = model.sample(h, 2, seeded(1)), seeded(1)
        torch.testing.assert_close(torch.cat([model.sample(part, 2, generator) for part in h.split(2)], 1), whole)

    def test_without_a_fidelity_there_is_nothing_to_report(self):
        model = pulled()
        model.sample(torch.rand(2, 4), 1, seeded(0))
        assert model.report() == {}


class TestRenoisedTarget:
    def test_it_is_what_the_prior_sees_of_the_query(self):
        """At the start that is nothing: every target is the prior's mean, whatever the query."""
        model = pulled(target="renoised")
        x = torch.rand(3, 1, 2, 2, generator=seeded("x"))
        h = Pixels()(x)
        model.remember(x, h).sample(h, 1, seeded(0))
        torch.testing.assert_close(model.guidance.aims[0], torch.full((3, 4), 0.5), atol=0.05, rtol=0)

    def test_without_noise_it_is_the_query_itself(self):
        """For a flat prior the clean estimate at the last, nearly noiseless step is the query."""
        wide = GaussianMixture(Identity((1, 2, 2)), [[0.0] * 4], [[30.0] * 4])
        model = Guided(wide, Pixels(), Pull(), steps=200, target="renoised")
        x = torch.rand(3, 1, 2, 2, generator=seeded("x"))
        h = Pixels()(x)
        model.remember(x, h).sample(h, 1, seeded(0))
        torch.testing.assert_close(model.guidance.aims[-1], h, atol=1e-2, rtol=0)

    @pytest.mark.parametrize("sampler", ["ddim", "ancestral"])
    def test_calls_are_counted(self, sampler):
        model = pulled(target="renoised", sampler=sampler)
        calls, denoiser = [], model.prior.denoiser()
        model.prior.denoiser = lambda h=None: lambda z, t: calls.append(1) or denoiser(z, t)
        h = torch.rand(2, 4)
        model.remember(h.view(2, 1, 2, 2), h).sample(h, 1, seeded(0))
        assert len(calls) == model.network_calls == 20

    def test_it_needs_the_query(self):
        with pytest.raises(ValueError, match="nothing remembered yet"):
            pulled(target="renoised").sample(torch.rand(2, 4), 1)


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
        model = Guided(diffusion(), subject(), DPS(), steps=2)
        with pytest.raises(
            ValueError, match=r"expected representations of shape \(2, 6\) to be bound to, got \(2, 5\)"
        ):
            model.sample(self.H[:, 1:], 1)

    def test_a_schedule_that_reaches_zero_signal(self):
        with pytest.raises(ValueError, match=r"zero signal"):
            Guided(diffusion(schedule="cosine"), subject(), MomentMatching())
        Guided(diffusion(schedule="cosine"), subject(), MomentMatching(until=0.9))  # where there is signal

    @pytest.mark.parametrize("guidance", [NDTM(), DPS()], ids=["ndtm", "dps"])
    def test_a_subject_without_gradients(self, guidance):
        with pytest.raises(ValueError, match="expected a differentiable subject"):
            Guided(diffusion(), Detached(), guidance, steps=2).sample(self.H, 1)

    @pytest.mark.parametrize("guidance", [NDTM(), DPS()], ids=["ndtm", "dps"])
    def test_a_cost_that_is_nan(self, guidance):
        with pytest.raises(ValueError, match="the cost of row 0 is nan: expected finite costs"):
            Guided(diffusion(), subject(), guidance, Nan(), steps=2).sample(self.H, 1)

    @pytest.mark.parametrize(
        "option",
        [
            {"strength": -1.0},
            {"strength": float("nan")},
            {"target_rms": 0.0},
            {"search_rounds": 0},
            {"target": "moving"},
            {"steps": 0},
            {"sampler": "dopri"},
            {"eta": 2.0},
        ],
    )
    def test_options(self, option):
        with pytest.raises(ValueError, match="Guided: "):
            Guided(diffusion(), subject(), DPS(), **option)


def test_flow_matching_is_guided_like_diffusion():
    """Both are priors: the same guidance brings either nearer to the fiber."""
    phi, x = subject(), images(6)
    for prior in (diffusion(), flow_matching(), Diffusion(vae(), 0, width=16, blocks=1, time_dim=8)):
        h = phi(x)
        plain, guided = Unguided(prior, 10), Guided(prior, phi, DPS(), FiberDistance("squared"), steps=10, strength=3.0)
        errors = [(phi(m.sample(h, 1, seeded(0))[0]) - h).square().mean() for m in (plain, guided)]
        assert errors[1] < 0.9 * errors[0]
