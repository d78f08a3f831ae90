"""The energy score: it is proper, its gradient is unbiased, and a generator learns a known law by it."""

import math
from types import SimpleNamespace

import pytest
import torch
from cases import FEATURES, energy_maps, images, subject
from cases import energy_score as generator

from fibermodels.latents import Identity
from fibermodels.models import EnergyScore, FiberLoss
from fibermodels.nn import Upsampler
from fibermodels.noise import seeded
from fibermodels.proper_scores import energy_score, patch_score, patches
from fibermodels.subjects import LowFrequencies, SpatialMean
from fibermodels.training import Training


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=seeded("energy", seed)).double()


class TestScore:
    def test_in_one_dimension_it_is_the_continuous_ranked_probability_score(self):
        """For N(0, 1) at `y` that is `y (2 Phi(y) - 1) + 2 phi(y) - 1 / sqrt(pi)` (Gneiting & Raftery, section 4.2)."""
        y = torch.tensor([-1.0, 0.3, 2.0]).double()
        found = energy_score(y[:, None, None], normal(3000, 1, 1, 1).expand(-1, 3, 1, 1)[:300])
        density = torch.exp(-y.square() / 2) / math.sqrt(2 * math.pi)
        expected = y * (2 * torch.special.ndtr(y) - 1) + 2 * density - 1 / math.sqrt(math.pi)
        torch.testing.assert_close(found, expected, atol=0.06, rtol=0)

    @pytest.mark.parametrize("statistic", ["patches", "features"])
    def test_its_expectation_is_least_at_the_truth(self, statistic):
        """Over Gaussian images with mean m and deviation s, the score of draws from the truth is the lowest."""
        matrix = normal(5, 48, seed=9)

        def seen(x):
            return patches(x, 4) if statistic == "patches" else (x.flatten(-3) @ matrix.T).tanh()[..., None, :]

        x, noise = normal(20_000, 3, 4, 4, seed=1), normal(2, 20_000, 3, 4, 4, seed=2)
        scores = {
            (m, s): energy_score(seen(x), seen(m + s * noise)).mean().item()
            for m, s in ((0.0, 1.0), (0.3, 1.0), (-0.3, 1.0), (0.0, 0.7), (0.0, 1.4), (0.0, 0.0))
        }
        assert min(scores, key=scores.get) == (0.0, 1.0)

    def test_by_hand(self):
        x, draws = torch.zeros(1, 1, 2), torch.tensor([[[[3.0, 4.0]]], [[[0.0, 4.0]]]])
        assert energy_score(x, draws).item() == pytest.approx((5 + 4 - 3) / 2 / 2**0.5)

    @pytest.mark.parametrize("wrong", [lambda e: e + 0.3, lambda e: 1.4 * e, lambda e: 0.6 * e, torch.zeros_like])
    def test_the_law_of_the_values_has_the_lowest(self, wrong):
        """For a Gaussian, against shifts, scales and the point in its middle, by more than four standard errors."""
        x, *draws = normal(3, 20_000, 1, 4, seed=7)
        exact, other = energy_score(x, torch.stack(draws)), energy_score(x, wrong(torch.stack(draws)))
        difference = other - exact
        assert difference.mean() > 4 * difference.std() / len(x) ** 0.5

    def test_two_draws_are_unbiased(self):
        x, draws = normal(1, 1, 6, seed=3), normal(4000, 1, 1, 6, seed=4)
        many = energy_score(x, draws[:200])
        pairs = torch.stack([energy_score(x, pair) for pair in draws.split(2)])
        assert (pairs.mean() - many).abs() < 4 * pairs.std() / math.sqrt(len(pairs)) + 0.02

    def test_equal_draws_have_a_finite_gradient(self):
        draws = torch.zeros(2, 3, 1, 4, requires_grad=True)
        energy_score(torch.zeros(3, 1, 4), draws).sum().backward()
        assert draws.grad.isfinite().all()

    def test_one_draw_is_too_few(self):
        with pytest.raises(ValueError, match="at least 2 draws, got 1"):
            energy_score(torch.zeros(1, 1, 4), torch.zeros(1, 1, 1, 4))


@pytest.mark.parametrize("size", [1, 3, 4, 7])
def test_patches_are_those_of_unfold(size):
    x = normal(2, 3, 8, 7)
    expected = torch.nn.functional.unfold(x, size, stride=size).mT
    torch.testing.assert_close(patches(x, size), expected)
    torch.testing.assert_close(patches(x[None], size)[0], expected)


def test_the_score_of_patches_is_the_mean_over_their_sizes():
    x, draws = normal(3, 2, 8, 8, seed=5), normal(2, 3, 2, 8, 8, seed=6)
    whole = energy_score(x.flatten(1)[:, None], draws.flatten(2)[:, :, None])
    expected = (energy_score(patches(x, 4), patches(draws, 4)) + whole) / 2
    torch.testing.assert_close(patch_score(x, draws, (4, 32)), expected)
    torch.testing.assert_close(patch_score(x, draws, (8,)), whole)


