"""One contract for every FiberModel, and the laws of each family."""

import importlib
import inspect
import math
import pkgutil
from copy import deepcopy

import numpy as np
import pytest
import torch
from cases import (
    FEATURES,
    LATENT,
    MODELS,
    ONLY_TRAINING,
    flow_matching,
    images,
    normalizing_flow,
    prepared,
    randomised,
    subject,
    unet_diffusion,
    unet_flow_map,
    vae,
)
from safetensors.torch import save_file

import fibermodels
from fibermodels.config import build, describe
from fibermodels.core import FiberModel, Pushforward, Subject
from fibermodels.diffusion import Midpoint, unguided
from fibermodels.models import (
    Augmented,
    DenoisingFlow,
    FiberLoss,
    FreeFormFlow,
    FreeFormInjectiveFlow,
    MultilevelFlow,
    NearestNeighbour,
    NormalizingFlow,
    Oracle,
    RandomViews,
    Reconstruction,
)
from fibermodels.nn import AffineCouplings, FreiaFlow
from fibermodels.nn.freia import rational_quadratic
from fibermodels.noise import seeded
from fibermodels.trainable import TrainableFiberModel


def concrete(contract):
    """Every class of the package that keeps a contract and can be built."""
    found = set()
    for info in pkgutil.walk_packages(fibermodels.__path__, "fibermodels."):
        for cls in vars(importlib.import_module(info.name)).values():
            if inspect.isclass(cls) and issubclass(cls, contract) and not inspect.isabstract(cls):
                if not cls.__module__.startswith("fibermodels"):
                    continue
                found.add(cls)
    return found


def test_every_fiber_model_has_a_case():
    assert concrete(FiberModel) == set(MODELS)
    assert {cls.__name__ for cls in concrete(TrainableFiberModel)} >= {"FlowMatching", "NormalizingFlow"}


CASES = MODELS | {build: build for build in (unet_diffusion, unet_flow_map)}
"""Classes, and builders of what a class is with another network."""


@pytest.fixture(params=CASES, ids=lambda cls: cls.__name__)
def model(request):
    return CASES[request.param]()


@pytest.fixture(scope="module")
def phi():
    return subject()


@pytest.fixture(scope="module")
def x():
    return images(12)


@pytest.mark.filterwarnings("ignore:.*within a fifth of target_rms.*:UserWarning")
class TestContract:
    def test_shape_range_and_no_gradient(self, model, phi, x):
        samples = prepared(model, phi, x).sample(phi(x[:5]).requires_grad_(), 3, seeded(0), x[:5])
        assert samples.shape == (3, 5, 3, 28, 28)
        assert not samples.requires_grad
        assert samples.min() >= 0
        assert samples.max() <= 1

    def test_same_seed_same_samples_whatever_the_batch(self, model, phi, x):
        model, phi, x = (each.double() for each in (prepared(model, phi, x), deepcopy(phi), x))  # rounding is no matter
        h = phi(x)
        whole = model.sample(h, 2, seeded(1), x)
        generator, sizes = seeded(1), [1, 7, 4]
        parts = [model.sample(a, 2, generator, b) for a, b in zip(h.split(sizes), x.split(sizes), strict=True)]
        torch.testing.assert_close(torch.cat(parts, 1), whole, atol=1e-8, rtol=0)

    def test_another_seed_gives_other_samples(self, model, phi, x):
        model, h = prepared(model, phi, x), phi(x)
        same = torch.equal(model.sample(h, 1, seeded(1), x), model.sample(h, 1, seeded(2), x))
        assert same == (type(model).__name__ == "NearestNeighbour")  # the one without randomness

    def test_it_is_rebuilt_from_its_description(self, model, phi, x):
        twin = build(describe(model))
        twin.load_state_dict(model.state_dict())
        h = phi(x)
        first, second = (prepared(m, phi, x).sample(h, 1, seeded(3), x) for m in (model, twin))
        torch.testing.assert_close(first, second)

    def test_it_states_its_network_calls(self, model):
        assert isinstance(model.network_calls, int)
        if isinstance(model, TrainableFiberModel):
            assert model.network_calls > 0

    def test_zero_samples_are_refused(self, model, phi, x):
        with pytest.raises(ValueError, match="sample"):
            prepared(model, phi, x).sample(phi(x), 0)


PUSHFORWARDS = [cls for cls in MODELS if issubclass(cls, Pushforward)]
TRAINABLE = [cls for cls in MODELS if issubclass(cls, TrainableFiberModel)] + [unet_diffusion, unet_flow_map]


