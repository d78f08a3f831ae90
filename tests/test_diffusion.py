"""Noise schedules, samplers and the diffusion model, against laws known in closed form."""

import math
import re
from itertools import pairwise

import pytest
import torch
from cases import FEATURES, LATENT, diffusion, flow_matching, images, mlp, subject

from fibermodels.diffusion import (
    DDIM,
    SCHEDULES,
    Ancestral,
    Euler,
    GaussianMixture,
    Heun,
    Midpoint,
    Tabulated,
    unguided,
)
from fibermodels.diffusion.schedule import shifted, straight_time
from fibermodels.latents import Identity
from fibermodels.models import Diffusion, FiberLoss
from fibermodels.noise import seeded

MEAN, STD = 1.5, 0.3


FOREIGN = {  # of pretrained networks: DDPM's table, and flow matching with a shift
    "tabulated": Tabulated((1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.double)).cumprod(0)),
    "shifted": shifted(3.0),
}


@pytest.fixture(params=[*SCHEDULES, *FOREIGN])
def schedule(request):
    return (SCHEDULES | FOREIGN)[request.param]


def double(*values):
    return torch.tensor(values, dtype=torch.double)


def gaussian(schedule, mean=MEAN, std=STD):
    """E[z_0 | z_t] and E[e | z_t] for z_0 ~ N(mean, std^2)."""

    def denoise(z, t):
        alpha, sigma = schedule.alpha(t)[:, None], schedule.sigma(t)[:, None]
        whitened = (z - alpha * mean) / (alpha**2 * std**2 + sigma**2)
        return mean + alpha * std**2 * whitened, sigma * whitened

    return denoise


def exact_map(schedule, z, mean=MEAN, std=STD):
    """The probability-flow equation keeps quantiles: from N(alpha m, alpha^2 s^2 + sigma^2) at time 1."""
    alpha, sigma = schedule.alpha(double(1)), schedule.sigma(double(1))
    return mean + std * (z - alpha * mean) / (alpha**2 * std**2 + sigma**2).sqrt()


class TestSchedule:
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_it_preserves_variance_and_runs_from_data_to_noise(self, schedule, dtype):
        t = torch.linspace(0, 1, 1001, dtype=dtype)
        alpha, sigma = schedule.alpha(t), schedule.sigma(t)
        torch.testing.assert_close(alpha**2 + sigma**2, torch.ones_like(t))
        assert (alpha.diff() <= 0).all()  # beside its end each is flat to rounding; the angle is strict
        assert (sigma.diff() >= 0).all()
        assert (schedule.angle(t).diff() > 0).all()
        assert alpha[0] == 1
        assert sigma[0] == 0
        assert 0 <= alpha[-1] < 0.01

    def test_the_cosine_is_one(self):
        t = torch.linspace(0, 1, 11, dtype=torch.double)
        torch.testing.assert_close(SCHEDULES["cosine"].alpha(t), torch.cos(math.pi / 2 * t))

    def test_the_linear_one_is_the_limit_of_the_published_thousand_steps(self):
        """Ho et al.: beta from 1e-4 to 0.02 in 1000 steps; the product of 1 - beta."""
        betas = torch.linspace(1e-4, 0.02, 1000, dtype=torch.double)
        published = (1 - betas).cumprod(0).sqrt()
        t = torch.arange(1, 1001, dtype=torch.double) / 1000
        torch.testing.assert_close(SCHEDULES["linear"].alpha(t), published, atol=2e-3, rtol=0)

    @pytest.mark.parametrize(("dtype", "atol"), [(torch.float32, 2e-4), (torch.float64, 1e-9)])
    def test_time_is_the_inverse_of_the_angle(self, schedule, dtype, atol):
        t = torch.linspace(0, 1, 101, dtype=dtype)
        torch.testing.assert_close(schedule.time(schedule.angle(t)), t, atol=atol, rtol=0)

    def test_a_grid_runs_from_one_to_zero(self, schedule):
        for steps in (1, 2, 16):
            times = schedule.times(steps, torch.zeros(1))
            assert len(times) == steps + 1
            assert times[0].item() == pytest.approx(1, abs=2e-4)
            assert times[-1] == 0
            assert (times.diff() < 0).all()


MEANS, STDS, SHARES = double(-1.0, 1.5), double(0.5, 0.4), double(0.4, 0.6)