class TestGenerator:
    def test_it_learns_a_gaussian(self):
        """A single pixel whose law is N(mean(h), .2): mean and deviation are found, not the mean alone."""
        torch.manual_seed(0)
        model = EnergyScore(Identity((1, 1, 1)), [1], generator().network.__class__(32, 2, time_dim=8))
        optimizer = torch.optim.Adam(model.parameters(), 3e-3)
        for _ in range(400):
            h = torch.rand(256, 1) - 0.5
            z = h + 0.2 * torch.randn(256, 1)
            loss = sum(term.mean() for term in model.latent_loss(z, h).values())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        for level in (-0.4, 0.0, 0.4):
            z = model.transport(torch.randn(4000, 1), torch.full((4000, 1), level))
            assert abs(z.mean().item() - level) < 0.04
            assert 0.15 < z.std().item() < 0.25

    def test_features_are_scored_and_not_published(self):
        phi, x = subject(), images(6)
        model = generator(features=[phi])
        h = phi(x)
        terms = model.latent_loss(model.latents.encode(x, h), h)
        assert set(terms) == {"patches", "features"}
        assert all(term.shape == (6,) and term.isfinite().all() for term in terms.values())
        terms["features"].sum().backward()
        assert all(p.grad is None for p in phi.parameters())
        product = model.product(())
        assert not [name for name in product.state_dict() if name.startswith("features.")]
        noise = torch.randn(6, *model.noise_shape)
        torch.testing.assert_close(product.push(noise, h), model.push(noise, h))

    def test_marginals_are_scored_number_by_number_in_deviations(self):
        x, draws = images(5), torch.stack([images(5, seed=seed) for seed in (1, 2)])
        see = LowFrequencies(list(x.shape[1:]), 4, 1)
        model = generator(marginals=[see, SpatialMean(list(x.shape[1:]))], marginal_weight=3.0)
        expected = torch.zeros(5)
        for own, a, b in ([see(each) for each in (x, *draws)], [each.mean((2, 3)) for each in (x, *draws)]):
            crps = ((own - a).abs() + (own - b).abs() - (a - b).abs()) / 2
            expected += 3 * (crps / own.std(0, correction=0)).mean(1)
        torch.testing.assert_close(model._seen_scores(x, draws)["marginals"], expected, atol=1e-4, rtol=1e-4)
        assert not [name for name in model.product(()).state_dict() if name.startswith("marginals.")]

    def test_a_batch_of_one_has_finite_marginals(self):
        x = images(1)
        model = generator(marginals=[LowFrequencies(list(x.shape[1:]), 4, 1)])
        h = subject()(x)
        assert model.latent_loss(model.latents.encode(x, h), h)["marginals"].isfinite().all()

    def test_a_training_step_pushes_its_draws_once(self, monkeypatch):
        """The fiber loss takes the images of the score, which costs a push less and has half of the variance."""
        model, pushed = generator(), []
        step = Training(model, subject(), FiberLoss(2.0))
        own = model.transport
        monkeypatch.setattr(Training, "trainer", SimpleNamespace(world_size=1))
        monkeypatch.setattr(model, "transport", lambda noise, h: pushed.append(len(noise)) or own(noise, h))
        torch.manual_seed(4)
        terms = step._terms({"x": images(6)}, 0).values
        assert pushed == [12]
        torch.manual_seed(4)
        h = step.subject(images(6))
        drawn = model.drawn_loss(model.draw_latents(images(6), h), h)[1]
        misses = (step.subject(drawn.flatten(0, 1)) - h.repeat(2, 1)).square().mean(1).sqrt()
        torch.testing.assert_close(terms["fiber"], 2 * misses.mean())

    def test_maps_of_pixels(self):
        model = energy_maps()
        x, h = images(4), subject()(images(4))
        sum(term.mean() for term in model.latent_loss(model.latents.encode(x, h), h).values()).backward()
        assert model.network.draw[-1].weight.grad.abs().sum() > 0
        with pytest.raises(ValueError, match="multiples of 4"):
            EnergyScore(Identity((3, 30, 28)), [FEATURES], Upsampler(16, 1, 8))

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"draws": 1}, "draws"),
            ({"patch_sizes": [0]}, "patch_sizes"),
            ({"feature_weight": -1.0}, "feature_weight"),
            ({"marginal_weight": -1.0}, "marginal_weight"),
        ],
    )
    def test_bad_options(self, options, message):
        with pytest.raises(ValueError, match=f"EnergyScore: {message}"):
            generator(**options)

    def test_a_feature_network_for_other_images(self):
        from fibermodels.suites import BlobMoments

        with pytest.raises(ValueError, match=r"networks for images \(3, 28, 28\), got \(3, 32, 32\)"):
            generator(features=[BlobMoments()])
