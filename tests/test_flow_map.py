"""Flow maps: against the Gaussian law, whose flow map is known in closed form, and autograd's own derivative."""

from typing import get_args

import pytest
import torch
from cases import FEATURES, LATENT, diffusion, flow_map, flow_matching, images, mlp, subject, vae
from safetensors.torch import save_file
from torch import nn

from fibermodels.component import fingerprint
from fibermodels.config import build, describe
from fibermodels.models import FlowMap
from fibermodels.models.flow_map import Derivative, total_derivative
from fibermodels.nn import Network
from fibermodels.noise import seeded

ROUTES = get_args(Derivative)
MEAN, STD = 1.5, 0.3


def spread(t):
    """The standard deviation of z_t for z_0 ~ N(MEAN, STD^2)."""
    return ((1 - t).square() * STD**2 + t.square()).sqrt()


def exact_map(z, t, r):
    """From z at time t to time r: linear-path trajectories of a Gaussian keep their standard score."""
    t, r = t[:, None], r[:, None]
    return (1 - r) * MEAN + spread(r) / spread(t) * (z - (1 - t) * MEAN)


def exact_velocity(z, t, h=None):
    """E[e - z_0 | z_t = z], from the regression of one Gaussian on another."""
    t = t[:, None]
    return (t - (1 - t) * STD**2) / spread(t).square() * (z - (1 - t) * MEAN) - MEAN


def exact_average(z, r, t, h=None):
    gap = (t - r)[:, None]
    return torch.where(gap > 0, (z - exact_map(z, t, r)) / gap.clamp_min(1e-9), exact_velocity(z, t))


def states(count, dtype=torch.double, gap=0.05):
    """States, and times at least `gap` apart."""
    generator = seeded("states", count)
    z = torch.randn(count, LATENT, generator=generator).to(dtype)
    t = gap + (1 - gap) * torch.rand(count, generator=generator).to(dtype)
    return z, (t - gap) * torch.rand(count, generator=generator).to(dtype), t


def analytic_teacher():
    teacher = flow_matching()
    teacher.predict = lambda z, t, condition: exact_velocity(teacher.schedule.straightened(z, t)[0], t)
    return teacher


class TestTotalDerivative:
    @pytest.mark.parametrize("route", ROUTES)
    @pytest.mark.parametrize("dtype", [torch.double, torch.float])
    def test_it_is_autograds(self, route, dtype):
        """Which takes two backward passes, and no forward mode."""
        model = flow_map().to(dtype)
        z, r, t = states(16, dtype)
        h, v = torch.ones(16, FEATURES, dtype=dtype), z.flip(1)
        tangents = (v, torch.ones_like(t))
        _, expected = torch.autograd.functional.jvp(lambda z, t: model.average_velocity(z, r, t, h), (z, t), tangents)
        actual = total_derivative(lambda z, t: model.average_velocity(z, r, t, h), z, t, v, route)
        assert not actual.requires_grad
        scale = expected.abs().max().item()
        tolerance = {("forward", torch.double): 1e-12, ("difference", torch.double): 1e-6}.get((route, dtype), 1e-2)
        torch.testing.assert_close(actual, expected, atol=tolerance * scale, rtol=0)

    @pytest.mark.parametrize("route", ROUTES)
    def test_the_closed_form_keeps_the_meanflow_identity(self, route):
        z, r, t = states(200)
        v = exact_velocity(z, t)
        change = total_derivative(lambda z, t: exact_average(z, r, t), z, t, v, route)
        residual = exact_average(z, r, t) - (v - (t - r)[:, None] * change)
        assert residual.abs().max() < {"forward": 1e-12, "difference": 1e-7}[route]

    def test_the_difference_route_takes_fused_attention(self):
        """Equal to forward mode through the same attention, written out."""

        class Attention(Network):
            def __init__(self, fused):
                super().__init__()
                self.fused = fused

            def create(self, shape, times, differentiated):
                torch.manual_seed(5)
                self.enter, self.leave = nn.Linear(LATENT + FEATURES + 2, 3 * 4 * 8), nn.Linear(4 * 8, LATENT)

            def encode(self, h):
                return h

            def forward(self, z, times, condition):
                q, k, v = (
                    self.enter(torch.cat((z, condition, torch.stack(times, -1)), -1))
                    .unflatten(1, (3, 1, 4, 8))
                    .unbind(1)
                )
                if self.fused:
                    y = nn.functional.scaled_dot_product_attention(q, k, v)
                else:
                    y = (q @ k.mT / 8**0.5).softmax(-1) @ v
                return self.leave(y.flatten(1))

        z, r, t = states(8)
        h, targets = torch.ones(8, FEATURES).double(), []
        for fused, route in ((True, "difference"), (False, "forward")):
            model = FlowMap(vae(), [FEATURES], Attention(fused), derivative=route, instantaneous=0.0)
            targets.append(model.double().target(z, r, t, h, z.flip(1)))
            torch.manual_seed(6)
            model.latent_loss(z, h)["average_velocity"].mean().backward()
            assert model.network.enter.weight.grad.abs().sum() > 0
        torch.testing.assert_close(*targets, atol=1e-6, rtol=1e-6)


