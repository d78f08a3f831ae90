"""Networks of one contract, for every objective: what they are told of a representation, and how often."""

from functools import partial

import pytest
import torch
from cases import (
    FEATURES,
    LATENT,
    controlnet,
    diffusion,
    energy_maps,
    flow_map,
    flow_matching,
    mlp,
    randomised,
    unet_diffusion,
    unet_flow_map,
)

from fibermodels.config import build, describe
from fibermodels.diffusion import DDIM, SCHEDULES, Heun, Midpoint
from fibermodels.latents import Identity
from fibermodels.models import Diffusion, FlowMap
from fibermodels.nn import MLP, Mixer, Standardise, UNet, Upsampler
from fibermodels.noise import seeded

SPATIAL = [5, 4, 4]
SHAPE = (3, 28, 28)
MODELS = [diffusion, flow_matching, flow_map, unet_diffusion, unet_flow_map, energy_maps, controlnet]


def state(rows: int = 3, features: list[int] | None = None):
    """Latents, times and representations."""
    generator = seeded("state")
    z = torch.randn(rows, 3 * 28 * 28, generator=generator)
    return z, torch.rand(rows, generator=generator), torch.randn(rows, *(features or [FEATURES]), generator=generator)


def standardisations(model):
    return [part for part in model.modules() if isinstance(part, Standardise)]


class TestCondition:
    @pytest.mark.parametrize("features", [[FEATURES], SPATIAL], ids=str)
    @pytest.mark.parametrize("build", MODELS, ids=lambda build: build.__name__)
    @pytest.mark.parametrize("change", [(1000.0, 0.0), (0.01, 0.0), (1.0, 100.0)], ids=str)
    def test_scale_and_offset_of_the_representation_change_nothing(self, build, change, features):
        """Once they are measured: a short training has the same losses."""
        h = torch.randn(16, *features, generator=seeded("law"))
        losses = []
        for scale, offset in ((1.0, 0.0), change):
            given = scale * h + offset
            model = build(feature_shape=features)
            for part in standardisations(model):
                part.measure(given)
            z = torch.randn(16, *model.latents.latent_shape, generator=seeded("latents"))
            optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1e-3)
            torch.manual_seed(0)
            for _ in range(3):
                optimizer.zero_grad()
                loss = torch.stack([term.mean() for term in model.latent_loss(z, given).values()]).sum()
                loss.backward()
                optimizer.step()
                losses.append(loss.item())
        assert losses[:3] == pytest.approx(losses[3:], rel=1e-3)

    @pytest.mark.parametrize("build", MODELS, ids=lambda build: build.__name__)
    def test_every_model_standardises_once(self, build):
        model = build()
        own = [part for name, part in model.named_modules() if isinstance(part, Standardise) and "latents" not in name]
        assert len(own) == 1
        assert own[0].shape == (FEATURES,)

    @pytest.mark.parametrize("steps", [1, 5])
    @pytest.mark.parametrize(
        "build",
        [
            lambda n: diffusion(sampler=Heun(n)),
            lambda n: flow_matching(sampler=Midpoint(n)),
            lambda n: flow_map(steps=n),
            lambda n: unet_diffusion(SPATIAL, sampler=Heun(n)),
            lambda n: controlnet(sampler=DDIM(n)),
        ],
        ids=["diffusion", "flow_matching", "flow_map", "unet", "controlnet"],
    )
    def test_it_is_encoded_once_for_a_sample_whatever_the_steps(self, build, steps):
        model, counted = build(steps), []
        for part in standardisations(model):
            part.register_forward_hook(lambda *_: counted.append(1))
        h = torch.randn(2, *model.feature_shape)
        model.transport(torch.randn(2, *model.noise_shape), h)
        assert len(counted) == 1

    @pytest.mark.parametrize(
        "network", [MLP(16, 1), UNet([16, 16]), Upsampler(16, 1, 8), Mixer(16, 1, 8)], ids=lambda n: type(n).__name__
    )
    def test_an_unconditional_network_takes_none(self, network):
        built = network.build(SHAPE, [])
        assert built.condition(None) is None
        assert built.condition(torch.ones(2, 5)) is None
        z, t, _ = state()
        assert not built(z, (t,), None).any()  # it starts as the zero function


