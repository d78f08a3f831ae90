"""Descent of noise, phases and pixels, against linear models whose answer is a projection."""

import math

import pytest
import torch
from cases import FEATURES, LATENT, diffusion, flow_map, images, subject
from test_costs import Linear, Pixels

from fibermodels.core import Pushforward
from fibermodels.diffusion import DDIM, Ancestral, Euler, GaussianMixture, Heun, Midpoint
from fibermodels.guidance import (
    MACO,
    Cutouts,
    FiberDistance,
    LowPass,
    Masked,
    NoiseOptimisation,
    PixelOptimisation,
    ScoreEnergy,
    Unguided,
)
from fibermodels.guidance.descent import OPTIMIZERS, descend
from fibermodels.guidance.pixel_optimisation import total_variation
from fibermodels.latents import Identity
from fibermodels.noise import seeded, target_noise

SHAPE = (1, 4, 5)
DIM = 12


class Affine(Pushforward):
    """`M e + N h`, an image that need not be in [0, 1]; it counts how many rows it pushes."""

    network_calls = 1
    noise_shape = (DIM,)

    def __init__(self, conditional: bool = False):
        super().__init__()
        pixels = math.prod(SHAPE)
        self.image_shape = SHAPE
        self.matrix = torch.linalg.qr(torch.randn(pixels, DIM, generator=seeded("matrix")).double()).Q
        self.condition = float(conditional) * torch.randn(pixels, 5, generator=seeded("condition")).double()
        self.pushed = []

    def push(self, noise, h):
        self.pushed.append(len(noise))
        return (noise @ self.matrix.T + h @ self.condition.T).unflatten(1, SHAPE)


@pytest.fixture
def noise():
    return torch.randn(6, DIM, generator=seeded("noise")).double()


@pytest.fixture
def h():
    return torch.randn(6, 5, generator=seeded("h")).double()


def linear(**options):
    """Noise optimisation of a linear map on a linear subject, and the map from noise to representations."""
    model, phi = Affine(), Linear(5, SHAPE)
    phi.weight = torch.linalg.qr(phi.weight.T).Q.T  # of singular values 1, so that the descent is short
    return NoiseOptimisation(model, phi, **options), phi.weight @ model.matrix


def optimised_noise(model, noise, h):
    """The affine map is injective: its image says the noise."""
    return model.optimise(noise, h).flatten(1) @ model.model.matrix