class TestTarget:
    def test_the_exact_flow_map_is_a_fixed_point_and_others_are_not(self):
        """Its mean error given z_t is zero, although no target is the exact value; in units of standard errors."""
        model = flow_map(instantaneous=0.5).double()
        count = 40_000
        torch.manual_seed(7)
        z = MEAN + STD * torch.randn(count, LATENT).double()
        h, noise, (r, t) = torch.zeros(count, FEATURES), torch.randn_like(z), model.times(z)
        z_t = torch.lerp(z, noise, t[:, None])

        def worst(change):
            model.average_velocity = lambda z, r, t, h: exact_average(z, r, t) + change(z, r[:, None], t[:, None])
            error = model.average_velocity(z_t, r, t, h) - model.target(z_t, r, t, h, noise - z)
            looks = (torch.ones(count, 1), z_t, r[:, None], t[:, None], z_t * (t - r)[:, None])
            products = torch.cat([error * look for look in looks], 1)
            return (products.mean(0) / products.std(0) * count**0.5).abs().max()

        assert worst(lambda z, r, t: 0) < 4
        for change in (lambda z, r, t: 0.1, lambda z, r, t: 0.1 * z, lambda z, r, t: 0.4 * (t - r)):
            assert worst(change) > 6

    @pytest.mark.parametrize("route", ROUTES)
    def test_with_the_exact_teacher_the_loss_is_zero_at_the_exact_flow_map_alone(self, route):
        model = flow_map(teacher=analytic_teacher(), derivative=route).double()
        z, _, _ = states(500)
        h = torch.zeros(500, FEATURES).double()

        def loss(change):
            model.average_velocity = lambda z, r, t, h: exact_average(z, r, t) + change(z)
            torch.manual_seed(8)
            return model.latent_loss(MEAN + STD * z, h)["average_velocity"].mean().item()

        assert loss(lambda z: 0) < 1e-9
        assert loss(lambda z: 0.1) > 1e-3
        assert loss(lambda z: 0.1 * z) > 1e-3

    def test_where_the_times_are_equal_it_is_flow_matching(self):
        model = flow_map(instantaneous=0.5)
        z, _, t = states(10, torch.float)
        target = model.target(z, t, t, torch.ones(10, FEATURES), z.flip(1))
        torch.testing.assert_close(target, z.flip(1))

    def test_times(self):
        r, t = flow_map(instantaneous=0.25).times(torch.zeros(4000, LATENT))
        assert (r <= t).all()
        assert r.min() >= 0
        assert t.max() <= 1
        assert (r == t).sum() == 1000
        assert (r == t)[:1000].all()

    @pytest.mark.parametrize("power", [0.5, 1.0])
    def test_the_weight_is_a_constant(self, power):
        """So a row's gradient is that of its error, times the weight."""
        model, plain = flow_map(power=power), flow_map()
        z, h = torch.randn(1, LATENT, generator=seeded(9)), torch.ones(1, FEATURES)
        gradients, values = [], []
        for each in (model, plain):
            torch.manual_seed(10)
            values.append(each.latent_loss(z, h)["average_velocity"])
            values[-1].sum().backward()
            gradients.append(each.network.layers.leave.weight.grad)
        weight = (values[1].detach() + 1e-3) ** -power
        torch.testing.assert_close(values[0], weight * values[1])
        torch.testing.assert_close(gradients[0], weight * gradients[1])

    @pytest.mark.parametrize("route", ROUTES)
    def test_under_bfloat16_gradients_reach_every_parameter(self, route):
        model = flow_map(derivative=route, teacher=flow_matching())
        z, h = torch.randn(32, LATENT, generator=seeded(11)), torch.ones(32, FEATURES)
        with torch.autocast("cpu", torch.bfloat16):
            model.latent_loss(z, h)["average_velocity"].mean().backward()
        for name, p in model.named_parameters():
            assert (p.grad is not None and p.grad.abs().sum() > 0) == p.requires_grad, name


