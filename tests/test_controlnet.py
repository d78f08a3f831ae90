"""The ControlNet inverter: what it starts from, what it leaves alone, what its options mean."""

from typing import ClassVar

import pytest
import torch
from cases import FEATURES, controlnet, images, subject
from controllable import TinyPrior
from safetensors.torch import save_file

from fibermodels.diffusion import DDIM, unguided
from fibermodels.distances import rms
from fibermodels.guidance import DPS, NDTM, ConditionFeedback, Guided
from fibermodels.latents import Identity
from fibermodels.models import ControlNetInverter, FiberLoss
from fibermodels.nn.controlnet import ControlNet, input_size
from fibermodels.noise import seeded

ROWS = 4


@pytest.fixture(scope="module")
def z():
    return Identity((3, 28, 28), 2.0).encode(images(ROWS), None)


@pytest.fixture(scope="module")
def h():
    return torch.randn(ROWS, FEATURES, generator=seeded(1))


@pytest.fixture(scope="module")
def t():
    return torch.linspace(0.1, 0.9, ROWS)


class Watched(TinyPrior):
    """Notes what it is asked."""

    def controlled(self, z_t, t, control, prompted=None):
        def noted(maps, times, prompt):
            residuals = control(maps, times, prompt)
            self.seen = {"rows": len(z_t), "prompted": prompted, "residuals": residuals}
            return residuals

        return super().controlled(z_t, t, noted, prompted)


@pytest.mark.parametrize("shape", [(FEATURES,), (5, 4, 4)])
@pytest.mark.parametrize("schedule", ["cosine", "straight"])
def test_a_new_one_is_its_prior_exactly(z, t, shape, schedule):
    prior = TinyPrior(schedule)
    model = ControlNetInverter(prior, list(shape), width=8, sampler=DDIM(3)).eval()
    h = torch.randn(ROWS, *shape, generator=seeded(2))
    for ours, theirs in zip(model.denoiser(h)(z, t), prior.denoiser()(z, t), strict=True):
        assert torch.equal(ours, theirs)
    noise = torch.randn(z.shape, generator=seeded(3))
    assert torch.equal(model.transport(noise, h), DDIM(3)(unguided(prior.denoiser()), prior.schedule, noise))


def test_without_strength_a_trained_one_is_its_prior_too(z, t, h):
    with_, without = controlnet(), controlnet(control_strength=0.0)
    prior = TinyPrior().denoiser()(z, t)[0]
    assert torch.equal(without.denoiser(h)(z, t)[0], prior)
    assert (with_.denoiser(h)(z, t)[0] - prior).abs().mean() > 1e-3


def test_the_condition_acts(z, t, h):
    model = controlnet().eval()
    assert (model.estimate(z, t, h) - model.estimate(z, t, h.roll(1, 0))).abs().mean() > 1e-4


def test_a_spatial_condition_acts_where_it_is(z):
    """Of a prior that sees little context: a change in one corner of the map changes that corner most."""
    model = controlnet(feature_shape=(5, 4, 4)).eval()
    h, t = torch.randn(ROWS, 5, 4, 4, generator=seeded(4)), torch.full((ROWS,), 0.5)
    moved = h.clone()
    moved[:, :, 0, 0] = h[:, :, 0, 0].roll(1, 1)
    change = (model.estimate(z, t, moved) - model.estimate(z, t, h)).unflatten(1, (3, 28, 28)).abs().mean((0, 1))
    assert change[:9, :9].mean() > 3 * change[19:, 19:].mean()


@pytest.mark.parametrize("contrast", ["both", "prompt"])
def test_guidance_goes_away_from_what_is_left_out(z, t, h, contrast):
    prior = Watched(prompt=0.3)
    model = controlnet(prior, guidance_scale=1.75, contrast=contrast, control_strength=0.8).eval()
    guided = model.denoiser(h)(z, t)
    assert prior.seen["rows"] == 2 * ROWS  # one call
    assert prior.seen["prompted"].tolist() == [True] * ROWS + [False] * ROWS
    condition, no = model.condition(h), torch.zeros(ROWS, dtype=torch.bool)
    kept = condition if contrast == "prompt" else torch.zeros_like(condition)
    with_ = model.steered(z, t, condition, ~no, 0.8)
    without = model.steered(z, t, kept, no, 0.8)
    for ours, a, b in zip(guided, with_, without, strict=True):
        torch.testing.assert_close(ours, b + 1.75 * (a - b))
    alpha, sigma = model.schedule.alpha(t)[:, None], model.schedule.sigma(t)[:, None]
    torch.testing.assert_close(alpha * guided[0] + sigma * guided[1], z, atol=1e-5, rtol=0)
    assert model.network_calls == 2 * controlnet().network_calls