@pytest.mark.parametrize("cls", PUSHFORWARDS, ids=lambda cls: cls.__name__)
def test_push_is_differentiable_in_noise_and_condition(cls, phi, x):
    model, h = MODELS[cls](), phi(x[:3]).requires_grad_()
    noise = torch.randn(3, *model.noise_shape, generator=seeded(4)).requires_grad_()
    for gradient in torch.autograd.grad(model.push(noise, h).sum(), (noise, h)):
        assert gradient.abs().sum() > 0


@pytest.mark.parametrize("cls", TRAINABLE, ids=lambda cls: cls.__name__)
class TestTrainable:
    def test_terms_are_per_sample_and_reach_every_parameter(self, cls, phi, x):
        model = CASES[cls]()
        terms = model.loss(x, phi(x))
        assert all(term.shape == (len(x),) for term in terms.values())
        sum(term.mean() for term in terms.values()).backward()
        check_gradients(model, phi)

    @pytest.mark.parametrize("distance", ["rms", "squared", "cosine"])
    @pytest.mark.parametrize("checkpointing", [False, True])
    def test_the_fiber_loss_reaches_every_parameter_that_samples_and_none_of_the_frozen(
        self, cls, phi, x, distance, checkpointing
    ):
        model = CASES[cls]()
        FiberLoss(2.0, distance, checkpointing=checkpointing)(model, phi, phi(x)).mean().backward()
        check_gradients(model, phi, without=ONLY_TRAINING.get(cls))

    def test_without_a_representation_it_says_so(self, cls, x):
        with pytest.raises(ValueError, match="give a subject"):
            CASES[cls]().loss(x, None)


def check_gradients(model, phi, without=None):
    frozen = {name for name, _ in model.latents.named_parameters(prefix="latents")}
    for name, p in model.named_parameters():
        if name in frozen or (without and name.startswith(without)):
            assert p.grad is None, f"{name} is frozen, or not used, and got a gradient"
        elif p.requires_grad:
            assert p.grad is not None, f"{name} got no gradient"
            assert p.grad.abs().sum() > 0, f"{name} got a gradient of zero"
    assert all(p.grad is None for p in phi.parameters())


class Affine(Subject):
    """A subject whose entries are scaled and moved."""

    def __init__(self, subject, factor, shift):
        super().__init__()
        self.subject, self.factor, self.shift = subject, factor, shift
        self.input_space, self.feature_shape = subject.input_space, subject.feature_shape

    def forward(self, images):
        return self.factor * self.subject(images) + self.shift