class TestSampler:
    @pytest.mark.parametrize("steps", [1, 2, 8])
    def test_the_exact_flow_map_needs_one_step(self, steps):
        model = flow_map(steps=steps).double()
        model.average_velocity = exact_average
        noise, h = states(50)[0], torch.zeros(50, FEATURES)
        torch.testing.assert_close(model.transport(noise, h), MEAN + STD * noise, atol=1e-9, rtol=0)
        assert model.network_calls == steps

    def test_jumps_compose(self):
        model = flow_map().double()
        model.average_velocity = exact_average
        z, r, t = states(50)
        between = (r + t) / 2
        two = model.jump(model.jump(z, t, between, z), between, r, z)
        torch.testing.assert_close(two, exact_map(z, t, r), atol=1e-9, rtol=0)
        state = z * ((1 - t).square() + t.square()).rsqrt()[:, None]  # that of the schedule
        h = torch.zeros(50, FEATURES).double()
        torch.testing.assert_close(model.estimate(state, t, h), exact_map(z, t, torch.zeros_like(t)), atol=1e-9, rtol=0)

    def test_gradients_run_through_the_last_steps(self):
        model, h = flow_map(steps=3), torch.ones(2, FEATURES)
        noise = torch.randn(2, LATENT, generator=seeded(12)).requires_grad_()
        short = model.transport(noise, h, last_steps=2)
        torch.testing.assert_close(short, model.transport(noise, h))
        assert torch.autograd.grad(short.sum(), noise, allow_unused=True, retain_graph=True)[0] is None
        assert torch.autograd.grad(short.sum(), model.network.layers.leave.weight)[0].abs().sum() > 0


def fit(model, draw, steps=800, lr=3e-3):
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=lr)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps)
    for _ in range(steps):
        optimizer.zero_grad()
        model.latent_loss(*draw(256))["average_velocity"].mean().backward()
        optimizer.step()
        schedule.step()


def one_and_eight_steps(model, h):
    noise = torch.randn(len(h), LATENT, generator=seeded(13))
    with torch.no_grad():
        one = model.transport(noise, h)
        model.steps = 8
        return one, model.transport(noise, h)


class TestTraining:
    @pytest.mark.parametrize("route", [pytest.param("forward", marks=pytest.mark.slow), "difference"])
    def test_it_learns_a_conditional_gaussian(self, route):
        """z | h ~ N(A h, diag(s^2)): one step and eight have its moments, and agree.

        After so short a training one step is still a little too narrow, hence the tolerance.
        """
        torch.manual_seed(14)
        matrix = torch.randn(FEATURES, LATENT, generator=seeded(15)) / FEATURES**0.5
        std = torch.linspace(0.2, 1.0, LATENT)

        def draw(count):
            h = torch.randn(count, FEATURES)
            return h @ matrix + std * torch.randn(count, LATENT), h

        model = FlowMap(vae(), [FEATURES], mlp(64, 2), derivative=route)
        fit(model, draw)
        h = torch.randn(1, FEATURES, generator=seeded(16)).expand(4000, -1)
        one, eight = one_and_eight_steps(model, h)
        for z in (one, eight):
            torch.testing.assert_close(z.mean(0), (h @ matrix)[0], atol=0.15, rtol=0)
            torch.testing.assert_close(z.std(0), std, atol=0.2, rtol=0)
        assert (one - eight).square().mean().sqrt() < 0.2

    @pytest.mark.slow
    def test_it_learns_from_a_teacher_alone(self):
        """The training latents only say where to look; the law is the teacher's."""
        torch.manual_seed(17)
        model = FlowMap(vae(), [FEATURES], mlp(64, 2), teacher=analytic_teacher())
        fit(model, lambda count: (MEAN + STD * torch.randn(count, LATENT), torch.zeros(count, FEATURES)), steps=600)
        noise = torch.randn(1000, LATENT, generator=seeded(13))
        one, eight = one_and_eight_steps(model, torch.zeros(1000, FEATURES))
        for z in (one, eight):
            assert (z - MEAN - STD * noise).square().mean().sqrt() < 0.1