def test_map_and_prompt_are_left_out_together_in_training_alone(z, h):
    prior = Watched()
    model = controlnet(prior, dropout=0.5)
    rows = {"z": z.repeat(16, 1), "h": h.repeat(16, 1)}
    given = []
    model.control.network.controlnet_cond_embedding.register_forward_hook(lambda _, args, out: given.append(out))
    torch.manual_seed(0)
    model.latent_loss(**rows)
    prompted = prior.seen["prompted"]
    assert 0.3 < prompted.float().mean() < 0.7
    assert torch.equal(given[0].flatten(1).any(1), prompted)
    model.eval().latent_loss(**rows)
    assert prior.seen["prompted"].all()
    assert given[1].flatten(1).any(1).all()


def test_the_objectives_are_those_of_noise_and_velocity(z, h, t):
    """`F`'s error is that of the noise divided by alpha, whatever the network."""
    models = [controlnet(objective=name).eval() for name in ("noise", "velocity")]
    losses = []
    for model in models:
        torch.manual_seed(5)
        noise, start = torch.randn_like(z), torch.rand(())
        torch.manual_seed(5)
        losses.append(next(iter(model.latent_loss(z, h).values())))
    time = (start + torch.arange(ROWS) / ROWS) % 1
    expected = models[0].denoiser(h)(models[0].noised(z, noise, time), time)[1] - noise
    torch.testing.assert_close(losses[0], expected.square().mean(1))
    alpha = models[0].schedule.alpha(time)
    torch.testing.assert_close(losses[1] * alpha.square(), losses[0], rtol=1e-4, atol=1e-6)


def test_the_prior_stays_as_it_is(z, h):
    model = controlnet().train()
    assert not model.prior.unet.training
    before = {name: value.clone() for name, value in model.prior.state_dict().items()}
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    model.latent_loss(z, h)["noise"].mean().backward()
    optimizer.step()
    assert all(p.grad is None for p in model.prior.parameters())
    assert all(torch.equal(value, before[name]) for name, value in model.prior.state_dict().items())


def test_the_fiber_loss_reaches_the_encoder_through_one_call():
    model, phi, x = controlnet(), subject(), images(ROWS)
    target = phi(x)
    z = model.draw_latents(x, target)
    FiberLoss(1.0, estimate_below=0.3)(model, phi, target, z).mean().backward()
    assert all(p.grad is not None for p in (*model.encoder.parameters(), *model.control.parameters()))
    assert all(p.grad.abs().sum() > 0 for p in model.encoder.parameters())


@pytest.mark.parametrize("wrap", ["ndtm", "dps", "feedback"])
def test_guidance_and_feedback_work_on_it(wrap):
    phi, model = subject(), controlnet().eval()
    if wrap == "feedback":
        wrapped = ConditionFeedback(model, phi, 1)
    else:
        wrapped = Guided(model, phi, NDTM(inner=1) if wrap == "ndtm" else DPS(), sampler=DDIM(2))
    target = phi(images(2))
    samples, plain = (each.sample(target, 1, seeded(0))[0] for each in (wrapped, model))
    assert samples.shape == plain.shape == (2, 3, 28, 28)
    if wrap == "feedback":  # which keeps the best of what it tried, the first included
        assert (rms(phi(samples), target) <= rms(phi(plain), target) + 1e-6).all()
    else:
        assert not torch.equal(samples, plain)


@pytest.mark.slow
def test_it_learns_what_its_prior_cannot_know():
    """Images of one level each, which is told: near pure noise, where nothing else tells it, the data is found."""
    torch.manual_seed(0)

    def level(rows):
        h = torch.randn(rows, 1, generator=generator)
        return h.expand(-1, 3 * 28 * 28), h

    generator, prior = seeded(0), TinyPrior()
    model = ControlNetInverter(prior, [1], width=8, dropout=0.1, objective="velocity")
    prior.unet.requires_grad_(True)
    model.encoder.requires_grad_(False)
    for parameters in (prior.unet.parameters(), [*model.encoder.parameters(), *model.control.parameters()]):
        optimizer = torch.optim.AdamW(list(parameters), lr=3e-3)
        for _ in range(300):
            optimizer.zero_grad()
            model.latent_loss(*level(16))["velocity"].mean().backward()
            optimizer.step()
        prior.unet.requires_grad_(False)
        model.encoder.requires_grad_(True)
    model.eval()
    z, h = level(64)
    t = torch.full((64,), 0.95)
    with torch.no_grad():
        z_t = model.noised(z, torch.randn(z.shape, generator=generator), t)
        known, other = ((model.estimate(z_t, t, told) - z).square().mean() for told in (h, h.roll(1, 0)))
    assert known < 0.5 * other


