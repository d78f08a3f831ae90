"""Pretrained pipelines as priors, tiny and random, against diffusers' own networks and samplers."""

import json
import shutil
from pathlib import Path

import diffusers
import pytest
import torch
from jsonargparse import ArgumentParser
from pipelines import KINDS, tiny_pipeline
from safetensors.torch import load_file, save_file
from torch import Tensor

from fibermodels.config import build, describe
from fibermodels.core import Subject
from fibermodels.diffusion import DDIM, SCHEDULES, Controllable, Pretrained, PretrainedUNet, Prior
from fibermodels.diffusion.parametrisation import Parametrisation
from fibermodels.guidance import NDTM, Guided
from fibermodels.latents import AutoencoderKL
from fibermodels.noise import seeded

CONDITION = {
    "pixel": {},
    "latent": {"class_label": 0, "null_label": 2},
    "text": {"prompt": "a chest", "negative_prompt": "noise"},
    "flow": {"class_label": 1},
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("pipelines")
    return {kind: str(tiny_pipeline(root / kind, kind)) for kind in KINDS}


@pytest.fixture
def broken(folders, tmp_path):
    """A copy of the pixel pipeline, to be damaged."""
    return shutil.copytree(folders["pixel"], tmp_path / "broken")


def prior(folders, kind, cls=Pretrained, **options):
    return cls(folders[kind], **CONDITION[kind] | options)


def states(model, rows=3, seed=0, dtype=torch.float32):
    z = torch.randn(rows, *model.latents.latent_shape, generator=seeded("states", seed), dtype=torch.double)
    return z.to(dtype), torch.linspace(0.2, 1, rows, dtype=dtype)


def straight(model, z, t):
    """State and time of flow matching's path."""
    alpha, sigma = model.schedule.alpha(t)[:, None], model.schedule.sigma(t)[:, None]
    return z / (alpha + sigma), (sigma / (alpha + sigma))[:, 0]


def asked(model, kind, z, t, told=True):
    """The network's own output `(B, D)`, asked by hand; with or without its condition."""
    maps, network = z.unflatten(1, model.latents.map_shape), model.unet
    row = 1 if told else 0
    if kind == "pixel":
        return network(maps, 1000 * t - 1).sample.flatten(1)
    if kind == "latent":
        label = torch.full((len(z),), 0 if told else 2)
        return network(maps, 1000 * t - 1, None, class_labels=label).sample.flatten(1)
    if kind == "text":
        text = model.text[row].expand(len(z), -1, -1)
        return network(maps, 1000 * t - 1, encoder_hidden_states=text).sample.flatten(1)
    y, s = straight(model, z, t)
    label = torch.full((len(z),), 1 if told else 2)
    output = network(y.unflatten(1, model.latents.map_shape), 1000 * s, class_labels=label).sample
    return output[:, :4].flatten(1)  # the other half is a variance


def output_of(model, kind, z, t):
    """The network's output, back from the denoiser's data and noise."""
    data, noise = model.denoiser()(z, t)
    alpha, sigma = model.schedule.alpha(t)[:, None], model.schedule.sigma(t)[:, None]
    return {"pixel": noise, "text": noise, "latent": alpha * noise - sigma * data, "flow": noise - data}[kind]


class TestParametrisation:
    @pytest.mark.parametrize("prediction", ["epsilon", "sample", "v_prediction", "flow"])
    def test_the_truth_gives_data_and_noise_exactly(self, prediction, folders):
        form = prior(folders, "flow" if prediction == "flow" else "pixel").parametrisation
        form = Parametrisation(form.schedule, prediction, form.table, form.steps)
        data, noise = (torch.randn(9, 5, generator=seeded("truth", i)).double() for i in (0, 1))
        t = torch.linspace(0.001, 1, 9, dtype=torch.double)
        alpha, sigma = form.schedule.alpha(t)[:, None], form.schedule.sigma(t)[:, None]
        truth = {"epsilon": noise, "sample": data, "v_prediction": alpha * noise - sigma * data, "flow": noise - data}
        found = form.estimates(truth[prediction], alpha * data + sigma * noise, t)
        for ours, expected in zip(found, (data, noise), strict=True):
            torch.testing.assert_close(ours, expected)

    @pytest.mark.parametrize("prediction", ["epsilon", "sample", "v_prediction", "flow"])
    def test_it_is_finite_at_the_data(self, prediction, folders):
        form = prior(folders, "flow" if prediction == "flow" else "pixel").parametrisation
        form = Parametrisation(form.schedule, prediction, form.table, form.steps)
        found = form.estimates(torch.ones(1, 2), torch.zeros(1, 2), torch.zeros(1))
        assert all(torch.isfinite(each).all() for each in found)

    def test_what_does_not_belong_together_is_refused(self):
        with pytest.raises(ValueError, match="'epsilon' and the scheduler do not belong together"):
            Parametrisation(SCHEDULES["straight"], "epsilon", None, 1000)
        with pytest.raises(ValueError, match=r"prediction_type must be one of .*got 'noise'"):
            Parametrisation(SCHEDULES["straight"], "noise", None, 1000)


class TestDenoiser:
    @pytest.mark.parametrize("kind", KINDS)
    @torch.no_grad()
    def test_it_is_the_network(self, kind, folders):
        model = prior(folders, kind)
        z, t = states(model)
        torch.testing.assert_close(output_of(model, kind, z, t), asked(model, kind, z, t), atol=2e-5, rtol=2e-5)
        data, noise = model.denoiser()(z, t)
        alpha, sigma = model.schedule.alpha(t)[:, None], model.schedule.sigma(t)[:, None]
        torch.testing.assert_close(alpha * data + sigma * noise, z, atol=1e-5, rtol=1e-5)

    def test_a_network_that_knows_the_noise_gives_the_data(self, folders, monkeypatch):
        model = prior(folders, "pixel").double()
        data, noise = (states(model, seed=seed, dtype=torch.double)[0] for seed in (1, 2))
        t = states(model, dtype=torch.double)[1]
        alpha, sigma = model.schedule.alpha(t)[:, None], model.schedule.sigma(t)[:, None]
        monkeypatch.setattr(model.unet, "forward", lambda maps, **options: (noise.view_as(maps),))
        found = model.denoiser()(alpha * data + sigma * noise, t)
        torch.testing.assert_close(found, (data, noise), atol=1e-9, rtol=0)

    @pytest.mark.parametrize("kind", ["latent", "text", "flow"])
    @pytest.mark.parametrize("scale", [0.0, 1.0, 3.0])
    @torch.no_grad()
    def test_guidance_is_free_of_a_classifier(self, kind, scale, folders):
        """Scale 1 is conditional, 0 unconditional, and others lie on the line through both."""
        model = prior(folders, kind, guidance_scale=scale)
        z, t = states(model)
        told, untold = (asked(model, kind, z, t, each) for each in (True, False))
        assert (told - untold).abs().max() > 1e-3, "a condition that the network does not see"
        expected = untold + scale * (told - untold)
        torch.testing.assert_close(output_of(model, kind, z, t), expected, atol=5e-5, rtol=5e-5)

    @pytest.mark.parametrize("kind", KINDS)
    def test_it_is_differentiable(self, kind, folders):
        """Along a random direction the gradient is the difference quotient."""
        model = prior(folders, kind).double()
        z, t = states(model, dtype=torch.double)
        direction = torch.randn(z.shape, generator=seeded("direction"), dtype=torch.double)
        z.requires_grad_()
        (slope,) = torch.autograd.grad(sum(each.sum() for each in model.denoiser()(z, t)), z)
        with torch.no_grad():
            ahead, behind = (sum(each.sum() for each in model.denoiser()(z + e * direction, t)) for e in (1e-5, -1e-5))
        assert (slope * direction).sum().item() == pytest.approx((ahead - behind).item() / 2e-5, rel=1e-5)

    def test_checkpointing_changes_no_gradient(self, folders):
        slopes = []
        for checkpointing in (False, True):
            model = prior(folders, "pixel", checkpointing=checkpointing)
            z, t = states(model)
            (slope,) = torch.autograd.grad(model.denoiser()(z.requires_grad_(), t)[1].sum(), z)
            slopes.append(slope)
        assert model.unet.is_gradient_checkpointing
        torch.testing.assert_close(*slopes)

    @pytest.mark.parametrize("kind", KINDS)
    @torch.no_grad()
    def test_half_precision_is_inside_the_network_alone(self, kind, folders):
        exact, half = prior(folders, kind), prior(folders, kind, dtype="bfloat16")
        assert next(half.unet.parameters()).dtype == torch.bfloat16
        z, t = states(exact)
        assert all(each.dtype == torch.float32 for each in half.denoiser()(z, t))
        error = output_of(half, kind, z, t) - output_of(exact, kind, z, t)
        assert 0 < error.abs().max() < 0.1

    def test_it_stays_frozen(self, folders):
        model = prior(folders, "latent").train()
        assert not any(module.training for module in model.modules())
        assert not any(parameter.requires_grad for parameter in model.parameters())

    @pytest.mark.parametrize("kind", KINDS)
    @torch.no_grad()
    def test_it_is_built_again_from_its_description(self, kind, folders):
        model = prior(folders, kind, spacing="even")
        again = build(json.loads(json.dumps(describe(model))), weights=False)
        again.load_state_dict(model.state_dict())
        z, t = states(model)
        torch.testing.assert_close(again.denoiser()(z, t), model.denoiser()(z, t))
        torch.testing.assert_close(again.decode(z), model.decode(z))


class TestSampling:
    @pytest.mark.parametrize(("kind", "scheduler"), [("pixel", {}), ("latent", {}), ("text", {})])
    @torch.no_grad()
    def test_ddim_is_that_of_diffusers_step_for_step(self, kind, scheduler, folders):
        model = prior(folders, kind, spacing="even")
        settings = json.loads((Path(folders[kind]) / "scheduler" / "scheduler_config.json").read_text())
        theirs = diffusers.DDIMScheduler.from_config(
            {key: value for key, value in settings.items() if key.startswith(("beta", "prediction"))},
            clip_sample=False,
            timestep_spacing="trailing",
        )
        theirs.set_timesteps(10)
        z, _ = states(model, 2)
        expected, state = [], z
        for step in theirs.timesteps:
            expected.append(state)
            output = asked(model, kind, state, (torch.full((2,), float(step)) + 1) / 1000)
            state = theirs.step(output, step, state, eta=0.0).prev_sample
        seen, denoise = [], model.denoiser()

        def look(z, t, s):
            seen.append(z)
            return denoise(z, t)

        last = DDIM(10)(look, model.schedule, z)
        for ours, reference in zip([*seen, last], [*expected, state], strict=True):
            scale = reference.abs().max()
            torch.testing.assert_close(ours / scale, reference / scale, atol=1e-4, rtol=0)

    @pytest.mark.parametrize("limit", [1.0, 0.4])
    @torch.no_grad()
    def test_data_are_clipped_as_the_scheduler_says(self, limit, tmp_path):
        """A step of DDIM with clipped data and the noise that belongs to them, by diffusers."""
        folder = tiny_pipeline(tmp_path, "pixel", clip_sample=True, clip_sample_range=limit)
        model = Pretrained(str(folder), spacing="even")
        theirs = diffusers.DDIMScheduler.from_pretrained(folder / "scheduler", timestep_spacing="trailing")
        theirs.set_timesteps(10)
        state, _ = states(model, 2)
        seen, denoise = [], model.denoiser()

        def look(z, t, s):
            seen.append(z)
            return denoise(z, t)

        last, inside = DDIM(10)(look, model.schedule, state), []
        for step, ours in zip(theirs.timesteps, [*seen[1:], last], strict=True):
            output = asked(model, "pixel", state, (torch.full((2,), float(step)) + 1) / 1000)
            found = theirs.step(output, step, state, eta=0.0, use_clipped_model_output=True)
            inside.append(found.pred_original_sample.abs().max() < limit)
            state = found.prev_sample
            torch.testing.assert_close(ours, state, atol=1e-3, rtol=1e-3)
        assert not any(inside)
        assert last.abs().max() <= limit

    @torch.no_grad()
    def test_flow_matching_is_euler_of_diffusers_step_for_step(self, folders):
        model = prior(folders, "flow", spacing="even")
        theirs = diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0)
        theirs.set_timesteps(sigmas=[1 - i / 8 for i in range(8)])  # it shifts these, once
        y, _ = states(model, 2)
        expected, state = [], y
        for step in theirs.timesteps:
            expected.append(state)
            maps = state.unflatten(1, model.latents.map_shape)
            output = model.unet(maps, step.expand(2), class_labels=torch.ones(2, dtype=torch.long)).sample[:, :4]
            state = theirs.step(output.flatten(1), step, state).prev_sample
        seen, denoise = [], model.denoiser()

        def look(z, t, s):
            seen.append(straight(model, z, t)[0])
            return denoise(z, t)

        last = DDIM(8)(look, model.schedule, y)
        for ours, reference in zip([*seen, last], [*expected, state], strict=True):
            torch.testing.assert_close(ours, reference, atol=1e-4, rtol=1e-4)

    def test_ndtm_guides_it(self, folders):
        """Closer to the fiber than the same prior, left alone."""
        model = prior(folders, "latent")
        subject = Means()
        h = subject(torch.rand(2, 3, 16, 16, generator=seeded("targets")))
        distance = {}
        for strength in (0.0, 1.0):
            guided = Guided(
                model,
                subject,
                NDTM(gamma=20.0, until=0.8, inner=4, learning_rate=0.1, kappa=0.0),
                sampler=DDIM(6),
                strength=strength,
            )
            images = guided.sample(h, 2, seeded("guided"))
            assert images.shape == (2, 2, 3, 16, 16)
            distance[strength] = (subject(images.flatten(0, 1)) - h.repeat(2, 1)).norm(dim=1).mean()
        assert distance[1.0] < 0.8 * distance[0.0]