class TestFiberLoss:
    def test_it_is_the_weighted_distance_to_the_target(self, phi, x):
        model, h = flow_matching(), phi(x)
        torch.manual_seed(7)
        loss = FiberLoss(3.0)(model, phi, h)
        torch.manual_seed(7)
        h_hat = phi(model.push(torch.randn(len(h), *model.noise_shape), h))
        torch.testing.assert_close(loss, 3 * (h_hat - h).square().mean(1).sqrt())

    def test_warm_up_is_linear(self, phi, x):
        model, h = flow_matching(), phi(x)
        values = []
        for progress in (0.0, 0.1, 0.2, 0.5, 1.0):
            torch.manual_seed(8)
            values.append(FiberLoss(1.0, warmup=0.2)(model, phi, h, progress=progress).mean().item())
        assert values[0] == 0
        assert values[1] == pytest.approx(values[4] / 2)
        assert values[2] == values[3] == values[4]

    def test_fewer_rows(self, phi, x):
        assert FiberLoss(1.0, rows=4)(flow_matching(), phi, phi(x)).shape == (4,)

    def test_a_later_layer_adds_its_distance_between_sample_and_image(self, phi, x):
        model, h, later = flow_matching(), phi(x), subject(seed=3)
        torch.manual_seed(7)
        loss = FiberLoss(3.0, rows=4, later=[later])(model, phi, h, x=x)
        torch.manual_seed(7)
        x_hat = model.push(torch.randn(4, *model.noise_shape), h[:4])
        own = (phi(x_hat) - h[:4]).square().mean(1).sqrt()
        torch.testing.assert_close(loss, 3 * (own + (later(x_hat) - later(x[:4])).square().mean(1).sqrt()))
        with pytest.raises(ValueError, match=r"fiber\.later: expected the images"):
            FiberLoss(3.0, later=[later])(model, phi, h)

    def test_images_that_the_loss_has_drawn_are_taken(self, phi, x):
        """The mean over the draws of the distances of all layers, and no push of its own."""
        h, later = phi(x), subject(seed=3)
        drawn = torch.rand(2, len(x), *x.shape[1:], generator=torch.Generator().manual_seed(7))
        loss = FiberLoss(3.0, rows=4, later=[later])(None, phi, h, x=x, drawn=drawn)
        misses = [
            (layer(image[:4]) - layer(x[:4])).square().mean(1).sqrt() for image in drawn for layer in (phi, later)
        ]
        torch.testing.assert_close(loss, 3 * torch.stack(misses).sum(0) / 2)

    @pytest.mark.parametrize("distance", ["rms", "cosine"])
    def test_standardised_it_does_not_feel_what_all_representations_share(self, phi, x, distance):
        """Affine maps of each entry change nothing, and a later layer stays as it is."""
        factor, shift = torch.linspace(0.5, 3, FEATURES), torch.full((FEATURES,), 5.0)
        drawn = torch.rand(2, len(x), *x.shape[1:], generator=torch.Generator().manual_seed(7))
        losses = []
        for moved in (phi, Affine(phi, factor, shift)):
            model, h = flow_matching(), moved(x)
            model.network.standardise.measure(h)
            fiber = FiberLoss(3.0, distance, later=[phi], standardise=True)
            losses.append(fiber(model, moved, h, x=x, drawn=drawn))
        torch.testing.assert_close(losses[1], losses[0], rtol=1e-3, atol=1e-4)

    def test_standardised_it_is_in_units_of_the_deviation(self, phi, x):
        model, h = flow_matching(), phi(x)
        model.network.standardise.measure(h)
        drawn = torch.rand(2, len(x), *x.shape[1:], generator=torch.Generator().manual_seed(7))
        misses = torch.stack([(phi(image) - h) / h.std(0, correction=0) for image in drawn])
        loss = FiberLoss(3.0, standardise=True)(model, phi, h, drawn=drawn)
        torch.testing.assert_close(loss, 3 * misses.square().mean(2).sqrt().mean(0))

    def test_a_model_without_statistics_cannot_standardise(self, phi, x):
        with pytest.raises(ValueError, match=r"fiber\.standardise: expected a model that standardises"):
            FiberLoss(1.0, standardise=True)(flow_matching(feature_shape=[]), phi, phi(x))

    def test_the_last_steps_alone_carry_gradients(self, phi, x):
        """The same value; the gradient is that of a sampler whose start is given."""
        model, h = flow_matching(steps=3), phi(x)
        values, gradients = [], []
        for last in (None, 3, 1):
            model.zero_grad()
            torch.manual_seed(9)
            loss = FiberLoss(1.0, last_steps=last)(model, phi, h).mean()
            loss.backward()
            values.append(loss.detach())
            gradients.append(model.network.layers.enter.weight.grad.clone())
        torch.testing.assert_close(values[1:], values[:1] * 2)
        torch.testing.assert_close(gradients[1], gradients[0])
        torch.manual_seed(9)
        look, noise = unguided(model.denoiser(h)), torch.randn(len(h), *model.noise_shape)
        with torch.no_grad():
            *_, (start, _), _ = model.sampler.trajectory(look, model.schedule, noise)
        model.zero_grad()
        third, end = h.new_full((len(h),), 1 / 3), h.new_zeros(len(h))
        z, _ = model.sampler.step(look, model.schedule, start, third, end, None, True)
        (phi(model.latents.decode(z, h)) - h).square().mean(1).sqrt().mean().backward()
        torch.testing.assert_close(model.network.layers.enter.weight.grad, gradients[2])

    def test_an_estimate_of_the_clean_latent(self, phi, x):
        """A model that knows the way back exactly has the fiber loss of the latents themselves."""
        model, h = flow_matching(), phi(x)
        z = torch.randn(len(h), LATENT, generator=seeded(20))
        expected = (phi(model.latents.decode(z, h)) - h).square().mean(1).sqrt()
        drawn, noised = {}, model.noised
        model.noised = lambda z, noise, t: drawn.update(t=t, v=noise - z) or noised(z, noise, t)
        model.predict = lambda z, t, condition: drawn["v"]
        torch.testing.assert_close(FiberLoss(1.0, estimate_below=0.2)(model, phi, h, z), expected)
        assert drawn["t"].min() > 0
        assert drawn["t"].max() < 0.2

    def test_a_model_without_steps_offers_neither(self, phi, x):
        h = phi(x)
        for option in ({"last_steps": 1}, {"estimate_below": 0.2}):
            with pytest.raises(ValueError, match=rf"fiber\.{next(iter(option))}: expected a model with steps"):
                FiberLoss(1.0, **option)(normalizing_flow(), phi, h)
        with pytest.raises(ValueError, match="expected the training latents"):
            FiberLoss(1.0, estimate_below=0.2)(flow_matching(), phi, h)

    @pytest.mark.parametrize(
        "option",
        [{"last_steps": 0}, {"estimate_below": 0.0}, {"estimate_below": 1.5}, {"last_steps": 1, "estimate_below": 0.5}],
    )
    def test_bad_routes(self, option):
        with pytest.raises(ValueError, match="expected|must be one of"):
            FiberLoss(**option)

    @pytest.mark.parametrize(
        "option", [{"weight": -1.0}, {"weight": float("nan")}, {"distance": "l7"}, {"warmup": 2.0}, {"rows": 0}]
    )
    def test_bad_options(self, option):
        with pytest.raises(ValueError, match="expected|must be one of"):
            FiberLoss(**option)