class TestWeights:
    def test_a_file_holds_what_was_trained_alone(self, tmp_path, z, t, h):
        model, path = controlnet(), tmp_path / "inverter.safetensors"
        state, metadata = model.density()
        assert {name.split(".")[0] for name in state} == {"encoder", "control"}
        save_file(state, path, metadata)
        twin = ControlNetInverter(TinyPrior(), [FEATURES], width=8, sampler=DDIM(2), weights=str(path))
        assert torch.equal(twin.estimate(z, t, h), model.estimate(z, t, h))
        with pytest.raises(ValueError, match="expected the prior with fingerprint"):
            ControlNetInverter(TinyPrior(seed=1), [FEATURES], width=8, sampler=DDIM(2), weights=str(path))


class TestErrors:
    def test_a_map_for_a_vectors_model_says_what_to_change(self, z, t):
        with pytest.raises(ValueError, match=r"a spatial map, \[5, 4, 4\].*built for a vector"):
            controlnet().denoiser(torch.zeros(ROWS, 5, 4, 4))
        with pytest.raises(ValueError, match=r"h: expected representations of shape \(B, 6\), got None"):
            controlnet().denoiser()

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"dropout": 1.0}, "dropout: expected a number of at least 0 and below 1, got 1.0"),
            ({"control_strength": -1.0}, "control_strength: expected a number of at least 0, got -1.0"),
            ({"contrast": "map"}, "contrast must be one of"),
            ({"objective": "x"}, "objective must be one of"),
            ({"guidance_scale": 2.0, "dropout": 0.0}, "train with dropout"),
            ({"feature_shape": (2, 3)}, r"must be \[D\] or \[C, h, w\]"),
        ],
    )
    def test_bad_options(self, options, message):
        with pytest.raises(ValueError, match=message):
            controlnet(**options)


class TestControlNet:
    """The adapter, on UNets as those of text- and class-conditional priors."""

    SIZE: ClassVar = {
        "sample_size": 8,
        "in_channels": 4,
        "out_channels": 4,
        "layers_per_block": 1,
        "block_out_channels": (8, 16),
        "norm_num_groups": 4,
        "cross_attention_dim": 6,
        "attention_head_dim": 2,
    }

    def unet(self, **options):
        from diffusers import UNet2DConditionModel

        torch.manual_seed(0)
        return UNet2DConditionModel(
            down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
            **self.SIZE | options,
        )

    @pytest.mark.parametrize("classes", [None, 3])
    def test_residuals_fit_the_unet_and_are_zero_at_first(self, classes):
        unet = self.unet(num_class_embeds=classes)
        net = ControlNet(unet)
        x, times, prompt = torch.randn(2, 4, 8, 8), torch.tensor([3.0, 700.0]), torch.randn(2, 5, 6)
        map_ = torch.randn(2, unet.config.block_out_channels[0], *input_size(unet, (4, 8, 8)))
        down, middle = net(x, times, prompt, map_)
        assert not any(each.any() for each in (*down, middle))
        for p in net.parameters():
            p.data += 0.1 * torch.randn(p.shape)
        down, middle = net(x, times, prompt, map_)
        halves = net(x, times, prompt, map_, 0.5)
        torch.testing.assert_close((halves[0], halves[1]), (tuple(0.5 * each for each in down), 0.5 * middle))
        labels = None if classes is None else torch.tensor([0, 2])
        steered = unet(x, times, prompt, labels, None, None, None, None, down, middle).sample
        assert steered.shape == x.shape
        assert not torch.allclose(steered, unet(x, times, prompt, labels).sample)

    def test_checkpointing_changes_no_gradient(self):
        gradients = []
        for checkpointing in (False, True):
            unet = self.unet().requires_grad_(False)
            net = ControlNet(unet, checkpointing)
            torch.manual_seed(1)
            for p in net.parameters():
                p.data += 0.1 * torch.randn(p.shape)
            x, times, prompt = torch.randn(2, 4, 8, 8), torch.tensor([3.0, 700.0]), torch.randn(2, 5, 6)
            down, middle = net(x, times, prompt, torch.randn(2, 8, 8, 8))
            unet.train(), net.train()
            unet(x, times, prompt, None, None, None, None, None, down, middle).sample.square().mean().backward()
            gradients.append([p.grad for p in net.parameters()])
        torch.testing.assert_close(*gradients)

    def test_a_unet_with_patches_of_pixels(self):
        assert input_size(self.unet(in_channels=12), (3, 28, 20)) == (14, 10)
        with pytest.raises(ValueError, match="9 input channels does not fit maps of 4"):
            input_size(self.unet(in_channels=9), (4, 8, 8))

    def test_further_embeddings_are_refused(self):
        unet = self.unet()
        unet.register_to_config(addition_embed_type="text_time")
        with pytest.raises(ValueError, match="SDXL"):
            ControlNet(unet)