def mixture(schedule):
    """The denoiser of two Gaussians, in one dimension."""
    prior = GaussianMixture(Identity((1, 1, 1)), MEANS[:, None].tolist(), STDS[:, None].tolist(), SHARES.tolist())
    prior.schedule = schedule
    return unguided(prior.double().denoiser())


def mixture_map(schedule, z):
    """Where noise goes: the probability-flow equation keeps quantiles, and in one dimension that is all."""
    alpha, sigma = schedule.alpha(double(1)), schedule.sigma(double(1))
    level = (SHARES * torch.special.ndtr((z - alpha * MEANS) / (alpha**2 * STDS**2 + sigma**2).sqrt())).sum(1)
    low, high = torch.full_like(level, -9), torch.full_like(level, 9)
    for _ in range(80):
        middle = (low + high) / 2
        below = (SHARES * torch.special.ndtr((middle[:, None] - MEANS) / STDS)).sum(1) < level
        low, high = torch.where(below, middle, low), torch.where(below, high, middle)
    return low[:, None]


ORDERS = {DDIM: 1, Euler: 1, Heun: 2, Midpoint: 2}
EVERY = [DDIM(3), DDIM(3, eta=0.5), Ancestral(3), Heun(3), Euler(3), Midpoint(3)]


def called(sampler):
    return f"{type(sampler).__name__}-{sampler.arguments}"


every = pytest.mark.parametrize("sampler", EVERY, ids=called)


