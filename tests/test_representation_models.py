"""UNets that are told a representation."""

import pytest
import torch
from cases import FEATURES, randomised, representation_diffusion, representation_flow_map
from fibermodels.models.mean_flow import MeanFlow

from fibermodels.core import LatentSpace
from fibermodels.diffusion import SCHEDULES
from fibermodels.latents import Identity
from fibermodels.models import Diffusion, RepresentationDiffusion, RepresentationFlowMap
from fibermodels.nn import ConditionalUNet
from fibermodels.noise import seeded

SPATIAL = [5, 4, 4]
SHAPE = (3, 28, 28)


def state(rows: int = 3, features: list[int] | None = None):
    """Latents, times and representations."""
    generator = seeded("state")
    z = torch.randn(rows, 3 * 28 * 28, generator=generator)
    return z, torch.rand(rows, generator=generator), torch.randn(rows, *(features or [FEATURES]), generator=generator)


@pytest.mark.parametrize("features", [[FEATURES], SPATIAL], ids=str)
def test_with_the_weights_of_an_unconditional_model_it_starts_as_that_model(features):
    prior = representation_diffusion(feature_shape=[])
    model = RepresentationDiffusion(Identity(SHAPE, 2.0), features, channels=[16, 16], steps=2)
    left = model.load_state_dict(prior.state_dict(), strict=False)
    assert not left.unexpected_keys
    z, t, h = state(features=features)
    torch.testing.assert_close(model.denoiser(h)(z, t), prior.denoiser()(z, t))
    assert not torch.equal(*(randomised(model).denoiser(each)(z, t)[0] for each in (h, h.flip(0))))


def test_a_flow_map_starts_as_the_velocity_field_whose_weights_it_has():
    field = representation_diffusion()
    model = RepresentationFlowMap(Identity(SHAPE, 2.0), [FEATURES], channels=[16, 16])
    assert not model.load_state_dict(field.state_dict(), strict=False).unexpected_keys
    z, t, h = state()
    data, noise = field.denoise(z, t, h)
    length = ((1 - t).square() + t.square()).sqrt()[:, None]
    alpha, sigma = field.schedule.alpha(t)[:, None], field.schedule.sigma(t)[:, None]
    output = alpha * noise - sigma * data  # the network's, of either
    for r in (t, torch.zeros_like(t)):
        torch.testing.assert_close(model.average_velocity(z, r, t, h), output, atol=1e-5, rtol=1e-4)
    assert length.min() > 0.7


def test_on_the_straight_path_the_objective_is_that_of_flow_matching_with_a_weight_of_the_time():
    """The velocity `e - z` is the same linear function of the output and the state, over the path's length."""
    model = representation_diffusion(schedule="straight", objective="velocity")
    z, _, h = state(16)
    torch.manual_seed(0)
    terms = model.latent_loss(z, h)
    torch.manual_seed(0)
    noise = torch.randn_like(z)
    t = (torch.rand(()) + torch.arange(16) / 16) % 1
    length = ((1 - t).square() + t.square()).sqrt()[:, None]
    state_ = torch.lerp(z, noise, t[:, None]) / length
    data, found = model.denoise(state_, t, h)
    error = ((found - data) - (noise - z)).square().mean(1)
    torch.testing.assert_close(terms["velocity"], error * length[:, 0] ** 2, atol=1e-5, rtol=1e-4)


def test_the_noise_objective_is_the_velocity_objective_times_alpha_squared():
    losses = []
    for objective in ("noise", "velocity"):
        model = representation_diffusion(schedule="cosine", objective=objective)
        z, _, h = state(8)
        torch.manual_seed(0)
        losses.append(next(iter(model.latent_loss(z, h).values())))
    torch.manual_seed(0)
    torch.randn_like(z)
    alpha = SCHEDULES["cosine"].alpha((torch.rand(()) + torch.arange(8) / 8) % 1)
    torch.testing.assert_close(losses[0], losses[1] * alpha.square(), atol=1e-5, rtol=1e-3)


def test_control_of_zeros_changes_nothing_and_other_control_does():
    model = representation_diffusion(feature_shape=[])
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

    alone = model.denoise(z, t, None)
    torch.testing.assert_close(model.controlled(z, t, control(0.0)), alone)
    assert seen["sample"].shape == (3, 12, 14, 14)
    torch.testing.assert_close(seen["times"], 10 * t)
    assert seen["prompt"] is None
    assert (model.controlled(z, t, control(0.5))[0] - alone[0]).abs().max() > 1e-3