class TestBuild:
    def test_hyperparameters_stay_without_layers_and_are_described(self):
        network = mlp()
        first, second = (network.build((LATENT,), (FEATURES,)) for _ in range(2))
        assert not list(network.parameters())
        assert first is not second
        assert describe(first) == describe(network)
        twin = build(describe(first)).build((LATENT,), (FEATURES,))
        twin.load_state_dict(first.state_dict())

    def test_it_varies_slowly_in_time_where_the_objective_has_the_derivative(self):
        assert flow_map().network.time.frequencies.max() == pytest.approx(2 * torch.pi)
        assert flow_matching().network.time.frequencies.max() == pytest.approx(100 * torch.pi)
        own = MLP(16, 1, max_frequency=5.0).build((LATENT,), (FEATURES,), differentiated=True)
        assert own.time.frequencies.max() == pytest.approx(5 * torch.pi)

    def test_an_mlp_flattens_maps(self):
        network = randomised_network(mlp().build(SHAPE, SPATIAL))
        z, t, h = state(features=SPATIAL)
        output = network(z, (t,), network.condition(h))
        assert output.shape == z.shape
        assert not torch.equal(output, network(z, (t,), network.condition(h.flip(3))))


@pytest.mark.parametrize("features", [[FEATURES], SPATIAL], ids=str)
@pytest.mark.parametrize("kind", [Upsampler, Mixer], ids=lambda kind: kind.__name__)
def test_a_network_of_maps_serves_every_objective(kind, features):
    """It sees the state at every place, the time and the representation, and has forward-mode derivatives."""
    network = randomised_network(kind(16, 1, 8).build(SHAPE, features, times=2))
    z, t, h = state(features=features)
    told = network.condition(h)
    output = network(z, (t, t), told)
    assert output.shape == z.shape
    others = (network(z, (t, 1 - t), told), network(z.flip(1), (t, t), told), network(z, (t, t), told.flip(0)))
    assert not any(torch.allclose(output, other) for other in others)
    model = FlowMap(Identity(SHAPE), features, kind(16, 1, 8))
    sum(term.mean() for term in model.latent_loss(z, h).values()).backward()


@pytest.mark.parametrize("features", [[5], [5, 2, 2]], ids=str)
def test_an_upsampler_tells_places_apart_if_its_condition_is_a_vector(features):
    """The same state and condition everywhere: far from the border, convolutions alone give the same everywhere."""
    network = randomised_network(Upsampler(16, 1, 8).build((3, 96, 96), features))
    h = torch.randn(2, 5, generator=seeded("places")).reshape(2, 5, *[1] * (len(features) - 1)).expand(2, *features)
    output = network(torch.ones(2, 3 * 96 * 96), (torch.ones(2),), network.condition(h)).unflatten(1, (3, 96, 96))
    inner = output[:, :, 40:56:4, 40:56:4]  # the same corner of each square
    assert (inner.std((2, 3)).max() > 1e-3) == (len(features) == 1)


def test_a_mixer_sees_all_places_in_one_block():
    """A change at one place changes the output at all others, which a convolution does not reach."""
    network = randomised_network(Mixer(16, 1, 8).build((2, 8, 8), [FEATURES]))
    z, h = torch.randn(1, 2, 8, 8, generator=seeded("mixer")), torch.ones(1, FEATURES)
    moved = z.clone()
    moved[..., 0, 0] += 1
    first, second = (network(each.flatten(1), (torch.ones(1),), network.condition(h)) for each in (z, moved))
    assert (first - second).unflatten(1, (2, 8, 8)).abs().sum(1).min() > 0
    with pytest.raises(ValueError, match=r"Mixer: expected latents that are maps \(C, H, W\), got \[6\]"):
        Mixer(16, 1, 8).build((6,), [FEATURES])


def test_an_upsampler_sees_all_of_a_fine_condition():
    """A checkerboard and its opposite have the same mean in each square, and are told apart."""
    features = [1, 8, 8]
    network = randomised_network(Upsampler(16, 1, 8).build((3, 16, 16), features))
    places = torch.arange(8)
    board = ((places[:, None] + places) % 2).float().expand(1, 1, 8, 8)
    told = [network.condition(h) for h in (board, 1 - board)]
    assert told[0].shape[2:] == (4, 4)
    z = torch.ones(1, 3 * 16 * 16)
    assert (network(z, (torch.ones(1),), told[0]) - network(z, (torch.ones(1),), told[1])).abs().max() > 1e-3


def randomised_network(network):
    for p in network.parameters():
        p.data += 0.1 * torch.randn(p.shape, generator=seeded("network", p.numel()))
    return network