class TestSamplers:
    @pytest.mark.parametrize("kind", ORDERS, ids=lambda kind: kind.__name__)
    def test_deterministic_ones_converge_to_the_exact_map_at_their_order(self, schedule, kind):
        noise = torch.linspace(-2, 2, 9, dtype=torch.double)[:, None]
        look, exact = mixture(schedule), mixture_map(schedule, noise)
        errors = [(kind(n)(look, schedule, noise) - exact).abs().max().item() for n in (256, 512, 1024)]
        assert errors[-1] < 6e-3
        for coarse, fine in pairwise(errors):
            assert math.log2(coarse / fine) == pytest.approx(ORDERS[kind], abs=0.15)

    @pytest.mark.parametrize(
        "sampler", [DDIM(128), DDIM(128, 0.5), Ancestral(128), Heun(128), Midpoint(128)], ids=called
    )
    def test_every_one_reaches_the_moments(self, schedule, sampler):
        noise = torch.randn(10_000, *sampler.noise_shape((1,)), generator=seeded("moments")).double()
        z = sampler(unguided(gaussian(schedule)), schedule, noise)
        assert z.mean().item() == pytest.approx(MEAN, abs=0.015)  # the linear schedule's last alpha is 0.0066
        assert z.std().item() == pytest.approx(STD, rel=0.04)

    @pytest.mark.parametrize("eta", [0.3, 1.0])
    def test_the_variance_is_right_in_the_limit_of_steps(self, schedule, eta):
        """The update is linear in its noises: the variance is the sum of the squared sensitivities."""

        def deviation(steps):
            noise = torch.zeros(1, steps, 1, dtype=torch.double, requires_grad=True)
            z = DDIM(steps, eta)(unguided(gaussian(schedule)), schedule, noise)
            (sensitivity,) = torch.autograd.grad(z.sum(), noise)
            return abs(sensitivity.square().sum().sqrt().item() - STD)

        errors = [deviation(n) for n in (128, 256, 512)]
        assert errors[-1] < 0.01 * STD
        for coarse, fine in pairwise(errors):
            assert coarse / fine == pytest.approx(2, abs=0.3)

    def test_many_steps_are_finite_in_single_precision(self, schedule):
        """Near the data neighbouring alphas are equal after rounding, or in the wrong order."""
        noise = torch.randn(50, 500, 1, generator=seeded("single"))
        assert torch.isfinite(Ancestral(500)(unguided(gaussian(schedule)), schedule, noise)).all()

    def test_ancestral_sampling_is_the_posterior_of_ddpm(self, schedule):
        """Ho et al., eq. 7, in its own terms: beta and the products of 1 - beta between two times."""
        z, steps = torch.randn(7, 1, generator=seeded("posterior")).double(), 2
        fresh = torch.randn(7, 1, generator=seeded("posterior", 2)).double()
        times = schedule.times(steps, z)
        bar_t, bar_s = (schedule.alpha(times[i]) ** 2 for i in (0, 1))
        data = gaussian(schedule)(z, times[0].expand(7))[0]
        beta = 1 - bar_t / bar_s
        mean = bar_s.sqrt() * beta / (1 - bar_t) * data + (1 - beta).sqrt() * (1 - bar_s) / (1 - bar_t) * z
        z_s = mean + ((1 - bar_s) / (1 - bar_t) * beta).sqrt() * fresh
        expected = gaussian(schedule)(z_s, times[1].expand(7))[0]
        found = Ancestral(steps)(unguided(gaussian(schedule)), schedule, torch.stack((z, fresh), 1))
        torch.testing.assert_close(found, expected)

    def test_ddim_with_full_noise_is_ancestral(self, schedule):
        noise, look = torch.randn(5, 4, 2, generator=seeded("eta")).double(), unguided(gaussian(schedule))
        torch.testing.assert_close(DDIM(4, eta=1.0)(look, schedule, noise), Ancestral(4)(look, schedule, noise))

    def test_on_the_same_grid_eulers_step_is_ddims(self, schedule):
        noise, look, ddim = torch.randn(5, 2, generator=seeded("euler")).double(), mixture(schedule), DDIM(6)
        noise, ddim.times = noise[:, :1], Euler(6).times
        torch.testing.assert_close(ddim(look, schedule, noise), Euler(6)(look, schedule, noise))

    @pytest.mark.parametrize("std", [1.0, 0.3, 0.1, 0.05])
    def test_the_few_steps_of_the_default_are_enough(self, schedule, std):
        noise = torch.linspace(-2.5, 2.5, 11, dtype=torch.double)[:, None]
        z = Heun(8)(unguided(gaussian(schedule, 1.0, std)), schedule, noise)
        assert (z - exact_map(schedule, noise, 1.0, std)).abs().max() < 0.03

    @every
    @pytest.mark.parametrize("steps", [1, 5])
    def test_it_asks_as_often_and_when_it_says(self, schedule, sampler, steps):
        sampler = type(sampler)(**sampler.arguments | {"steps": steps})
        asked = []

        def look(z, t, s):
            asked.append((t[0].item(), s[0].item()))
            return z, z

        sampler(look, schedule, torch.zeros(2, *sampler.noise_shape((1,))))
        assert len(asked) == sampler.calls
        assert [t for t, _ in asked] == pytest.approx(sampler.visited(schedule), abs=1e-6)
        assert all(s <= t for t, s in asked)
        assert asked[0][0] == 1
        assert min(s for _, s in asked) == 0

    @every
    def test_a_look_that_moves_the_state_moves_the_step(self, schedule, sampler):
        """As if the noise had been moved before."""
        noise = torch.randn(5, *sampler.noise_shape((1,)), generator=seeded("moved")).double()
        shift = torch.zeros_like(noise)
        shift[(slice(None), 0) if sampler.stochastic else ...] = 0.3
        known, first = gaussian(schedule), []

        def look(z, t, s):
            first.append(t)
            return known(z + 0.3 * (len(first) == 1), t)

        found = sampler(look, schedule, noise)
        torch.testing.assert_close(found, sampler(unguided(known), schedule, noise + shift))

    @every
    def test_a_trajectory_ends_where_the_sampler_does(self, schedule, sampler):
        noise = torch.randn(5, *sampler.noise_shape((1,)), generator=seeded("trajectory")).double()
        look = unguided(gaussian(schedule))
        states = list(sampler.trajectory(look, schedule, noise))
        assert len(states) == sampler.steps
        torch.testing.assert_close(states[-1][0], sampler(look, schedule, noise))

    def test_an_even_grid_is_even_in_time_and_other_grids_are_not(self):
        even = torch.linspace(1, 0, 11)[:-1].tolist()
        assert Ancestral(10, "even").visited(SCHEDULES["linear"]) == pytest.approx(even)
        assert Ancestral(10).visited(SCHEDULES["linear"]) != pytest.approx(even, abs=0.05)
        with pytest.raises(ValueError, match=re.escape("DDIM: spacing must be one of ['angle', 'even'], got 'odd'")):
            DDIM(10, spacing="odd")

    def test_a_power_above_1_makes_the_last_steps_shorter(self):
        visited = Midpoint(2, power=2.0).visited(SCHEDULES["straight"])
        starts, middles = visited[::2], visited[1::2]
        times = [straight_time(SCHEDULES["straight"].angle(torch.tensor(t))).item() for t in (*starts, *middles)]
        assert times == pytest.approx([1.0, 0.25, 0.625, 0.125], abs=1e-5)
        with pytest.raises(ValueError, match="Midpoint: power: expected a number above 0"):
            Midpoint(2, power=0.0)

    @pytest.mark.parametrize("kind", [DDIM, Ancestral, Heun, Euler, Midpoint], ids=lambda kind: kind.__name__)
    def test_no_steps(self, kind):
        with pytest.raises(ValueError, match=f"{kind.__name__}: steps must be at least 1, got 0"):
            kind(0)

    @pytest.mark.parametrize("eta", [1.5, -0.1, float("nan")])
    def test_bad_eta(self, eta):
        with pytest.raises(ValueError, match=r"DDIM: eta must be in \[0, 1\]"):
            DDIM(5, eta)