def test_a_map_is_told_where_it_belongs():
    """What changes in one corner of the representation changes most in that corner of the image."""
    model = representation_diffusion(feature_shape=[5, 7, 7])
    z, t, _ = state(1)
    h = torch.randn(1, 5, 7, 7, generator=seeded("h"))
    other = h.clone()
    other[:, :, 0, 0] += 3
    vector = [h - h.mean((2, 3), keepdim=True), other - other.mean((2, 3), keepdim=True)]  # the mean is told, too
    first, second = (model.denoise(z, t, each)[0].unflatten(1, SHAPE) for each in vector)
    change = (first - second).abs().mean((0, 1))
    assert change[:10, :10].mean() > 2 * change[18:, 18:].mean()


@pytest.mark.parametrize("cls", [RepresentationDiffusion, RepresentationFlowMap])
def test_checkpointing_changes_no_gradient(cls):
    gradients = []
    for checkpointing in (False, True):
        torch.manual_seed(4)
        options = {"derivative": "difference"} if cls is RepresentationFlowMap else {}
        model = cls(Identity(SHAPE, 2.0), [FEATURES], [16, 16], checkpointing=checkpointing, **options)
        model = randomised(model).train()
        z, _, h = state()
        torch.manual_seed(0)
        sum(term.mean() for term in model.latent_loss(z, h).values()).backward()
        gradients.append([p.grad for p in model.parameters()])
    torch.testing.assert_close(*gradients)


def test_attention_is_on_the_coarsest_levels():
    kinds = [
        [type(block).__name__ for block in ConditionalUNet((3, 16, 16), (), [16, 16], attention=n).network.down_blocks]
        for n in (0, 1, 2)
    ]
    assert [["Attn" in kind for kind in each] for each in kinds] == [[False, False], [False, True], [True, True]]


class TestTeacher:
    def test_its_velocity_takes_the_place_of_the_samples(self):
        teacher = representation_diffusion()
        model = representation_flow_map(teacher=teacher, instantaneous=0.99)
        z, t, h = state()
        noise = torch.randn_like(z)
        z_t = torch.lerp(z, noise, t[:, None])
        length = ((1 - t).square() + t.square()).sqrt()[:, None]
        data, found = teacher.denoise(z_t / length, t, h)
        target = model.target(z_t, t, t, h, torch.full_like(z, torch.nan))
        torch.testing.assert_close(target, found - data, atol=1e-4, rtol=1e-3)

    def test_one_of_another_path_is_refused(self):
        with pytest.raises(ValueError, match="path 'straight'"):
            representation_flow_map(teacher=representation_diffusion(schedule="cosine"))


class TestBadInput:
    def test_a_vector_for_a_map(self):
        model = representation_diffusion(feature_shape=SPATIAL)
        with pytest.raises(ValueError, match=r"a vector, \[5\].*a spatial map, \[5, 4, 4\]: give the model feature"):
            model.sample(torch.zeros(2, 5))

    @pytest.mark.parametrize("make", [representation_diffusion, representation_flow_map])
    def test_a_map_for_a_vector(self, make):
        with pytest.raises(ValueError, match=r"RepresentationDiffusion, ControlNetInverter.*where it is pooled"):
            make().sample(torch.zeros(2, *SPATIAL))

    def test_a_map_for_a_family_of_vectors(self):
        latents: LatentSpace = Identity((3, 4, 4))
        model = Diffusion(latents, FEATURES, width=8, blocks=1, steps=1)
        with pytest.raises(ValueError, match=r"spatial map, \[5, 4, 4\].*or cut the subject where it is pooled"):
            model.sample(torch.zeros(2, *SPATIAL))

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"feature_shape": [2, 2]}, r"feature_shape must be \[\], \[D\] or \[C, H, W\], got \[2, 2\]"),
            ({"channels": [10]}, "multiples of 16"),
            ({"channels": [16] * 4}, "multiples of 16, got 28 x 28"),
            ({"attention": 3}, "from 0 to 2 levels, got 3"),
            ({"objective": "data"}, r"one of \['noise', 'velocity'\], got 'data'"),
        ],
    )
    def test_options(self, options, message):
        with pytest.raises(ValueError, match=message):
            representation_diffusion(**options)

    def test_forward_mode_with_attention(self):
        with pytest.raises(ValueError, match="'difference' with attention"):
            representation_flow_map(attention=1)
        assert isinstance(representation_flow_map(attention=1, derivative="difference"), MeanFlow)