FLOWS = {
    "affine": AffineCouplings(width=16, blocks=3),
    "spline": FreiaFlow("spline", blocks=2, width=16, options={"bins": 4}),
    "all_in_one": FreiaFlow("all_in_one", blocks=3, width=16, layers=1),
    "glow": FreiaFlow("glow", blocks=2, width=16),
    "rnvp": FreiaFlow("rnvp", blocks=2, width=16),
}


@pytest.mark.parametrize("network", FLOWS.values(), ids=FLOWS)
class TestNormalizingFlow:
    def test_log_prob_is_that_of_the_autograd_jacobian(self, network):
        flow = normalizing_flow(flow=network).double()
        z = 2 * torch.randn(6, LATENT, generator=seeded(9)).double()
        h = torch.randn(6, FEATURES, generator=seeded(10)).double()
        noise, _ = flow.flow(z, h)
        for i in range(len(z)):
            jacobian = torch.autograd.functional.jacobian(lambda v, c=h[i]: flow.flow(v[None], c[None])[0][0], z[i])
            normal = torch.distributions.Normal(0.0, 1.0).log_prob(noise[i]).sum()
            expected = normal + torch.linalg.slogdet(jacobian)[1]
            torch.testing.assert_close(flow.log_prob(z[i : i + 1], h[i : i + 1])[0], expected)

    def test_the_inverse_is_exact(self, network):
        flow = normalizing_flow(flow=network).double()
        z = 3 * torch.randn(20, LATENT, generator=seeded(11)).double()
        h = torch.randn(20, FEATURES, generator=seeded(12)).double()
        noise, log_det = flow.flow(z, h)
        back, back_log_det = flow.flow.inverse(noise, h)
        torch.testing.assert_close(back, z, atol=1e-9, rtol=0)
        torch.testing.assert_close(back_log_det, -log_det)
        torch.testing.assert_close(flow.transport(noise, h), back)

    def test_the_density_integrates_to_one(self, network):
        """In two dimensions, by quadrature, for two conditions."""
        flow = normalizing_flow(latents=vae(dim=2, width=8, patterns=4), flow=network).double()
        axis = torch.linspace(-9, 9, 401, dtype=torch.double)
        grid = torch.cartesian_prod(axis, axis)
        for c in (-1.0, 2.0):
            density = flow.log_prob(grid, torch.full((len(grid), FEATURES), c).double()).exp()
            assert (density.sum() * (axis[1] - axis[0]) ** 2).item() == pytest.approx(1, abs=1e-3)

    def test_it_depends_on_the_condition_and_may_do_without(self, network):
        z, h = torch.randn(8, LATENT, generator=seeded(13)), torch.randn(8, FEATURES, generator=seeded(14))
        flow, alone = normalizing_flow(flow=network), randomised(NormalizingFlow(vae(), [], network))
        assert (flow.log_prob(z, h) - flow.log_prob(z, h.flip(0))).abs().max() > 1e-3
        torch.testing.assert_close(alone.log_prob(z, h), alone.log_prob(z, h.flip(0)), atol=0, rtol=0)

    def test_a_seed_fixes_all_that_is_random_and_numpys_random_state_stays(self, network):
        np.random.seed(5)
        expected = np.random.rand()
        np.random.seed(5)
        first, second = normalizing_flow(flow=network), normalizing_flow(flow=network)
        assert np.random.rand() == expected
        for name, value in first.state_dict().items():
            torch.testing.assert_close(second.state_dict()[name], value, atol=0, rtol=0)

    def test_it_keeps_float32_under_bfloat16(self, network, phi, x):
        flow, h = normalizing_flow(flow=network), phi(x)
        z = torch.randn(len(h), LATENT, generator=seeded(13))
        with torch.autocast("cpu", torch.bfloat16):
            log_prob = flow.log_prob(z, h)
        torch.testing.assert_close(log_prob, flow.log_prob(z, h))

    def test_every_parameter_is_trained_and_published_weights_load(self, network, phi, x, tmp_path):
        flow, h = normalizing_flow(flow=network), phi(x)
        flow.condition.standardise.measure(h)
        flow.loss(x, h)["nll"].mean().backward()
        check_gradients(flow, phi)
        state, metadata = flow.density()
        save_file({name: value.contiguous() for name, value in state.items()}, tmp_path / "w.safetensors", metadata)
        twin = NormalizingFlow(vae(), [FEATURES], network, str(tmp_path / "w.safetensors"))
        torch.testing.assert_close(twin.sample(h, 1, seeded(3)), flow.sample(h, 1, seeded(3)))