def exactly(model, change=lambda z, t: 0):
    """The model with the closed form instead of its network; `change` is added to the prediction."""
    known = gaussian(model.schedule)

    def predict(z, t, condition):
        data, noise = known(z, t)
        alpha, sigma = model.schedule.alpha(t)[:, None], model.schedule.sigma(t)[:, None]
        return model.prediction.target(data, noise, alpha, sigma) + change(z, t[:, None])

    model.predict = predict
    return model


class TestDiffusion:
    @every
    def test_noise_has_the_shape_that_the_sampler_wants(self, sampler):
        model = diffusion(sampler=sampler)
        assert model.noise_shape == ((3, LATENT) if sampler.stochastic else (LATENT,))
        assert model.network_calls == {Heun: 5, Midpoint: 6}.get(type(sampler), 3)

    @every
    def test_same_seed_same_samples_whatever_the_batch(self, sampler):
        model, h = diffusion(sampler=sampler).eval(), torch.randn(6, FEATURES, generator=seeded("batch"))
        whole, generator = model.sample(h, 2, seeded(1)), seeded(1)
        parts = [model.sample(part, 2, generator) for part in h.split([1, 3, 2])]
        torch.testing.assert_close(torch.cat(parts, 1), whole, atol=1e-5, rtol=0)

    @every
    def test_every_noise_matters(self, sampler):
        model, h = diffusion(sampler=sampler), torch.randn(4, FEATURES, generator=seeded("matters"))
        noise = torch.randn(4, *model.noise_shape, generator=seeded("matters", 2)).requires_grad_()
        (gradient,) = torch.autograd.grad(model.push(noise, h).sum(), noise)
        assert (gradient.reshape(4, -1, LATENT) != 0).any(-1).all()

    @every
    def test_last_steps_change_gradients_and_not_values(self, sampler):
        model = diffusion(sampler=sampler)
        h = torch.randn(4, FEATURES, generator=seeded("last"))
        noise = torch.randn(4, *model.noise_shape, generator=seeded("last", 2)).requires_grad_()
        whole = model.transport(noise, h)
        torch.testing.assert_close(model.transport(noise, h, 3), whole)
        torch.testing.assert_close(model.transport(noise, h, 7), whole)
        z = model.transport(noise, h, 1)
        torch.testing.assert_close(z, whole)
        assert z.requires_grad
        (gradient,) = torch.autograd.grad(z.sum(), noise, allow_unused=True)
        assert gradient is None or not gradient.any()
        late = model.transport(noise, h, 2)
        (gradient,) = torch.autograd.grad(late.sum(), noise, allow_unused=True)
        if noise.ndim == 3:  # of the noises, the one that the middle step adds
            assert not gradient[:, :2].any()
            assert gradient[:, 2].any()
        else:
            assert gradient is None

    def test_noised_and_estimate_undo_each_other_for_the_right_prediction(self, schedule):
        model = diffusion().double()
        model.schedule = schedule
        z_t = torch.randn(50, LATENT, generator=seeded("undo")).double()
        h = torch.randn(50, FEATURES, generator=seeded("undo", 2)).double()
        t = torch.linspace(0, 1, 50, dtype=torch.double)
        data, noise = model.denoiser(h)(z_t, t)
        torch.testing.assert_close(model.noised(data, noise, t), z_t)
        torch.testing.assert_close(model.estimate(z_t, t, h), data)
        alpha, sigma = schedule.alpha(t)[:-1, None], schedule.sigma(t)[:-1, None]
        torch.testing.assert_close(data[:-1], (z_t[:-1] - sigma * noise[:-1]) / alpha)

    def test_the_estimate_survives_pure_noise_and_low_precision(self, schedule):
        model = diffusion()
        model.schedule = schedule
        z_t = torch.randn(200, LATENT, generator=seeded("pure"))
        h = torch.randn(200, FEATURES, generator=seeded("pure", 2))
        for t in (0.9, 0.99, 0.999, 1.0):
            times = torch.full((200,), t)
            exact = model.double().estimate(z_t.double(), times.double(), h.double())
            assert exact.abs().max() < 10
            model.float()
            torch.testing.assert_close(model.estimate(z_t, times, h), exact.float(), atol=1e-3, rtol=0)
            with torch.autocast("cpu", torch.bfloat16):
                low = model.estimate(z_t, times, h)
            torch.testing.assert_close(low, exact.float(), atol=0.05, rtol=0)

    def test_untrained_it_predicts_what_is_right_for_standard_normal_data(self, schedule):
        torch.manual_seed(0)
        model = Diffusion(diffusion().latents, [FEATURES], mlp()).double()
        model.schedule = schedule
        z, t = torch.randn(9, LATENT).double(), torch.linspace(0, 1, 9).double()
        for found, expected in zip(
            model.denoiser(torch.zeros(9, FEATURES).double())(z, t), gaussian(schedule, 0.0, 1.0)(z, t), strict=True
        ):
            torch.testing.assert_close(found, expected)

    @pytest.mark.parametrize("name", SCHEDULES)
    def test_the_loss_is_least_at_the_closed_form(self, name):
        """No perturbation of the exact prediction has a smaller expected loss, on common noise."""
        model = diffusion(schedule=name)
        z0 = MEAN + STD * torch.randn(20_000, LATENT, generator=seeded("least"))
        h = torch.zeros(len(z0), FEATURES)

        def loss(change):
            torch.manual_seed(15)
            return exactly(model, change).latent_loss(z0, h)["noise"].mean().item()

        exact = loss(lambda z, t: 0)
        for change in (lambda z, t: 0.1, lambda z, t: -0.1, lambda z, t: 0.1 * z, lambda z, t: 0.2 * (t - 0.5)):
            assert loss(change) > exact

    def test_spread_times_are_uniform_and_lower_the_variance(self):
        model, z, h = diffusion(), torch.zeros(64, LATENT), torch.zeros(64, FEATURES)
        seen = []
        model.predict = lambda z_t, t, condition: seen.append(t) or z_t
        torch.manual_seed(0)
        for _ in range(2000):
            model.latent_loss(z, h)
        times = torch.stack(seen)
        assert times.min() >= 0
        assert times.max() < 1
        torch.testing.assert_close(times.sort(1)[0].diff(dim=1), torch.full((2000, 63), 1 / 64))
        for row in (0, 31, 63):  # each row by itself is uniform, so the loss stays unbiased
            counts = torch.histc(times[:, row], 10, 0, 1)
            assert ((counts - 200).square() / 200).sum() < 27.9  # chi squared, 9 degrees: p = 0.001

    @pytest.mark.slow
    def test_training_learns_a_conditional_gaussian(self):
        """z | h ~ N(A h, diag(s^2)): after a short training, the samples' moments are those, by any sampler."""
        torch.manual_seed(16)
        model = diffusion(width=64, blocks=2)
        matrix = torch.randn(FEATURES, LATENT, generator=seeded(17)) / FEATURES**0.5
        std = torch.linspace(0.2, 1.0, LATENT)
        optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=3e-3)
        rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=800)
        for _ in range(800):
            h = torch.randn(256, FEATURES)
            z = h @ matrix + std * torch.randn(256, LATENT)
            optimizer.zero_grad()
            model.latent_loss(z, h)["noise"].mean().backward()
            optimizer.step()
            rate.step()
        h = torch.randn(1, FEATURES, generator=seeded(18)).expand(2000, -1)
        for sampler in (DDIM(32), Ancestral(64), Heun(8), Euler(32), Midpoint(8)):
            drawn = diffusion(width=64, blocks=2, sampler=sampler)
            drawn.load_state_dict(model.state_dict())
            with torch.no_grad():
                z = drawn.transport(torch.randn(2000, *drawn.noise_shape), h)
            torch.testing.assert_close(z.mean(0), (h @ matrix)[0], atol=0.15, rtol=0)
            torch.testing.assert_close(z.std(0), std, atol=0.12, rtol=0)

    @every
    @pytest.mark.parametrize("route", [{}, {"last_steps": 1}, {"estimate_below": 0.5}], ids=str)
    def test_the_fiber_loss_trains_it_by_every_route(self, sampler, route):
        model, phi, x = diffusion(sampler=sampler), subject(), images(4)
        h = phi(x)
        FiberLoss(1.0, **route)(model, phi, h, model.draw_latents(x, h)).mean().backward()
        assert all(p.grad is not None and p.grad.any() for n, p in model.named_parameters() if "latents" not in n)

    @pytest.mark.parametrize("option", [{"schedule": "sigmoid"}, {"objective": "data"}])
    def test_bad_options(self, option):
        with pytest.raises(ValueError, match="Diffusion: .* must be one of"):
            diffusion(**option)