class Means(Subject):
    """The mean colours of an image's quarters."""

    image_shape, feature_shape = (3, 16, 16), (12,)

    def forward(self, images: Tensor) -> Tensor:
        return torch.nn.functional.avg_pool2d(images, 8).flatten(1)


class TestControl:
    def residuals(self, model, rows, size=0.3):
        """Some of the right shapes: what the UNet itself passes along."""
        control = diffusers.ControlNetModel.from_unet(model.unet, conditioning_channels=3)
        torch.manual_seed(0)
        maps = torch.zeros(rows, *model.latents.map_shape)
        text = None if model.text is None else model.text[[1] * rows]
        labels = None if model.labels is None else model.labels[[1] * rows]
        image = torch.zeros(rows, 3, 64, 64)
        down, middle = control(maps, 1, text, image, class_labels=labels, return_dict=False)
        draw = [size * torch.randn(each.shape) for each in (*down, middle)]
        return tuple(draw[:-1]), draw[-1]

    @pytest.mark.parametrize("kind", ["latent", "text"])
    @torch.no_grad()
    def test_no_residuals_leave_the_denoiser(self, kind, folders):
        model = prior(folders, kind, PretrainedUNet)
        z, t = states(model)
        nothing = self.residuals(model, 3, 0.0)
        for ours, expected in zip(model.controlled(z, t, lambda *given: nothing), model.denoiser()(z, t), strict=True):
            torch.testing.assert_close(ours, expected)

    def test_residuals_reach_the_unet_and_gradients_come_back(self, folders):
        model = prior(folders, "text", PretrainedUNet)
        z, t = states(model)
        down, middle = self.residuals(model, 3)
        leaves = [each.requires_grad_() for each in (*down, middle)]
        given = []

        def control(maps, steps, text):
            given.extend((maps, steps, text))
            return down, middle

        prompted = torch.tensor([True, False, True])
        noise = model.controlled(z, t, control, prompted)[1]
        maps, steps, text = given
        torch.testing.assert_close(maps, z.unflatten(1, (4, 8, 8)))
        torch.testing.assert_close(steps, 1000 * t - 1)
        torch.testing.assert_close(text, model.text[[1, 0, 1]])
        expected = model.unet(
            maps, steps, text, down_block_additional_residuals=down, mid_block_additional_residual=middle
        ).sample
        torch.testing.assert_close(noise, expected.flatten(1))
        for slope in torch.autograd.grad(noise.square().sum(), leaves):
            assert slope.any()

    def test_what_a_controlnet_can_steer_is_a_type(self, folders):
        assert isinstance(prior(folders, "text", PretrainedUNet), Controllable)
        assert not isinstance(prior(folders, "text"), Controllable)
        with pytest.raises(ValueError, match="has a UNet2DModel: expected UNet2DConditionModel"):
            prior(folders, "pixel", PretrainedUNet)

    def test_rows_without_a_class_need_a_label_for_that(self, folders):
        model = prior(folders, "latent", PretrainedUNet, null_label=None)
        z, t = states(model)
        with pytest.raises(ValueError, match="give null_label"):
            model.controlled(z, t, lambda *given: self.residuals(model, 3), torch.zeros(3, dtype=torch.bool))