class TestTeacher:
    def test_it_is_frozen(self):
        model = flow_map(teacher=flow_matching()).train()
        assert model.training
        assert not any(module.training for module in model.teacher.modules())
        assert not any(p.requires_grad for p in model.teacher.parameters())

    def test_the_product_is_without_it(self):
        model = flow_map(teacher=flow_matching(), steps=2)
        product = model.product([])
        assert product.teacher is None
        assert not any(name.startswith("teacher.") for name in product.state_dict())
        h = subject()(images(3))
        torch.testing.assert_close(product.sample(h, 2, seeded(18)), model.sample(h, 2, seeded(18)))

    def test_it_must_fit(self):
        for teacher in (flow_matching(feature_shape=[FEATURES + 1]), flow_matching(latents=_small_vae())):
            with pytest.raises(ValueError, match="the teacher must have the flow map's latent shape"):
                flow_map(teacher=teacher)
        with pytest.raises(ValueError, match="path 'straight'"):
            flow_map(teacher=diffusion(schedule="cosine"))


def _small_vae():
    from fibermodels.latents import VAE

    return VAE([3, 28, 28], LATENT - 1, width=8, blocks=1, patterns=4)


class TestWeights:
    """A config names a file for model and teacher, and a file for the latent space of either."""

    @pytest.mark.parametrize("half", [False, True])
    @pytest.mark.parametrize("build", [flow_map, flow_matching, diffusion], ids=lambda build: build.__name__)
    def test_they_are_loaded_over_the_same_latent_space(self, tmp_path, build, half):
        model, file = build(), tmp_path / "model.safetensors"
        kind = torch.half if half else torch.float
        state, metadata = model.density()
        save_file({name: value.to(kind).contiguous() for name, value in state.items()}, file, metadata)
        latents = vae()
        twin = type(model)(**model.arguments | {"latents": latents, "weights": str(file)})
        assert fingerprint(twin.latents) == fingerprint(latents) == fingerprint(model.latents)
        noise, h = torch.randn(4, LATENT, generator=seeded(19)), torch.ones(4, FEATURES)
        torch.testing.assert_close(twin.push(noise, h), model.push(noise, h), atol=1e-2 if half else 0, rtol=0)

        with torch.no_grad():
            latents.draw.bias += 0.1
        with pytest.raises(ValueError, match="expected the latent space with fingerprint"):
            type(model)(**model.arguments | {"latents": latents, "weights": str(file)})
        with pytest.raises(ValueError, match="do not fit"):
            type(model)(**model.arguments | {"network": mlp(8), "weights": str(file)})


@pytest.mark.parametrize(
    "option",
    [{"steps": 0}, {"instantaneous": 1.0}, {"instantaneous": -0.1}, {"power": float("nan")}, {"derivative": "reverse"}],
)
def test_bad_options(option):
    with pytest.raises(ValueError, match=f"FlowMap: {next(iter(option))}(: expected| must be)"):
        flow_map(**option)


def test_one_with_a_teacher_is_rebuilt_from_its_description():
    model = flow_map(teacher=flow_matching())
    twin = build(describe(model), weights=False)
    twin.load_state_dict(model.state_dict())
    assert fingerprint(twin) == fingerprint(model)
    assert not any(p.requires_grad for p in twin.teacher.parameters())