@pytest.mark.parametrize("features", [[FEATURES], SPATIAL], ids=str)
def test_with_the_weights_of_an_unconditional_model_it_starts_as_that_model(features):
    prior = unet_diffusion([])
    torch.manual_seed(4)
    arguments = prior.arguments | {"feature_shape": features}
    model = Diffusion(**arguments)
    left = model.load_state_dict(prior.state_dict(), strict=False)
    assert not left.unexpected_keys
    z, t, h = state(features=features)
    torch.testing.assert_close(model.denoiser(h)(z, t), prior.denoiser()(z, t))
    assert not torch.equal(*(randomised(model).denoiser(each)(z, t)[0] for each in (h, h.flip(0))))


def test_a_flow_map_starts_as_the_velocity_field_whose_weights_it_has():
    field = unet_diffusion()
    model = FlowMap(field.latents, [FEATURES], UNet([16, 16]))
    assert not model.load_state_dict(field.state_dict(), strict=False).unexpected_keys
    z, t, h = state()
    data, noise = field.denoiser(h)(z, t)
    length = ((1 - t).square() + t.square()).sqrt()[:, None]
    alpha, sigma = field.schedule.alpha(t)[:, None], field.schedule.sigma(t)[:, None]
    output = alpha * noise - sigma * data  # the network's, of either
    for r in (t, torch.zeros_like(t)):
        torch.testing.assert_close(
            model.average_velocity(z, r, t, model.network.condition(h)), output, atol=1e-5, rtol=1e-4
        )
    assert length.min() > 0.7


def test_on_the_straight_path_the_objective_is_that_of_flow_matching_with_a_weight_of_the_time():
    """The velocity `e - z` is the same linear function of the output and the state, over the path's length."""
    model = unet_diffusion(schedule="straight", objective="velocity")
    z, _, h = state(16)
    torch.manual_seed(0)
    terms = model.latent_loss(z, h)
    torch.manual_seed(0)
    noise = torch.randn_like(z)
    t = (torch.rand(()) + torch.arange(16) / 16) % 1
    length = ((1 - t).square() + t.square()).sqrt()[:, None]
    state_ = torch.lerp(z, noise, t[:, None]) / length
    data, found = model.denoiser(h)(state_, t)
    error = ((found - data) - (noise - z)).square().mean(1)
    torch.testing.assert_close(terms["velocity"], error * length[:, 0] ** 2, atol=1e-5, rtol=1e-4)


def test_the_noise_objective_is_the_velocity_objective_times_alpha_squared():
    losses = []
    for objective in ("noise", "velocity"):
        model = unet_diffusion(schedule="cosine", objective=objective)
        z, _, h = state(8)
        torch.manual_seed(0)
        losses.append(next(iter(model.latent_loss(z, h).values())))
    torch.manual_seed(0)
    torch.randn_like(z)
    alpha = SCHEDULES["cosine"].alpha((torch.rand(()) + torch.arange(8) / 8) % 1)
    torch.testing.assert_close(losses[0], losses[1] * alpha.square(), atol=1e-5, rtol=1e-3)


def test_control_of_zeros_changes_nothing_and_other_control_does():
    model = unet_diffusion([])
    z, t, _ = state()
    seen = {}

    def control(size: float):
        def residuals(sample, times, prompt):
            seen.update(sample=sample, times=times, prompt=prompt)
            skips, middle = [], None
            hook = model.unet.mid_block.register_forward_hook(lambda m, i, o: seen.update(middle=o))
            with torch.no_grad():
                model.unet(sample, times, None)
            hook.remove()
            middle = torch.full_like(seen["middle"], size)
            for channels, side in ((16, 14), (16, 14), (16, 7), (16, 7)):
                skips.append(torch.full((len(sample), channels, side, side), size))
            return tuple(skips), middle

        return residuals

    alone = model.denoiser()(z, t)
    torch.testing.assert_close(model.controlled(z, t, control(0.0)), alone)
    assert seen["sample"].shape == (3, 12, 14, 14)
    torch.testing.assert_close(seen["times"], 10 * t)
    assert seen["prompt"] is None
    assert (model.controlled(z, t, control(0.5))[0] - alone[0]).abs().max() > 1e-3


def test_a_map_is_told_where_it_belongs():
    """What changes in one corner of the representation changes most in that corner of the image."""
    model = unet_diffusion([5, 7, 7])
    z, t, _ = state(1)
    h = torch.randn(1, 5, 7, 7, generator=seeded("h"))
    other = h.clone()
    other[:, :, 0, 0] += 3
    vector = [h - h.mean((2, 3), keepdim=True), other - other.mean((2, 3), keepdim=True)]  # the mean is told, too
    first, second = (model.denoiser(each)(z, t)[0].unflatten(1, SHAPE) for each in vector)
    change = (first - second).abs().mean((0, 1))
    assert change[:10, :10].mean() > 2 * change[18:, 18:].mean()