class TestText:
    @torch.no_grad()
    def test_the_prompt_is_embedded_by_the_pipelines_own_encoder(self, folders):
        from transformers import AutoTokenizer, CLIPTextModel

        model, home = prior(folders, "text"), Path(folders["text"])
        tokens = AutoTokenizer.from_pretrained(home / "tokenizer")(
            ["noise", "a chest"], padding="max_length", max_length=12, return_tensors="pt"
        )
        expected = CLIPTextModel.from_pretrained(home / "text_encoder")(tokens.input_ids).last_hidden_state
        torch.testing.assert_close(model.text, expected)
        assert not torch.allclose(model.text[0], model.text[1])

    @torch.no_grad()
    def test_embeddings_take_the_place_of_prompts(self, folders, tmp_path):
        model = prior(folders, "text", guidance_scale=2.0)
        untold, told = model.text
        file = tmp_path / "text.safetensors"
        save_file({"prompt_embeds": told[None].clone(), "negative_prompt_embeds": untold.clone()}, file)
        again = Pretrained(folders["text"], embeddings=str(file), guidance_scale=2.0)
        z, t = states(model)
        torch.testing.assert_close(again.denoiser()(z, t), model.denoiser()(z, t))

    def test_bad_text_is_refused(self, folders, tmp_path):
        with pytest.raises(ValueError, match="prompt 'a cat': the network reads no text"):
            Pretrained(folders["pixel"], prompt="a cat")
        with pytest.raises(ValueError, match="prompts or embeddings, not both"):
            Pretrained(folders["text"], prompt="a cat", embeddings="file")
        file = tmp_path / "text.safetensors"
        save_file({"prompt_embeds": torch.zeros(4, 8)}, file)
        with pytest.raises(ValueError, match=r"expected the tensors .*got \['prompt_embeds'\]"):
            Pretrained(folders["text"], embeddings=str(file))
        save_file({"prompt_embeds": torch.zeros(4, 9), "negative_prompt_embeds": torch.zeros(4, 9)}, file)
        with pytest.raises(ValueError, match="embeddings of width 8, got 9"):
            Pretrained(folders["text"], embeddings=str(file))
        other = shutil.copytree(folders["text"], tmp_path / "other") / "text_encoder" / "config.json"
        other.write_text(json.dumps(json.loads(other.read_text()) | {"architectures": ["T5EncoderModel"]}))
        with pytest.raises(ValueError, match="got T5EncoderModel: give embeddings"):
            Pretrained(str(tmp_path / "other"))
        bare = shutil.copytree(folders["text"], tmp_path / "bare")
        shutil.rmtree(bare / "text_encoder")
        with pytest.raises(FileNotFoundError, match="no text_encoder: give embeddings"):
            Pretrained(str(bare))