class TestLinear:
    def test_gradient_descent_ends_at_the_projection_of_the_noise_on_the_fiber(self, noise, h):
        model, a = linear(cost=FiberDistance("squared"), steps=400, learning_rate=1.5, optimizer="sgd")
        expected = noise + (h - noise @ a.T) @ torch.linalg.pinv(a).T
        torch.testing.assert_close(optimised_noise(model, noise, h), expected, atol=1e-8, rtol=0)

    def test_one_step_is_the_gradients(self, noise, h):
        model, a = linear(cost=FiberDistance("squared"), steps=1, learning_rate=0.5, optimizer="sgd")
        expected = noise - 0.5 * 2 / 5 * (noise @ a.T - h) @ a
        torch.testing.assert_close(optimised_noise(model, noise, h), expected)

    @pytest.mark.parametrize("optimizer", OPTIMIZERS)
    def test_a_row_knows_no_other(self, optimizer, noise, h):
        model, _ = linear(steps=7, learning_rate=0.1, optimizer=optimizer, stop=0.5, clip=0.05, keep_norm=True)
        whole = model.optimise(noise, h)
        parts = [model.optimise(noise[i : i + 1], h[i : i + 1]) for i in range(6)]
        torch.testing.assert_close(torch.cat(parts), whole)

    @pytest.mark.parametrize("condition_learning_rate", [0.0, 0.1])
    def test_torchs_optimiser_on_one_row_finds_the_same(self, noise, h, condition_learning_rate):
        phi = Linear(5, SHAPE)
        model = Affine(conditional=True)
        found = NoiseOptimisation(
            model, phi, steps=5, learning_rate=0.2, condition_learning_rate=condition_learning_rate
        ).optimise(noise, h)
        e, c = noise[2:3].clone().requires_grad_(), h[2:3].clone().requires_grad_()
        adam = torch.optim.Adam([{"params": e, "lr": 0.2}, {"params": c, "lr": condition_learning_rate}])
        seen = []
        for _ in range(6):
            image = model.push(e, c)
            cost = FiberDistance()(phi, image, h[2:3])
            seen.append((cost.item(), image.detach()))
            adam.zero_grad()
            cost.sum().backward()
            adam.step()
        torch.testing.assert_close(found[2:3], min(seen, key=lambda pair: pair[0])[1])

    def test_no_steps_are_the_model(self, h):
        model, _ = linear(steps=0)
        torch.testing.assert_close(model.sample(h, 2, seeded(0)), model.model.sample(h, 2, seeded(0)), rtol=0, atol=0)
        assert model.network_calls == 1

    def test_the_best_image_is_kept_though_the_descent_diverges(self, noise, h):
        model, _ = linear(cost=FiberDistance("squared"), steps=20, learning_rate=50.0, optimizer="sgd")
        torch.testing.assert_close(model.optimise(noise, h), model.model.push(noise, h))

    def test_the_answer_never_gets_worse_with_more_steps(self, noise, h):
        costs = []
        for steps in (0, 2, 5, 20):
            model, _ = linear(steps=steps, learning_rate=0.3)
            costs.append(model.cost(model.subject, model.optimise(noise, h), h))
        assert (torch.stack(costs).diff(dim=0) <= 0).all()
        assert (costs[-1] < 0.3 * costs[0]).all()

    def test_every_row_stops_at_its_first_cost_below(self, noise, h):
        model, a = linear(cost=FiberDistance("squared"), steps=500, learning_rate=1.0, optimizer="sgd", stop=0.2)
        found = model.optimise(noise, h)
        steps = []
        for row in range(6):
            e, count = noise[row], 0
            while (h[row] - a @ e).square().mean() >= 0.2:
                e, count = e - 2 / 5 * (a @ e - h[row]) @ a, count + 1
            torch.testing.assert_close(found[row], Affine().push(e[None], h[row][None])[0])
            steps.append(count)
        assert len(set(steps)) > 2
        assert model.model.pushed == [sum(count >= i for count in steps) for i in range(max(steps) + 1)]

    def test_network_calls_are_counted_at_most(self, noise, h):
        model, _ = linear(steps=4, learning_rate=1e-3)
        model.optimise(noise, h)
        assert len(model.model.pushed) == model.network_calls == 5

    @pytest.mark.parametrize("optimizer", OPTIMIZERS)
    def test_norms_are_kept(self, optimizer, noise, h):
        model, _ = linear(steps=5, learning_rate=0.5, optimizer=optimizer, keep_norm=True)
        found = optimised_noise(model, noise, h)
        torch.testing.assert_close(found.norm(dim=1), noise.norm(dim=1))
        assert (found - noise).norm(dim=1).min() > 0.1

    def test_a_clipped_gradient_is_scaled_to_its_largest_entry(self, noise, h):
        model, a = linear(cost=FiberDistance("squared"), steps=1, learning_rate=1.0, optimizer="sgd", clip=0.01)
        free = 2 / 5 * (noise @ a.T - h) @ a
        expected = noise - free * (0.01 / free.abs().amax(1, keepdim=True))
        torch.testing.assert_close(optimised_noise(model, noise, h), expected)
        model.clip = 1e6
        torch.testing.assert_close(optimised_noise(model, noise, h), noise - free)

    def test_another_judge_decides_which_image_is_the_best(self, noise, h):
        """Judged by how far it is from where the cost leads to, the start stays the best."""
        judge = ScoreEnergy(0, "target", 0.0)
        model, a = linear(cost=ScoreEnergy(0), steps=5, learning_rate=0.1, optimizer="sgd", judge=judge)
        high = noise[(noise @ a.T)[:, 0] > 0]
        found = model.optimise(high, h[: len(high)])
        torch.testing.assert_close(found, model.model.push(high, h[: len(high)]))

    def test_bad_options(self):
        for options in (
            {"steps": -1},
            {"learning_rate": 0.0},
            {"optimizer": "lbfgs"},
            {"condition_learning_rate": -1.0},
            {"clip": 0.0},
        ):
            with pytest.raises(ValueError, match=f"NoiseOptimisation: {next(iter(options))}"):
                linear(**options)
        for last in (0, 2):
            with pytest.raises(ValueError, match="last"):
                linear(last=last)

    def test_a_condition_that_the_model_ignores_cannot_be_optimised(self):
        model = NoiseOptimisation(
            Unguided(gaussian(), DDIM(2)), Pixels((1, 2, 2)), steps=1, condition_learning_rate=0.1
        )
        with pytest.raises(ValueError, match="a model that uses all of it"):
            model.sample(torch.rand(2, 1, 2, 2))