class TestPriors:
    """What guidance steers: any denoiser with its schedule and its decoder."""

    MEANS, STDS, WEIGHTS = [[-1.0, 0.5], [1.0, 0.0]], [[0.3, 1.0], [0.5, 0.2]], [1.0, 3.0]

    def mixture(self, name="linear"):
        return GaussianMixture(Identity((1, 1, 2)), self.MEANS, self.STDS, self.WEIGHTS, name).double()

    def log_density(self, prior, z, alpha, sigma):
        means, stds = torch.tensor(self.MEANS).double(), torch.tensor(self.STDS).double()
        scale = (alpha**2 * stds**2 + sigma**2).sqrt()
        parts = torch.distributions.Normal(alpha * means, scale).log_prob(z[:, None]).sum(2)
        return torch.logsumexp(parts + torch.tensor([0.25, 0.75]).double().log(), 1)

    @pytest.mark.parametrize("name", SCHEDULES)
    def test_the_mixtures_denoiser_is_tweedies(self, name):
        """`-sigma` times the score is the expected noise, and `alpha data + sigma noise = z`."""
        prior = self.mixture(name)
        z = torch.randn(20, 2, generator=seeded("tweedie")).double().requires_grad_()
        for time in (0.05, 0.4, 0.9):
            t = torch.full((20,), time).double()
            alpha, sigma = prior.schedule.alpha(t[0]), prior.schedule.sigma(t[0])
            (score,) = torch.autograd.grad(self.log_density(prior, z, alpha, sigma).sum(), z)
            data, noise = prior.denoiser()(z, t)
            torch.testing.assert_close(noise, -sigma * score)
            torch.testing.assert_close(alpha * data + sigma * noise, z)

    def test_a_sampler_reaches_the_mixture(self):
        prior = self.mixture("straight")
        noise = torch.randn(20_000, 2, generator=seeded("mixture")).double()
        z = Heun(64)(unguided(prior.denoiser()), prior.schedule, noise)
        torch.testing.assert_close(z.mean(0), torch.tensor([0.5, 0.125]).double(), atol=0.03, rtol=0)
        assert (z[:, 0] > 0).double().mean().item() == pytest.approx(0.733, abs=0.01)

    @pytest.mark.parametrize("build", [diffusion, flow_matching], ids=lambda build: build.__name__)
    def test_data_and_noise_make_the_state(self, build):
        model, h = build(), torch.randn(7, FEATURES, generator=seeded("h"))
        z, t = torch.randn(7, LATENT, generator=seeded("noise")), torch.rand(7, generator=seeded("t"))
        data, noise = model.denoiser(h)(z, t)
        alpha, sigma = model.schedule.alpha(t)[:, None], model.schedule.sigma(t)[:, None]
        torch.testing.assert_close(alpha * data + sigma * noise, z)

    @pytest.mark.parametrize("build", [diffusion, flow_matching], ids=lambda build: build.__name__)
    def test_a_conditional_one_is_bound_to_a_representation_and_an_unconditional_one_ignores_it(self, build):
        z, t, h = torch.randn(3, LATENT, generator=seeded("z")), torch.full((3,), 0.5), torch.ones(3, FEATURES)
        for wrong, message in (
            (None, r"h: expected representations of shape \(B, 6\), got None"),
            (h[:, 1:], r"a vector, \[5\].*built for a vector, \[6\]"),
            (h[1:], "one representation for each of 3 states, got 2"),
        ):
            with pytest.raises(ValueError, match=message):
                build().denoiser(wrong)(z, t)
        free = build(feature_shape=[])
        torch.testing.assert_close(free.denoiser()(z, t), free.denoiser(h)(z, t))
        torch.testing.assert_close(free.push(z, h), free.push(z, -h))

    def test_bad_mixtures(self):
        for option in ({"means": [[0.0]]}, {"stds": [[0.0, 1.0], [1.0, 1.0]]}, {"weights": [1.0]}):
            with pytest.raises(ValueError, match="GaussianMixture: expected"):
                GaussianMixture(Identity((1, 1, 2)), **{"means": self.MEANS, "stds": self.STDS} | option)