class TestFolders:
    @pytest.mark.parametrize("name", ["Pretrained", "PretrainedUNet"])
    def test_a_config_names_it(self, name, folders):
        parser = ArgumentParser(exit_on_error=False)
        parser.add_subclass_arguments(Prior, "prior", required=True)
        options = {"path": folders["text"], "prompt": "a cat", "guidance_scale": 2, "prediction_type": "v_prediction"}
        given = {"class_path": f"fibermodels.diffusion.{name}", "init_args": options}
        built = parser.instantiate_classes(parser.parse_object({"prior": given})).prior
        assert type(built).__name__ == name
        assert built.parametrisation.prediction == "v_prediction"

    def test_sizes_are_those_of_the_pipeline(self, folders):
        for kind in KINDS:
            assert prior(folders, kind).latents.image_shape == (3, 16, 16)
        assert prior(folders, "text", image_shape=[3, 32, 24]).latents.map_shape == (4, 16, 12)
        assert isinstance(prior(folders, "flow").latents, AutoencoderKL)

    @torch.no_grad()
    def test_parts_may_lie_side_by_side(self, folders, broken):
        """As in the folders of a lone network with its scheduler."""
        for name in ("unet", "scheduler"):
            for file in (broken / name).iterdir():
                file.rename(broken / file.name)
            (broken / name).rmdir()
        model, again = prior(folders, "pixel"), Pretrained(str(broken))
        z, t = states(model)
        torch.testing.assert_close(again.denoiser()(z, t), model.denoiser()(z, t))

    def test_a_name_on_a_hub_is_no_folder(self, broken):
        with pytest.raises(FileNotFoundError, match="nothing is downloaded from a hub: download 'google/ddpm-cat-256'"):
            Pretrained("google/ddpm-cat-256")
        with pytest.raises(FileNotFoundError, match="expected a folder of save_pretrained, got the file"):
            Pretrained(str(broken / "unet" / "config.json"))

    def test_damaged_weights_are_named(self, broken):
        weights = broken / "unet" / "diffusion_pytorch_model.safetensors"
        content = weights.read_bytes()
        for bad in (content[: len(content) // 2], b"", b"no safetensors at all"):
            weights.write_bytes(bad)
            with pytest.raises(ValueError, match="cannot load a UNet2DModel") as caught:
                Pretrained(str(broken))
            assert str(broken / "unet") in str(caught.value)
        weights.unlink()
        with pytest.raises(ValueError, match="cannot load a UNet2DModel"):
            Pretrained(str(broken))

    def test_every_weight_has_to_be_there(self, broken):
        """Diffusers would start the missing ones at random."""
        weights = broken / "unet" / "diffusion_pytorch_model.safetensors"
        state = load_file(weights)
        del state["mid_block.resnets.0.conv1.bias"]
        save_file(state, weights, {"format": "pt"})
        with pytest.raises(ValueError, match=r"lack 1 tensors, the first 'mid_block.resnets.0.conv1.bias'"):
            Pretrained(str(broken))

    @pytest.mark.parametrize(
        ("file", "content", "message"),
        [
            ("unet/config.json", "{", "is not JSON"),
            ("unet/config.json", "[1]", "expected a JSON object, got list"),
            (
                "unet/config.json",
                '{"_class_name": "UNet3DConditionModel"}',
                "holds a UNet3D.*, say UNet2DConditionModel",
            ),
            ("scheduler/scheduler_config.json", '{"_class_name": "EDMEulerScheduler"}', "holds a EDMEulerScheduler"),
            (
                "scheduler/scheduler_config.json",
                '{"_class_name": "DDIMScheduler", "rescale_betas_zero_snr": true}',
                "zero signal: expected 'v_prediction'",
            ),
            (
                "scheduler/scheduler_config.json",
                '{"_class_name": "PNDMScheduler", "beta_schedule": "wavy"}',
                "scheduler in '.*wavy",
            ),
        ],
    )
    def test_what_is_not_understood_is_named(self, broken, file, content, message):
        (broken / file).write_text(content)
        with pytest.raises(ValueError, match=message):
            Pretrained(str(broken))

    def test_missing_parts_are_named(self, broken):
        shutil.rmtree(broken / "scheduler")
        with pytest.raises(FileNotFoundError, match="no file '.*scheduler_config.json'"):
            Pretrained(str(broken))
        (broken / "scheduler_config.json").write_text('{"_class_name": "DDIMScheduler"}')
        shutil.rmtree(broken / "unet")
        with pytest.raises(FileNotFoundError, match="expected a folder 'unet' or 'transformer'"):
            Pretrained(str(broken))

    @pytest.mark.parametrize(
        ("kind", "options", "message"),
        [
            ("pixel", {"guidance_scale": 2.0}, "guidance_scale 2.0: the network has no condition"),
            ("pixel", {"class_label": 1}, "class_label 1, null_label None: the network knows no classes"),
            ("latent", {"class_label": None, "null_label": None}, "knows 3 classes: give class_label"),
            ("latent", {"class_label": 3}, "class_label must be from 0 to 2, got 3"),
            ("latent", {"null_label": None, "guidance_scale": 2.0}, "give null_label"),
            ("pixel", {"image_shape": [1, 16, 16]}, "takes maps of 3 channels, the latents have 1"),
            ("pixel", {"image_shape": [3, 17, 16]}, r"multiples of 2, got \[17, 16\]"),
            ("flow", {"image_shape": [3, 32, 32]}, r"sides are 8, got \[16, 16\]"),
            ("pixel", {"dtype": "float8"}, "dtype must be one of .* got 'float8'"),
            ("pixel", {"spacing": "odd"}, r"spacing must be one of \['angle', 'even'\], got 'odd'"),
            ("pixel", {"prediction_type": "flow"}, "'flow' and the scheduler do not belong together"),
            ("flow", {"prediction_type": "epsilon"}, "'epsilon' and the scheduler do not belong together"),
        ],
    )
    def test_options_that_do_not_fit_are_refused(self, kind, options, message, folders):
        with pytest.raises(ValueError, match=message):
            prior(folders, kind, **options)