def gaussian(shape=(1, 2, 2), spread=0.2):
    """A Gaussian prior over pixels, in the middle of their range."""
    dim = math.prod(shape)
    return GaussianMixture(Identity(shape, 2.0), [[0.1 * i for i in range(dim)]], [[spread] * dim])


class TestUnguided:
    @pytest.mark.parametrize("sampler", [DDIM(4), DDIM(4, 0.7), Ancestral(4), Heun(4), Euler(4), Midpoint(4)])
    def test_estimates_end_with_the_sample_and_are_the_expected_data(self, sampler):
        prior = gaussian(spread=0.5)
        model = Unguided(prior, sampler)
        e = target_noise(1, 5, model.noise_shape, seeded(1))[0].double()
        h = torch.zeros(5, 1)
        found = model.estimates(e, h, 4)
        torch.testing.assert_close(found[-1], model.push(e, h), rtol=0, atol=0)
        torch.testing.assert_close(model.estimates(e, h, 2), found[-2:], rtol=0, atol=0)
        first = e[:, 0] if e.ndim == 3 else e
        expected, _ = prior.denoiser()(first, torch.ones(5, dtype=torch.double))
        torch.testing.assert_close(found[0], prior.decode(expected))
        with pytest.raises(ValueError, match="count must be from 1 to the 4 steps"):
            model.estimates(e, h, 5)

    @pytest.mark.parametrize("sampler", [DDIM(3), Ancestral(3), Heun(3), Midpoint(3)])
    def test_checkpointing_changes_no_value_and_no_gradient(self, sampler):
        h = torch.randn(3, FEATURES, generator=seeded(2)).requires_grad_()
        found = []
        for checkpointing in (False, True):
            model = Unguided(diffusion(), sampler, checkpointing)
            e = torch.randn(3, *model.noise_shape, generator=seeded(3)).requires_grad_()
            images = model.estimates(e, h, 2)
            found.append((images, *torch.autograd.grad(images.square().sum(), (e, h))))
        for first, second in zip(*found, strict=True):
            torch.testing.assert_close(first, second, rtol=0, atol=0)

    def test_it_binds_its_prior_once_and_calls_it_as_stated(self):
        prior, bound, called = gaussian(), [], []
        denoise = prior.denoiser()
        prior.denoiser = lambda h: bound.append(h) or (lambda z, t: called.append(t) or denoise(z, t))
        model = Unguided(prior, Heun(4))
        model.push(torch.zeros(2, 4), torch.zeros(2, 1))
        assert len(bound) == 1
        assert len(called) == model.network_calls == 7

    def test_checkpointing_keeps_one_steps_activations(self):
        """What autograd saves does not grow by a network's activations with every step."""

        def kept(steps, checkpointing):
            model = Unguided(diffusion(width=128), DDIM(steps), checkpointing)
            e = torch.randn(2, LATENT, generator=seeded(4)).requires_grad_()
            size = 0

            def pack(tensor):
                nonlocal size
                size += tensor.numel()
                return tensor

            with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
                model.push(e, torch.zeros(2, FEATURES))
            return size

        growth, checkpointed = (kept(8, flag) - kept(4, flag) for flag in (False, True))
        assert checkpointed < 0.05 * growth

    def test_last_estimates_weigh_one_two_three(self):
        """Three steps of SGD's gradient by hand, from the estimates themselves."""
        prior, phi = gaussian(), Pixels((1, 2, 2))
        inner = Unguided(prior, DDIM(5))
        cost = FiberDistance("squared")
        model = NoiseOptimisation(inner, phi, cost, steps=1, learning_rate=0.5, optimizer="sgd", last=3)
        h = 0.5 + 0.1 * torch.rand(4, 1, 2, 2, generator=seeded(5), dtype=torch.double)
        e = torch.randn(4, 4, generator=seeded(6)).double().requires_grad_()
        costs = [cost(phi, x, h) for x in inner.estimates(e, h, 3)]
        (slope,) = torch.autograd.grad(((costs[0] + 2 * costs[1] + 3 * costs[2]) / 6).sum(), e)
        expected = inner.push(e - 0.5 * slope, h).detach()
        assert (cost(phi, expected, h) < costs[2]).all()
        torch.testing.assert_close(model.optimise(e.detach(), h), expected)

    def test_last_is_bounded_by_the_steps(self):
        with pytest.raises(ValueError, match="last = 4 needs an Unguided with as many steps"):
            NoiseOptimisation(Unguided(gaussian(), DDIM(3)), Pixels((1, 2, 2)), last=4)


