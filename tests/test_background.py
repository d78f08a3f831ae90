"""Regions, attention and backgrounds: maps against the layers' own outputs, masks, and what stays bit by bit."""

import pytest
import torch
from cases import subject
from pipelines import tiny_pipeline
from test_prompted import Coarse, class_conditional, drawn
from torch.nn.functional import interpolate

from fibermodels.diffusion import DDIM, Pretrained
from fibermodels.diffusion.attention import attended_mask, attention_maps
from fibermodels.guidance import Attended, Background, Box, FiberDistance, NoiseOptimisation, Unguided
from fibermodels.noise import seeded


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return str(tiny_pipeline(tmp_path_factory.mktemp("pipelines") / "text", "text"))


@pytest.fixture(scope="module")
def pipeline(folder):
    return Pretrained(folder, prompt="a chest", negative_prompt="noise", guidance_scale=3.0)


def asked(prior, rows=2):
    z = torch.randn(rows, *prior.latents.latent_shape, generator=seeded("z"))
    return prior.denoiser()(z, torch.linspace(0.3, 0.9, rows))


class TestAttention:
    def test_maps_are_shares_of_the_tokens(self, pipeline):
        """Four layers of 8 x 8 and one of 4 x 4 places; rows of the prompt and of the null-text; twelve tokens."""
        with attention_maps(pipeline.unet) as maps:
            asked(pipeline)
        assert [tuple(each.shape) for each in maps] == [(4, places, 12) for places in (64, 16, 64, 64)]
        for each in maps:
            assert each.min() >= 0
            torch.testing.assert_close(each.sum(2), torch.ones(each.shape[:2]))

    def test_with_them_the_values_give_the_layers_output(self, pipeline):
        """Each layer has one value for all heads here, so that the mean over heads determines its output."""
        layers = [each for each in pipeline.unet.modules() if getattr(each, "is_cross_attention", False)]
        seen = []
        hooks = [
            layer.register_forward_hook(
                lambda module, given, kwargs, output: seen.append((module, kwargs["encoder_hidden_states"], output)),
                with_kwargs=True,
            )
            for layer in layers
        ]
        own = [layer.to_v.weight.data.clone() for layer in layers]
        for layer in layers:
            head = layer.to_v.weight.data[: layer.to_v.weight.shape[0] // layer.heads]
            layer.to_v.weight.data = head.repeat(layer.heads, 1)
            total = layer.to_out[0].weight.data.unflatten(1, (layer.heads, -1)).mean(1, keepdim=True)
            layer.to_out[0].weight.data = total.expand(-1, layer.heads, -1).flatten(1)
        try:
            with attention_maps(pipeline.unet) as maps:
                asked(pipeline)
        finally:
            for hook in hooks:
                hook.remove()
        assert len(seen) == len(maps)
        for (layer, text, output), attended in zip(seen, maps, strict=True):
            size = layer.to_v.weight.shape[0] // layer.heads
            values = attended @ layer.to_v(text)[..., :size]
            expected = layer.to_out[0](values.repeat(1, 1, layer.heads))
            torch.testing.assert_close(output, expected, rtol=1e-4, atol=1e-5)
        for layer, weight in zip(layers, own, strict=True):
            layer.to_v.weight.data = weight

    def test_reading_changes_no_bit_and_leaves_no_hook(self, pipeline):
        before = asked(pipeline)
        with attention_maps(pipeline.unet) as maps:
            during = asked(pipeline)
        count = len(maps)
        after = asked(pipeline)
        assert len(maps) == count
        for first, *others in zip(before, during, after, strict=True):
            assert all(torch.equal(first, each) for each in others)

    def test_a_network_that_reads_no_text_is_refused(self, tmp_path):
        unet = Pretrained(str(tiny_pipeline(tmp_path, "pixel"))).unet
        words = "expected a network with cross-attention, got UNet2DModel"
        with pytest.raises(ValueError, match=words), attention_maps(unet):
            pass


class TestMask:
    def test_it_is_the_mean_map_of_the_tokens_over_its_maximum(self):
        maps = [torch.rand(2, 12, 5, generator=seeded(i)) for i in range(3)]  # 4 x 3 places
        mean = torch.stack(maps).mean(0)[..., [1, 3]].mean(2).view(2, 1, 4, 3)
        large = interpolate(mean, (8, 6), mode="bilinear")
        expected = large / large.flatten(1).amax(1).view(2, 1, 1, 1)
        torch.testing.assert_close(attended_mask(maps, [1, 3], (3, 8, 6), 0.0), expected)
        found = attended_mask(maps, [1, 3], (3, 8, 6), 0.6)
        torch.testing.assert_close(found, expected * (expected >= 0.6))

    def test_a_token_that_is_looked_for_in_one_place_gives_that_place(self):
        maps = torch.zeros(1, 16, 2)
        maps[0, :, 0], maps[0, 5, 0], maps[0, 5, 1] = 1, 0, 1  # the second row and column of 4 x 4
        mask = attended_mask([maps], [1], (3, 16, 16), 0.3)[0, 0]
        assert mask[4:8, 4:8].min() > 0.3
        assert mask[10:].max() == 0
        assert mask[:, 10:].max() == 0

    def test_tokens_outside_of_the_prompt_are_refused(self):
        with pytest.raises(ValueError, match=r"tokens: expected places from 0 to 4, got \[5\]"):
            attended_mask([torch.rand(1, 4, 5)], [5], (2, 2), 0.3)


class TestRegions:
    def test_attended_reads_the_prompt_in_the_first_half_of_the_chain(self, pipeline):
        model, noise, h = drawn(pipeline, Coarse(), sampler=DDIM(4))
        images = model.push(noise, h)
        found = Attended([2, 3], 0.0)(model, noise, h, images)
        z, maps, times = noise, [], model.sampler.times(pipeline.schedule, noise)
        for i in range(2):
            t, s = times[i].expand(3), times[i + 1].expand(3)
            with attention_maps(pipeline.unet) as own:
                data, eps = pipeline.denoiser()(z, t)
            maps += [each[:3] for each in own]
            z = pipeline.schedule.alpha(s)[:, None] * data + pipeline.schedule.sigma(s)[:, None] * eps
        torch.testing.assert_close(found, attended_mask(maps, [2, 3], (16, 16), 0.0), rtol=1e-4, atol=1e-5)
        assert found.shape == (3, 1, 16, 16)
        assert found.min() >= 0
        assert found.max() == 1
        small = Attended([2, 3], 0.0, places=16)(model, noise, h, images)
        expected = attended_mask([each for each in maps if each.shape[1] == 16], [2, 3], (16, 16), 0.0)
        torch.testing.assert_close(small, expected, rtol=1e-4, atol=1e-5)

    def test_outside_is_the_rest(self, pipeline):
        model, noise, h = drawn(pipeline, Coarse())
        images = model.push(noise, h)
        for region in (lambda **own: Attended([1], **own), lambda **own: Box([1, 2, 3, 5], **own)):
            inside, outside = (region(outside=flag)(model, noise, h, images) for flag in (False, True))
            torch.testing.assert_close(inside + outside, torch.ones_like(inside))

    def test_a_box_is_its_pixels(self):
        images = torch.rand(2, 3, 6, 7)
        mask = Box([1, 2, 3, 5])(None, None, None, images)
        assert mask.sum() == 2 * 2 * 3
        assert (mask[:, :, 1:3, 2:5] == 1).all()

    def test_bad_options_are_named(self, folder, pipeline):
        for build, words in (
            (lambda: Box([0, 0, 0, 3]), "Box: box must be"),
            (lambda: Attended([]), "Attended: tokens must name places"),
            (lambda: Attended([1], 1.5), "Attended: threshold: expected"),
            (lambda: Attended([1], places=0), "Attended: places: expected"),
            (lambda: Background(Box([0, 0, 1, 1]), held=False), "Background: expected held, or a weight above 0"),
            (lambda: Background(Box([0, 0, 1, 1]), -1.0), "Background: weight: expected"),
        ):
            with pytest.raises(ValueError, match=words):
                build()
        model, noise, h = drawn(pipeline, Coarse())
        images = torch.zeros(3, 3, 16, 16)
        ignoring = Unguided(Pretrained(folder, prompt="a chest", guidance_scale=0.0), DDIM(2))
        classes = Unguided(class_conditional(), DDIM(2))
        for region, own, words in (
            (Box([0, 0, 17, 3]), model, "leaves the images of 16 x 16"),
            (Attended([12]), model, "expected places from 0 to 11"),
            (Attended([1], places=7), model, r"places: expected one of \[16, 64\], got 7"),
            (Attended([1]), ignoring, "follows its prompt, got guidance_scale 0"),
            (Attended([1]), classes, "an Unguided over a pipeline, got Diffusion"),
        ):
            with pytest.raises(ValueError, match=words):
                region(own, noise, h, images)


def optimised(background, phi=None, rows=3, **options):
    """A short optimisation over the class-conditional prior, its start, and the targets."""
    phi = phi or subject()
    model, noise, h = drawn(class_conditional(), phi, rows)
    own = {"steps": 4, "learning_rate": 0.3} | options
    found = NoiseOptimisation(model, phi, background=background, **own).optimise(noise, h)
    return found, model.push(noise, h).detach(), h


class TestBackground:
    def test_what_is_outside_of_the_region_stays_bit_by_bit(self):
        found, start, _ = optimised(Background(Box([5, 5, 20, 15])))
        inside = torch.zeros(28, 28, dtype=torch.bool)
        inside[5:20, 5:15] = True
        assert torch.equal(found[..., ~inside], start[..., ~inside])
        assert (found[..., inside] != start[..., inside]).double().mean() > 0.5

    def test_held_behind_the_decoder_the_cost_sees_the_held_image(self):
        """One step of gradient descent by hand, on the cost of m D(z) + (1 - m) x_0."""
        phi, box = subject(), Box([5, 5, 20, 15])
        model, noise, h = drawn(class_conditional(), phi)
        start = model.push(noise, h).detach()
        mask = box(model, noise, h, start)
        e = noise.clone().requires_grad_()
        cost = FiberDistance("squared")
        (slope,) = torch.autograd.grad(cost(phi, mask * model.push(e, h) + (1 - mask) * start, h).sum(), e)
        expected = mask * model.push(noise - 2 * slope, h) + (1 - mask) * start
        found = NoiseOptimisation(
            model, phi, cost, 1, 2.0, "sgd", judge=Later(cost), background=Background(box)
        ).optimise(noise, h)
        torch.testing.assert_close(found, expected.detach(), rtol=1e-4, atol=1e-5)

    def test_the_masked_distance_is_the_papers_and_adds_its_gradient(self):
        phi, box, weight = subject(), Box([5, 5, 20, 15], outside=True), 0.7
        model, noise, h = drawn(class_conditional(), phi)
        start = torch.rand(3, 3, 28, 28, generator=seeded("start"))
        mask = box(model, noise, h, start)
        e = noise.clone().requires_grad_()
        image, cost = model.push(e, h), FiberDistance("squared")
        loss = cost(phi, image, h) + weight * ((1 - mask) * (image - start)).square().sum((1, 2, 3))
        (slope,) = torch.autograd.grad(loss.sum(), e)
        expected = model.push(noise - 0.01 * slope, h)
        background = Background(box, weight, held=False)
        model_of = NoiseOptimisation(model, phi, cost, 1, 0.01, "sgd", background=background)
        torch.testing.assert_close(model_of.optimise(noise, h, start), expected.detach(), rtol=1e-4, atol=1e-5)
        kept = (start, mask)
        torch.testing.assert_close(model_of.evaluate(noise, h, h, kept=kept)[2], loss.detach(), rtol=1e-4, atol=1e-5)

    def test_a_heavy_distance_keeps_the_background_nearer(self):
        box = Box([5, 5, 20, 15])
        mask = box(None, None, None, torch.zeros(3, 3, 28, 28))
        free, start, _ = optimised(Background(box, 1e-6, held=False))
        tied, _, _ = optimised(Background(box, 10.0, held=False))
        far, near = (((1 - mask) * (each - start)).square().sum() for each in (free, tied))
        assert near < 0.5 * far

    def test_all_of_the_image_as_the_region_changes_nothing(self):
        found, _, _ = optimised(Background(Box([0, 0, 28, 28]), 3.0))
        plain, _, _ = optimised(None)
        assert torch.equal(found, plain)

    def test_a_given_image_is_the_background(self):
        phi = subject()
        model, noise, h = drawn(class_conditional(), phi)
        own = torch.rand(3, 3, 28, 28, generator=seeded("own"))
        background = Background(Box([5, 5, 20, 15]))
        found = NoiseOptimisation(model, phi, steps=2, background=background).optimise(noise, h, own)
        assert torch.equal(found[..., :5, :], own[..., :5, :])

    def test_a_row_knows_no_other(self, pipeline):
        model, noise, h = drawn(pipeline, Coarse())
        optimisation = NoiseOptimisation(
            model,
            Coarse(),
            steps=1,
            prompt_learning_rate=0.05,
            null_learning_rate=0.05,
            background=Background(Attended([1]), 0.1),
        )
        whole = optimisation.optimise(noise, h)
        parts = [optimisation.optimise(noise[i : i + 1], h[i : i + 1]) for i in range(3)]
        torch.testing.assert_close(torch.cat(parts), whole, rtol=1e-3, atol=1e-3)

    def test_calls_are_counted(self, pipeline):
        model, noise, h = drawn(pipeline, Coarse(), sampler=DDIM(4))
        optimisation = NoiseOptimisation(model, Coarse(), steps=1, background=Background(Attended([1])))
        calls = []
        hook = pipeline.unet.register_forward_hook(lambda *_: calls.append(1))
        try:
            optimisation.optimise(noise, h)
        finally:
            hook.remove()
        assert len(calls) == optimisation.network_calls == 4 * 2 + 4 + 2


class Later(FiberDistance):
    """A judge that prefers each image to those before."""

    def __init__(self, cost):
        super().__init__()
        self.cost, self.seen = cost, 0

    def forward(self, subject, images, h):
        self.seen += 1
        return torch.full((len(images),), -float(self.seen))