class TestFreiaFlow:
    def test_a_spline_goes_through_its_knots_with_its_derivatives(self):
        raw = torch.randn(1, 1, 14, generator=seeded(15)).double()
        shares = [1e-3 + (1 - 5e-3) * raw[0, 0, k : k + 5].softmax(-1) for k in (0, 5)]
        x, y = (torch.nn.functional.pad(10 * share.cumsum(-1), (1, 0)) - 5 for share in shares)
        slopes = 1e-3 + torch.nn.functional.softplus(raw[0, 0, 10:] + math.log(math.expm1(1 - 1e-3)))
        outside = torch.tensor([-7.0, 5.5]).double()
        mapped, log_derivative = rational_quadratic(torch.cat((x[1:-1], outside))[:, None], raw.expand(6, -1, -1), 5.0)
        torch.testing.assert_close(mapped[:, 0], torch.cat((y[1:-1], outside)))
        torch.testing.assert_close(log_derivative[:, 0].exp(), torch.cat((slopes, torch.ones(2).double())))

    def test_splines_start_as_the_identity(self):
        value = 4 * torch.randn(50, 3, generator=seeded(16))
        mapped, log_derivative = rational_quadratic(value, torch.zeros(50, 3, 14), 5.0)
        torch.testing.assert_close(mapped, value)
        torch.testing.assert_close(log_derivative, torch.zeros(50, 3), atol=1e-5, rtol=0)

    @pytest.mark.parametrize(
        ("option", "message"),
        [
            ({"block": "affine"}, "block must be one of .*'spline'.*, got 'affine'"),
            ({"blocks": 0}, "blocks: expected a number of at least 1, got 0"),
            ({"options": {"bin": 4}}, "'spline' does not take {'bin': 4}"),
            ({"options": {"bins": 1}}, "options.bins: expected a number of at least 2, got 1"),
        ],
        ids=str,
    )
    def test_bad_options(self, option, message):
        with pytest.raises(ValueError, match=f"FreiaFlow: .*{message}"):
            FreiaFlow(**option).build(2, 3)

    def test_too_few_dimensions(self):
        with pytest.raises(ValueError, match="FreiaFlow: dim: expected a number of at least 2, got 1"):
            FreiaFlow().build(1, 3)


@pytest.mark.parametrize(
    "cls",
    [NormalizingFlow, DenoisingFlow, MultilevelFlow, FreeFormFlow, FreeFormInjectiveFlow],
    ids=lambda c: c.__name__,
)
class TestStandardisedCondition:
    def losses(self, cls, h, z):
        model = MODELS[cls]().train()
        model.condition.standardise.measure(h)
        optimizer, found = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], 1e-3), []
        torch.manual_seed(0)
        for _ in range(5):
            loss = sum(term.mean() for term in model.latent_loss(z, h).values())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            found.append(loss.item())
        return found

    @pytest.mark.parametrize(("scale", "shift"), [(0.01, 0.0), (100.0, 0.0), (1.0, 10.0), (3.0, -1000.0)])
    def test_the_scale_and_the_offset_of_h_change_nothing(self, cls, scale, shift):
        z, h = torch.randn(64, LATENT, generator=seeded(17)), torch.randn(64, FEATURES, generator=seeded(18))
        assert self.losses(cls, scale * h + shift, z) == pytest.approx(self.losses(cls, h, z), rel=1e-3)

    def test_maps_are_standardised_by_channel(self, cls):
        model = build(
            {**(own := describe(MODELS[cls]())), "init_args": own["init_args"] | {"feature_shape": [2, 3, 1]}}
        )
        h = torch.randn(64, 2, 3, 1, generator=seeded(18))
        model.condition.standardise.measure(h)
        assert model.condition.standardise.mean.shape == (2, 1, 1)
        assert model.sample(h[:2], 1).shape == (1, 2, 3, 28, 28)
        with pytest.raises(ValueError, match="give the model feature_shape"):
            model.sample(h[:2].flatten(1), 1)