@pytest.mark.parametrize(
    "make", [unet_diffusion, partial(unet_flow_map, derivative="difference")], ids=["diffusion", "flow_map"]
)
def test_checkpointing_changes_no_gradient(make):
    gradients = []
    for checkpointing in (False, True):
        model = make(unet={"checkpointing": checkpointing}).train()
        z, _, h = state()
        torch.manual_seed(0)
        sum(term.mean() for term in model.latent_loss(z, h).values()).backward()
        gradients.append([p.grad for p in model.parameters()])
    torch.testing.assert_close(*gradients)


def test_attention_is_on_the_coarsest_levels():
    networks = [UNet([16, 16], patch=1, attention=n).build((3, 16, 16), ()).network for n in (0, 1, 2)]
    kinds = [["Attn" in type(block).__name__ for block in network.down_blocks] for network in networks]
    assert kinds == [[False, False], [False, True], [True, True]]


class TestTeacher:
    def test_its_velocity_takes_the_place_of_the_samples(self):
        teacher = unet_diffusion()
        model = unet_flow_map(teacher=teacher, instantaneous=0.99)
        z, t, h = state()
        noise = torch.randn_like(z)
        z_t = torch.lerp(z, noise, t[:, None])
        length = ((1 - t).square() + t.square()).sqrt()[:, None]
        data, found = teacher.denoiser(h)(z_t / length, t)
        target = model.target(z_t, t, t, h, torch.full_like(z, torch.nan))
        torch.testing.assert_close(target, found - data, atol=1e-4, rtol=1e-3)

    def test_one_of_another_path_is_refused(self):
        with pytest.raises(ValueError, match="path 'straight'"):
            unet_flow_map(teacher=unet_diffusion(schedule="cosine"))


class TestBadInput:
    def test_a_vector_for_a_map(self):
        with pytest.raises(
            ValueError, match=r"UNet: .*a vector, \[5\].*a spatial map, \[5, 4, 4\]: give the model feature"
        ):
            unet_diffusion(SPATIAL).sample(torch.zeros(2, 5))

    @pytest.mark.parametrize("make", [diffusion, flow_matching, flow_map, unet_diffusion, unet_flow_map])
    def test_a_map_for_a_vector(self, make):
        with pytest.raises(ValueError, match=r"a spatial map, \[5, 4, 4\].*built for a vector, \[6\]"):
            make().sample(torch.zeros(2, *SPATIAL))

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"channels": [10]}, "multiples of 16"),
            ({"channels": []}, "multiples of 16"),
            ({"patch": 0}, "patch at least 1"),
            ({"patch": 3}, r"multiples of 6, got \[3, 28, 28\]"),
            ({"channels": [16] * 4}, r"multiples of 16, got \[3, 28, 28\]"),
            ({"attention": 3}, "from 0 to 2 levels, got 3"),
        ],
    )
    def test_options_of_a_unet(self, options, message):
        with pytest.raises(ValueError, match=f"UNet: .*{message}"):
            unet_diffusion(unet=options)

    def test_shapes_that_are_no_maps(self):
        with pytest.raises(ValueError, match=r"feature_shape must be \[\], \[D\] or \[C, H, W\], got \[2, 2\]"):
            unet_diffusion([2, 2])
        with pytest.raises(ValueError, match=r"UNet: .*maps \(C, H, W\).*got \[6\]"):
            Diffusion(diffusion().latents, [FEATURES], UNet())

    def test_options_of_an_mlp(self):
        for options, message in (({"width": 0}, "width"), ({"blocks": -1}, "blocks"), ({"time_dim": 3}, "dim must be")):
            with pytest.raises(ValueError, match=message):
                MLP(**options).build((LATENT,), (FEATURES,))

    @pytest.mark.parametrize("options", [{"attention": 1}, {"checkpointing": True}], ids=str)
    def test_forward_mode_without_forward_derivatives(self, options):
        with pytest.raises(ValueError, match="'difference' with attention or checkpointing"):
            unet_flow_map(unet=options)
        assert isinstance(unet_flow_map(unet=options, derivative="difference"), FlowMap)

    def test_what_a_controlnet_cannot_steer(self):
        with pytest.raises(ValueError, match=r"Diffusion: network: expected one that a ControlNet can steer.*got MLP"):
            diffusion(feature_shape=[]).unet  # noqa: B018