class TestOnNetworks:
    @pytest.mark.parametrize("family", ["flow map", "diffusion", "prior"])
    def test_it_comes_nearer_to_the_fiber(self, family):
        phi, x = subject(), images(4)
        model = {
            "flow map": lambda: flow_map(),
            "diffusion": lambda: diffusion(),
            "prior": lambda: Unguided(diffusion(), DDIM(3), checkpointing=True),
        }[family]()
        h, rms = phi(x), FiberDistance()
        before = rms(phi, model.sample(h, 1, seeded(7))[0], h)
        after = rms(phi, NoiseOptimisation(model, phi, steps=15).sample(h, 1, seeded(7))[0], h)
        assert (after < before).all()

    @pytest.mark.parametrize("paper", ["EquiDiff", "DiG-IN"])
    def test_the_two_papers_are_configurations(self, paper):
        phi, x = subject(), images(3)
        prior = Unguided(diffusion(), DDIM(4), checkpointing=True)
        h, rms = phi(x), FiberDistance()
        options = {
            "EquiDiff": {
                "cost": LowPass(FiberDistance("squared")),
                "learning_rate": 2.0,
                "optimizer": "sgd",
                "stop": 0.01,
            },
            "DiG-IN": {"cost": Cutouts(rms, 4, 0.9), "keep_norm": True, "clip": 0.05, "last": 3, "judge": rms},
        }[paper]
        before = rms(phi, prior.sample(h, 1, seeded(8))[0], h)
        after = rms(phi, NoiseOptimisation(prior, phi, steps=15, **options).sample(h, 1, seeded(8))[0], h)
        assert (after < before).all()

    def test_no_targets_and_no_subject_gradient(self):
        phi = subject()
        assert NoiseOptimisation(flow_map(), phi, steps=1).sample(torch.empty(0, FEATURES)).shape == (1, 0, 3, 28, 28)
        phi.forward = lambda images: torch.zeros(len(images), FEATURES)
        with pytest.raises(ValueError, match="differentiable subject"):
            NoiseOptimisation(flow_map(), phi, steps=1).sample(torch.rand(1, FEATURES))

    def test_weights_get_no_gradient(self):
        model = flow_map()
        NoiseOptimisation(model, subject(), steps=2).sample(torch.randn(2, FEATURES, generator=seeded(9)))
        assert all(p.grad is None for p in model.parameters())