class TestFlowMatching:
    """Against a law known in closed form: z_0 ~ N(m, s^2), so z_t is Gaussian for every t."""

    MEAN, STD = 1.5, 0.3

    def velocity(self, z, t):
        """E[e - z_0 | z_t = z] of the Gaussian pair."""
        t = t[:, None]
        variance = (1 - t) ** 2 * self.STD**2 + t**2
        centred = z - (1 - t) * self.MEAN
        return (t - (1 - t) * self.STD**2) / variance * centred - self.MEAN

    def test_the_loss_is_least_at_the_closed_form_velocity(self):
        """No perturbation of the exact velocity has a smaller expected loss, on common noise."""
        model = flow_matching()
        z0 = self.MEAN + self.STD * torch.randn(20_000, LATENT, generator=seeded(14))
        h = torch.zeros(len(z0), FEATURES)

        def loss(change):
            straight = model.schedule.straightened
            model.predict = lambda z, t, condition: self.velocity(straight(z, t)[0], t) + change(z, t[:, None])
            torch.manual_seed(15)
            return model.latent_loss(z0, h)["velocity"].mean().item()

        exact = loss(lambda z, t: 0)
        for change in (lambda z, t: 0.1, lambda z, t: -0.1, lambda z, t: 0.1 * z, lambda z, t: 0.2 * (t - 0.5)):
            assert loss(change) > exact

    def test_training_learns_a_conditional_gaussian(self):
        """z | h ~ N(A h, diag(s^2)): after a short training, the samples' moments are those."""
        torch.manual_seed(16)
        model = flow_matching(width=64, blocks=2, steps=8)
        matrix = torch.randn(FEATURES, LATENT, generator=seeded(17)) / FEATURES**0.5
        std = torch.linspace(0.2, 1.0, LATENT)
        optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=3e-3)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=800)
        for _ in range(800):
            h = torch.randn(256, FEATURES)
            z = h @ matrix + std * torch.randn(256, LATENT)
            optimizer.zero_grad()
            model.latent_loss(z, h)["velocity"].mean().backward()
            optimizer.step()
            schedule.step()
        h = torch.randn(1, FEATURES, generator=seeded(18)).expand(4000, -1)
        with torch.no_grad():
            z = model.transport(torch.randn(4000, LATENT), h)
        torch.testing.assert_close(z.mean(0), (h @ matrix)[0], atol=0.15, rtol=0)
        torch.testing.assert_close(z.std(0), std, atol=0.12, rtol=0)

    def test_its_default_sampler_is_the_midpoint_rule(self):
        model = flow_matching(sampler=None)
        assert isinstance(model.sampler, Midpoint)
        assert model.network_calls == 16


class TestRetrieval:
    def test_the_nearest_neighbour_of_a_remembered_image_is_itself(self, phi, x):
        model = prepared(MODELS[NearestNeighbour](), phi, x)
        torch.testing.assert_close(model.sample(phi(x), 1)[0], x)
        h = phi(x)
        second = model.sample(h, 2)[1]
        distance = torch.cdist(h, h)
        torch.testing.assert_close(second, x[distance.topk(2, largest=False).indices[:, 1]])

    def test_it_must_remember_first(self, phi, x):
        with pytest.raises(ValueError, match="nothing remembered"):
            MODELS[NearestNeighbour]().sample(phi(x))


@pytest.mark.parametrize("cls", [Oracle, Reconstruction, Augmented, RandomViews], ids=lambda cls: cls.__name__)
def test_a_model_of_the_query_asks_for_it(cls, phi, x):
    with pytest.raises(ValueError, match=f"{cls.__name__}: x: expected the query images"):
        MODELS[cls]().sample(phi(x))