class TestMACO:
    @pytest.mark.parametrize("shape", [(1, 8, 8), (3, 7, 9), (2, 8, 9), (2, 9, 6)])
    @pytest.mark.parametrize("decay", [1.0, 0.5])
    def test_any_phases_have_the_magnitude_and_unit_variance(self, shape, decay):
        model = MACO(Pixels(shape), decay=decay)
        channels, height, width = shape
        phases = 10 * torch.randn(4, channels, height, width // 2 + 1, generator=seeded(10)).double()
        signal = model.signal(phases)
        assert signal.shape == (4, *shape)
        frequency = torch.hypot(*torch.meshgrid(torch.fft.fftfreq(height), torch.fft.fftfreq(width), indexing="ij"))
        law = frequency.clamp(min=1 / max(height, width)).double() ** -decay
        law[0, 0] = 0
        found = torch.fft.fft2(signal).abs()
        torch.testing.assert_close(
            found / found[..., :1, 1:2], (law / law[0, 1]).expand_as(found), atol=1e-6, rtol=1e-5
        )
        torch.testing.assert_close(signal.mean((2, 3)), torch.zeros(4, channels).double())
        torch.testing.assert_close(signal.square().mean((2, 3)), torch.ones(4, channels).double())

    @pytest.mark.parametrize("shape", [(1, 8, 8), (1, 7, 9)])
    def test_the_phases_reach_every_image_of_that_magnitude(self, shape):
        """The phases of any real image with real positive mirrors give it back, but for its magnitude."""
        _, height, width = shape
        model = MACO(Pixels(shape), decay=0.0)
        u = torch.randn(1, *shape, generator=seeded(11)).double()
        spectrum = torch.fft.rfft2(u)
        found = torch.fft.rfft2(model.signal(spectrum.angle())).angle()
        own = torch.zeros(height, width // 2 + 1, dtype=torch.bool)  # their own mirrors: they stay positive
        for row in {0, height // 2} if height % 2 == 0 else {0}:
            for column in {0, width // 2} if width % 2 == 0 else {0}:
                own[row, column] = True
        torch.testing.assert_close(found[..., ~own], spectrum.angle()[..., ~own])

    def test_it_starts_from_uniform_phases(self):
        model = MACO(Pixels((1, 9, 9)), steps=0)
        noise = torch.randn(2000, 1, 9, 5, generator=seeded(12)).double()
        x = model.optimise(noise, torch.zeros(2000, 1, 9, 9))
        phases = torch.fft.rfft2(x.logit()).angle()[:, 0, 1:, 2]
        grid = torch.linspace(-math.pi, math.pi, 9).double()
        shares = torch.histogram(phases.flatten(), grid)[0] / phases.numel()
        torch.testing.assert_close(shares, torch.full((8,), 1 / 8).double(), atol=0.01, rtol=0)

    def test_more_steps_lower_the_cost(self):
        phi, x = subject(), images(4)
        h = phi(x)
        costs = torch.stack(
            [
                FiberDistance()(phi, MACO(phi, steps=steps, learning_rate=0.1).sample(h, 1, seeded(13))[0], h)
                for steps in (0, 5, 40)
            ]
        )
        assert (costs.diff(dim=0) < 0).all()

    def test_it_maximises_a_unit_and_rows_are_their_own(self):
        phi = subject()
        h = torch.zeros(3, FEATURES)
        energy = ScoreEnergy(2)
        model = MACO(phi, energy, steps=30, learning_rate=0.1)
        whole = model.sample(h, 1, seeded(14))[0]
        start = MACO(phi, energy, steps=0).sample(h, 1, seeded(14))[0]
        assert (energy(phi, whole, h) < energy(phi, start, h)).all()
        generator = seeded(14)
        parts = torch.cat([model.sample(h[i : i + 1], 1, generator)[0] for i in range(3)])
        torch.testing.assert_close(parts, whole, atol=1e-4, rtol=0)


class TestPixelOptimisation:
    def test_total_variation_is_the_mean_absolute_difference(self):
        x = torch.zeros(1, 1, 4, 6)
        x[..., 1:3, 2:5] = 0.5  # a rectangle of 2 by 3: a perimeter of 10
        assert total_variation(x).item() == pytest.approx(10 * 0.5 / 24)

    def test_total_variation_falls_with_its_weight(self):
        phi, x = subject(), images(4)
        h = phi(x)
        found = torch.stack(
            [
                total_variation(PixelOptimisation(phi, steps=60, total_variation=w).sample(h, 1, seeded(15))[0])
                for w in (0.0, 1.0, 10.0)
            ]
        )
        assert (found.diff(dim=0) < 0).all()

    def test_the_squared_penalty_alone_leads_to_grey(self):
        phi = Pixels(SHAPE)
        flat = ScoreEnergy(0, "capped", 0.0)  # a cost without force
        model = PixelOptimisation(phi, flat, 200, 2.0, "sgd", total_variation=0.0, l2=1.0)
        x = model.sample(torch.zeros(2, *SHAPE))
        torch.testing.assert_close(x, torch.full_like(x, 0.5), atol=1e-5, rtol=0)

    def test_a_mask_holds_the_rest(self):
        phi = Linear(5, SHAPE)
        h = torch.randn(2, 5, generator=seeded(18)).double()
        cost = Masked(FiberDistance(), [1, 0, 3, 2])
        start, found = (
            PixelOptimisation(phi, cost, steps, total_variation=0.0, l2=0.0).sample(h, 1, seeded(19))[0]
            for steps in (0, 20)
        )
        moved = found != start
        assert moved[..., 1:3, :2].all()
        assert moved.sum() == 2 * 4

    def test_without_penalties_a_linear_subject_is_met(self):
        phi = Linear(5, SHAPE)
        h = phi(0.4 + 0.2 * torch.rand(3, *SHAPE, generator=seeded(16), dtype=torch.double))
        model = PixelOptimisation(phi, steps=300, learning_rate=0.005, total_variation=0.0, l2=0.0)
        x = model.sample(h, 1, seeded(17))[0]
        assert FiberDistance()(phi, x, h).max() < 0.05
        assert x.min() >= 0
        assert x.max() <= 1

    def test_bad_options(self):
        for options in ({"total_variation": -1.0}, {"l2": -1.0}, {"noise": -1.0}, {"learning_rate": 0.0}):
            with pytest.raises(ValueError, match=f"PixelOptimisation: {next(iter(options))}"):
                PixelOptimisation(Pixels(SHAPE), **options)


class TestDescent:
    def test_a_cost_that_is_not_finite_is_named(self):
        def look(rows, x):
            return (x / 0).sum(1), x[..., None, None], x.sum(1)

        with pytest.raises(ValueError, match="the cost of row 0"):
            descend(look, [torch.ones(2, 3)], [0.1], 1, "sgd")

    def test_images_that_are_not_finite_are_named(self):
        def look(rows, x):
            return x.sum(1), x[..., None, None] / 0, x.sum(1)

        with pytest.raises(ValueError, match="guidance: optimised images: expected finite numbers"):
            descend(look, [torch.ones(2, 3)], [0.1], 0, "sgd")

    def test_momentum_of_one_row_survives_the_stop_of_another(self):
        """Adam of a row beside one that stops at once is Adam of the row alone."""

        def look(rows, x):
            cost = (x - 3).square().sum(1) * (rows > 0)
            return cost, x[..., None, None], cost

        start = torch.zeros(2, 3).double()
        beside = descend(look, [start], [0.1], 10, "adam", stop=1e-6)[1]

        def alone(rows, x):
            cost = (x - 3).square().sum(1)
            return cost, x[..., None, None], cost

        torch.testing.assert_close(beside, descend(alone, [start[:1]], [0.1], 10, "adam")[0], rtol=0, atol=0)
