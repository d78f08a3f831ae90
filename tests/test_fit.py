"""The project in a few calls: live networks, images at hand, fit, sample, score, plot."""

import inspect
import math
import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningDataModule
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from torchvision import transforms

import fibermodels
from fibermodels.api.explore import as_prior
from fibermodels.api.exploring import main
from fibermodels.api.fit import as_subject, fit
from fibermodels.api.fitted import Fitted
from fibermodels.config import build, describe, given_again
from fibermodels.core import together
from fibermodels.data.given import as_bytes, as_data, gathered
from fibermodels.data.in_memory import InMemory
from fibermodels.models import EnergyScore, FlowMap
from fibermodels.spaces import ImageSpace
from fibermodels.subjects import FilterEnergies, Live, Timm
from fibermodels.subjects.live import expected_input
from fibermodels.subjects.stages import first_stages
from fibermodels.training.planning import Plan, planned, step_seconds
from fibermodels.training.recipe import training


class Net(nn.Module):
    """Mean colours of quarters of an image, seen through a few layers."""

    def __init__(self):
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU())
        self.second = nn.Sequential(nn.Conv2d(8, 8, 3, 2, 1), nn.ReLU())
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5))

    def forward(self, x):
        return self.head(self.second(self.first(x)))


def net():
    torch.manual_seed(1)
    return Net()


def colours(count=60, size=8):
    """Images of one colour in each quarter."""
    small = torch.rand(count, 3, 2, 2, generator=torch.Generator().manual_seed(2))
    return nn.functional.interpolate(small, size, mode="nearest")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return fit(net(), colours(200), "second", 0.01, runs=tmp_path_factory.mktemp("runs"), batch_size=16, progress=False)


class TestLive:
    def test_the_network_stays_as_it_is(self):
        network = net().train()
        before = {name: value.clone() for name, value in network.state_dict().items()}
        subject = Live(network, "second", [3, 8, 8])
        subject(colours(4))
        assert network.training
        assert all(p.requires_grad for p in network.parameters())
        assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
        assert not any(p.requires_grad for p in subject.parameters())

    def test_it_is_the_layer_of_the_normalised_image(self):
        network = net().eval()
        subject = Live(network, "second", [3, 8, 8], [0.5, 0.4, 0.3], [0.2, 0.2, 0.1])
        x = colours(4)
        given = (x - torch.tensor([0.5, 0.4, 0.3])[:, None, None]) / torch.tensor([0.2, 0.2, 0.1])[:, None, None]
        torch.testing.assert_close(subject(x), network.second(network.first(given)))
        assert subject.feature_shape == (8, 2, 2)

    def test_layers_of_one_network_are_read_in_one_pass(self):
        network = net().eval().requires_grad_(False)
        passes = []
        network.first.register_forward_hook(lambda *_: passes.append(1))
        subjects = [Live(network, layer, [3, 8, 8]) for layer in ("first", "second")]
        passes.clear()
        together(subjects, colours(4))
        assert len(passes) == 1

    def test_its_description_lacks_the_network_which_is_given_again(self):
        subject = Live(net().eval(), "second", [3, 8, 8], [0.5] * 3, [0.2] * 3)
        described = describe([subject])
        assert described[0]["init_args"]["network"] is None
        with pytest.raises(ValueError, match="subject=network"):
            build(described)
        again = build(given_again(described, net().eval()))[0]
        torch.testing.assert_close(again(colours(4)), subject(colours(4)))

    def test_the_input_of_timm_and_of_transforms_is_known(self):
        network = net()
        network.pretrained_cfg = {"mean": (0.5, 0.5, 0.5), "std": (0.2, 0.2, 0.2), "input_size": (3, 224, 224)}
        assert expected_input(network) == ([0.5] * 3, [0.2] * 3, None)
        network.pretrained_cfg["fixed_input_size"] = True
        assert expected_input(network).size == [224, 224]
        steps = transforms.Compose([transforms.ToTensor(), transforms.Normalize([0.1, 0.2, 0.3], [1, 2, 3])])
        assert expected_input(network, steps) == ([0.1, 0.2, 0.3], [1, 2, 3], None)
        assert expected_input(net()) == (None, None, None)
        assert expected_input(net(), transforms.Normalize(0.5, 0.2)) == ([0.5] * 3, [0.2] * 3, None)

    def test_another_layer_of_the_same_network_has_its_weights(self):
        """Those of a network that starts at random, too, in each way to name it."""
        x, given = colours(2, 32), {"image_shape": [3, 32, 32], "mean": [0.5] * 3, "std": [0.2] * 3}
        timm = Timm("test_resnet", "layer1", [3, 32, 32], input_size=32, crop_pct=1.0)
        for subject in (Live(net(), "first", **given), timm):
            later = subject.at("logits")
            torch.testing.assert_close(later(x), subject.network(subject.preprocess(x)))

    def test_its_first_stages_are_the_last_modules_of_each_size(self):
        assert first_stages(Live(net(), "logits", [3, 8, 8]), "logits") == ("first", "second")

    def test_a_layer_that_holds_the_whole_network_has_its_stages_inside(self):
        whole = nn.Sequential(nn.Sequential(*list(net().children())[:2], nn.Conv2d(8, 8, 3, 2, 1)), nn.Flatten())
        assert first_stages(Live(whole, "0", [3, 16, 16]), "0") == ("0.0", "0.1")
        assert first_stages(Live(whole, "0.1", [3, 16, 16]), "0.1") == ("0.0",)
        assert first_stages(Live(whole, "0.0", [3, 16, 16]), "0.0") == ()

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"layer": "secnd"}, "did you mean"),
            ({"mean": [0.5] * 3}, "mean, std: expected both or none"),
            ({"space": ImageSpace((2, 8, 8))}, "does not take images of"),
        ],
    )
    def test_what_does_not_fit(self, options, message):
        with pytest.raises(ValueError, match=message):
            as_subject(**{"network": net(), "layer": "second", "space": ImageSpace((3, 8, 8))} | options)


class _Items(LightningDataModule):
    def train_dataloader(self):
        return DataLoader(TensorDataset(colours(40), torch.arange(40) % 3), 7)


def folder(path, count=40):
    for i, image in enumerate(colours(count, 12)):
        Image.fromarray((255 * image).byte().permute(1, 2, 0).numpy()).save(path / f"{i:03d}.png")
    return path


class TestImages:
    @pytest.mark.parametrize(
        "given",
        [
            lambda: colours(40),
            lambda: as_bytes(colours(40)),
            lambda: colours(40).numpy(),
            lambda: TensorDataset(colours(40), torch.arange(40) % 3),
            lambda: DataLoader(TensorDataset(colours(40)), 7),
            lambda: [{"pixel_values": x, "label": 1} for x in colours(40)],
            lambda: [(Image.fromarray((255 * x).byte().permute(1, 2, 0).numpy()), 1) for x in colours(40)],
            _Items,
        ],
        ids=["tensor", "bytes", "array", "dataset", "loader", "dictionaries", "pil", "data module"],
    )
    def test_every_kind_holds_the_same_images(self, given):
        data = as_data(given())
        parts = [data.split(name).images(slice(None)) for name in ("train", "val", "test")]
        assert [len(part) for part in parts] == [32, 4, 4]
        found, expected = torch.cat(parts), colours(40)
        distances = (found[:, None] - expected[None]).abs().amax((2, 3, 4))
        assert distances.min(1).values.max() <= 1 / 255
        assert len(set(distances.argmin(1).tolist())) == 40

    def test_a_folder(self, tmp_path):
        data = as_data(folder(tmp_path), size=8)
        assert data.split("train").images(slice(2)).shape == (2, 3, 8, 8)
        assert data.cache

    @pytest.mark.parametrize(("mode", "given", "shape"), [("L", None, 1), ("RGB", None, 3), ("RGB", 1, 1)])
    def test_grey_images_stay_grey_and_others_become_grey(self, tmp_path, mode, given, shape):
        for i in range(12):
            Image.new(mode, (12, 8), 20 * i if mode == "L" else (20 * i,) * 3).save(tmp_path / f"{i}.png")
        x = as_data(tmp_path, channels=given).split("train").images(slice(None))
        assert x.shape[1:] == (shape, 8, 12)
        assert all(any(abs(float(v) - 20 * i / 255) < 1e-6 for i in range(12)) for v in x.flatten(1)[:, 0])

    def test_labels_are_kept(self):
        pixels, labels = gathered(TensorDataset(colours(6), torch.tensor([3, 1, 4, 1, 5, 9])))
        assert pixels.shape == (6, 3, 8, 8)
        assert labels.tolist() == [3, 1, 4, 1, 5, 9]

    def test_mirror_images_are_half_and_new_in_every_epoch(self):
        images = InMemory(as_bytes(colours(400)), flip=True).split("train")
        plain = images.pixels.float() / 255
        seen = []
        for epoch in (0, 1):
            images.set_epoch(epoch)
            mirrored = (images.images() - plain.flip(-1)).abs().amax((1, 2, 3)) < 1e-6
            seen.append(mirrored)
            assert abs(mirrored.float().mean() - 0.5) < 4 * 0.5 / math.sqrt(len(images))
        assert not torch.equal(*seen)

    @pytest.mark.parametrize(
        ("given", "error", "message"),
        [
            (lambda: colours(40) * 2 - 1, ValueError, "before their normalisation"),
            (lambda: colours(40).long(), ValueError, "floating point in"),
            (lambda: colours(2), ValueError, "val_size"),
            (lambda: 3, TypeError, "expected a folder, a tensor"),
            (lambda: [{"pictures": 1}], TypeError, "expected one of the keys"),
            (lambda: "/no/such/folder", FileNotFoundError, "no/such/folder"),
            (lambda: [np.zeros((4, 4))], TypeError, "expected a tensor, an image of PIL"),
            (lambda: [colours(1, 8)[0], colours(1, 12)[0]], ValueError, "of one shape"),
        ],
    )
    def test_what_is_no_images(self, given, error, message):
        with pytest.raises(error, match=message):
            as_data(given())


class TestFit:
    def test_it_leaves_a_run_as_the_command_line_does(self, run):
        names = {path.name for path in run.folder.iterdir()}
        assert {"checkpoints", "metrics.csv", "samples.png", "plan.json"} <= names
        assert repr(run).count("\n") == 0
        assert "Live(Net, second)" in repr(run)

    def test_samples(self, run):
        x = colours(3)
        assert run.sample(x[0], n=5).shape == (5, 3, 8, 8)
        assert run.sample(x, n=2).shape == (2, 3, 3, 8, 8)
        assert run.sample(list(x), n=2).shape == (2, 3, 3, 8, 8)
        h = run.subject((255 * x).round() / 255)
        torch.testing.assert_close(run.sample(h=h, n=2), run.sample(x, n=2))
        torch.testing.assert_close(run.sample(h=h[1], n=2).shape, torch.Size((2, 3, 8, 8)))
        assert not torch.equal(run.sample(x, n=2), run.sample(x, n=2, seed=1))

    def test_scores_stand_beside_the_nearest_neighbour(self, run):
        scores = run.score(10, 2)
        assert [row["name"] for row in scores.rows] == ["fibermodels", "nearest_neighbour"]
        assert scores["fiber_rms"] == scores.rows[0]["fiber_rms"]
        assert "nearest_neighbour" in repr(scores)

    def test_small_steps_after_it_are_nearer_to_the_fiber_and_hardly_move(self, run):
        images = colours(4)
        before, after = (each.sample(images, n=3, seed=5) for each in (run, run.refined(steps=8)))
        h = run.subject(images)
        off = [(run.subject(x.flatten(0, 1)).unflatten(0, (3, 4)) - h).square().mean() for x in (before, after)]
        assert off[1] < 0.9 * off[0]
        assert (after - before).abs().max() <= 8 * 0.001 * 1.5  # Adam's steps are about as large as its rate
        with pytest.raises(ValueError, match="expected a trained model, got a LatentDescent"):
            run.refined().save("anywhere")

    def test_a_figure_has_a_picture_for_each_image_and_sample(self, run):
        assert len(run.plot(colours(3), n=2).axes) == 9
        assert len(run.plot(n=1).axes) == 16

    def test_more_minutes_are_nearer_to_the_fiber(self, tmp_path):
        """The law of training: after some hundred steps, samples are nearer to their target than to another."""
        plan = {"width": 48, "precision": "32-true", "epochs": 2, "steps": 60, "seconds": 0.01, "batch": 16}
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("fibermodels.api.fit.planned", lambda *_: Plan(**plan))
            run = fit(net(), colours(400), "second", runs=tmp_path, batch_size=16, progress=False)
        scores = run.score(30, 2, neighbour=False)
        assert scores["fiber_rms"] < 0.6 * scores["fiber_rms_shuffled"]

    def test_an_earlier_run_is_kept_resumed_or_replaced(self, tmp_path):
        options = {"layer": "second", "minutes": 0.001, "runs": tmp_path, "batch_size": 16, "progress": False}
        fit(net(), colours(), **options)
        with pytest.raises(FileExistsError, match="resume=True, overwrite=True"):
            fit(net(), colours(), **options)
        steps = fit(net(), colours(), **options, resume=True).run.steps
        again = fit(net(), colours(), **options, overwrite=True)
        assert again.run.steps == steps
        with pytest.raises(FileNotFoundError, match="nothing to resume"):
            fit(net(), colours(), **options | {"name": "other"}, resume=True)

    def test_the_widest_generator_with_enough_steps_is_taken(self, monkeypatch):
        monkeypatch.setattr("fibermodels.training.planning.step_seconds", lambda module, *_: module.width / 128)
        monkeypatch.setattr("fibermodels.training.planning.fastest", lambda *_: "32-true")
        build = lambda width: type("Module", (nn.Module,), {"width": width})()  # noqa: E731
        x = colours(10)
        for minutes, width in ((60, 128), (6, 96), (4, 64), (1, 48)):
            plan = planned(build, x, 400, minutes, torch.device("cpu"), time.perf_counter())
            assert plan.width == width
            assert plan.steps <= 40
            assert abs(plan.epochs * plan.steps * width / 128 / (60 * minutes) - 0.85) < 0.1

    @pytest.mark.parametrize(("minutes", "batch"), [(5, 64), (1, 16), (0.1, 8)])
    def test_a_slow_machine_takes_smaller_batches(self, monkeypatch, minutes, batch):
        """A step of 64 images takes 0.5 seconds here; the minutes hold, and there are 400 steps if they can be."""
        monkeypatch.setattr("fibermodels.training.planning.step_seconds", lambda *_: 0.5)
        monkeypatch.setattr("fibermodels.training.planning.fastest", lambda *_: "32-true")
        start = time.perf_counter()
        plan = planned(lambda _: nn.Identity(), colours(64), 400, minutes, torch.device("cpu"), start)
        assert plan.batch == batch
        total = plan.epochs * plan.steps
        assert plan.seconds == pytest.approx(0.5 * batch / 64, abs=1e-4)
        assert abs(total * plan.seconds / (60 * minutes) - 0.85) < 0.1
        assert total >= 400 or batch == 8

    def test_a_first_step_with_preparations_does_not_decide(self, monkeypatch):
        """The first call prepares kernels and takes 8 seconds; later ones take 0.1."""
        calls = []

        def seconds_of(call, device, precision):
            calls.append(precision)
            return 8.0 if len(calls) == 1 else 0.1

        monkeypatch.setattr("fibermodels.training.planning.seconds_of", seconds_of)
        module = SimpleNamespace(learner=None)  # nothing is called
        assert step_seconds(module, colours(64), "32-true", patience=1.0) == 0.1

    def test_a_vector_has_a_linear_start_and_a_lower_rate_in_smaller_batches(self):
        subjects = (FilterEnergies([3, 16, 16]), Live(net(), "pooled", [3, 16, 16]))
        rates = [[training(own, 16, batch=batch).learning_rate for batch in (128, 64, 16)] for own in subjects]
        assert rates == [[0.007] * 3, [0.003, 0.003, 0.0015]]
        assert [training(own, 16).learner.linear is None for own in subjects] == [True, False]
        assert training(subjects[1], 16, learning_rate=0.02, batch=16).learning_rate == 0.02

    @pytest.mark.slow
    @pytest.mark.timeout(1800)
    def test_a_random_network_of_timm_at_64_pixels(self, tmp_path, monkeypatch):
        """Pooled, from a folder: after some steps, samples are nearer to their target than to another."""
        import timm

        photos = tmp_path / "photos"
        photos.mkdir()
        small = torch.rand(300, 3, 4, 4, generator=torch.Generator().manual_seed(2))
        for i, image in enumerate(nn.functional.interpolate(small, 64, mode="bilinear").clamp(0, 1)):
            Image.fromarray((255 * image).byte().permute(1, 2, 0).numpy()).save(photos / f"{i}.png")
        plan = Plan(48, "32-true", 2, 30, 1.0, 8)
        monkeypatch.setattr("fibermodels.api.fit.planned", lambda *_: plan)
        torch.manual_seed(0)
        given = {"layer": "pooled", "runs": tmp_path / "runs", "batch_size": 8, "progress": False}
        run = fit(timm.create_model("resnet18"), photos, **given)
        assert run.subject.feature_shape == (512,)
        assert run.sample(photos / "0.png", n=3).shape == (3, 3, 64, 64)
        scores = run.score(20, 2, neighbour=False)
        assert scores["fiber_rms"] < 0.9 * scores["fiber_rms_shuffled"]

    @pytest.mark.parametrize(
        ("options", "error", "message"),
        [
            ({"minutes": 0}, ValueError, "minutes"),
            ({"layer": "thrid"}, ValueError, "there is no 'thrid'"),
            ({"images": colours(40, 10)}, ValueError, "multiples of 4"),
        ],
    )
    def test_what_cannot_be_trained(self, tmp_path, options, error, message):
        given = {"network": net(), "images": colours(), "runs": tmp_path, "progress": False} | options
        with pytest.raises(error, match=message):
            fit(**given)

    def test_it_is_saved_and_loaded_with_the_network_again(self, run, tmp_path):
        """The weights come from the folder, the code of the network from the caller."""
        folder, x = run.save(tmp_path / "mine"), colours(3)
        other = net()
        for p in other.parameters():
            p.data += 1
        for again in (
            fibermodels.load(folder, subject=other),
            fibermodels.from_pretrained(folder, subject=other),
            fibermodels.load(run.folder / "checkpoints" / "last.ckpt", subject=other, data=run.data),
        ):
            torch.testing.assert_close(again.subject(x), run.subject(x))
            torch.testing.assert_close(again.sample(x, n=2), run.sample(x, n=2), atol=1e-4, rtol=0)
        assert again.score(6, 1, neighbour=False)["fiber_rms"] > 0
        with pytest.raises(ValueError, match="subject=network"):
            fibermodels.load(folder)
        with pytest.raises(FileExistsError, match="exists"):
            run.save(tmp_path / "mine")

    def test_what_cannot_be_sampled(self, run):
        for options, message in (
            ({}, "one of image and h"),
            ({"image": colours(1), "h": torch.zeros(8, 2, 2)}, "one of image and h"),
            ({"h": torch.zeros(3, 2)}, r"h: expected \[8, 2, 2\]"),
            ({"image": colours(1, 12)}, r"expected images \[3, 8, 8\]"),
        ):
            with pytest.raises(ValueError, match=message):
                run.sample(**options)
        with pytest.raises(ValueError, match="with its data"):
            Fitted(run.model, run.subject).score()


class TestExplore:
    @pytest.fixture(scope="class")
    def photo(self, tmp_path_factory):
        path = tmp_path_factory.mktemp("photo") / "one.png"
        Image.fromarray((255 * colours(1, 40)[0]).byte().permute(1, 2, 0).numpy()).save(path)
        return path

    def test_it_guides_the_committed_prior_to_the_fiber(self, photo):
        """Guided samples are nearer than unguided ones, of the same noise."""
        near = fibermodels.explore(net(), photo, "second", n=2, steps=6)
        assert near.samples.shape == (2, 3, 32, 32)
        assert near.image.shape == (3, 32, 32)
        assert near.fitted.model.strength == 1
        far = fibermodels.explore(net(), photo, "second", n=2, steps=6, gamma=1e-6)
        assert near.cosine.mean() > far.cosine.mean()
        h = near.fitted.subject(torch.cat((near.image[None], near.samples))).flatten(1)
        torch.testing.assert_close(near.cosine, torch.cosine_similarity(h[:1], h[1:]))
        assert repr(near).count("\n") == 0
        assert len(near.plot().axes) == 3
        assert near._repr_png_().startswith(b"\x89PNG")
        assert near.plot()._repr_png_().startswith(b"\x89PNG")  # a notebook shows what `plot` returns

    @pytest.mark.slow
    def test_it_guides_the_prior_in_a_folder_of_diffusers(self, photo, tmp_path):
        """An unconditional pipeline that diffusers saved, with random weights: the images have its size, and guidance
        brings each sample nearer to the target."""
        from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel

        small = {"sample_size": 16, "layers_per_block": 1, "block_out_channels": (8, 16), "norm_num_groups": 4}
        blocks = {"down_block_types": ("DownBlock2D",) * 2, "up_block_types": ("UpBlock2D",) * 2}
        torch.manual_seed(3)
        DDPMPipeline(UNet2DModel(**small, **blocks), DDPMScheduler()).save_pretrained(tmp_path / "ddpm")
        options = {"layer": "second", "prior": tmp_path / "ddpm", "n": 4, "steps": 8}
        near, far = (fibermodels.explore(net(), photo, gamma=gamma, **options) for gamma in (20.0, 1e-6))
        assert near.samples.shape == (4, 3, 16, 16)
        assert near.image.shape == (3, 16, 16)
        assert (near.cosine > far.cosine).all()

    def test_the_command(self, photo, tmp_path, capsys):
        given = ["--network", "examples.cifar_resnet.CifarResNet", "--layer", "layer1", "--image", str(photo)]
        options = [*given, "-n", "2", "--steps", "2", "--out", str(tmp_path / "out"), "--device", "cpu"]
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("FIBERMODELS_IMPORTS", "")
            main(options)
            assert {path.name for path in (tmp_path / "out").iterdir()} == {
                "samples.png",
                "sample-1.png",
                "sample-2.png",
            }
            assert "samples.png" in capsys.readouterr().out
            with pytest.raises(SystemExit):
                main(options)
        assert "exists" in capsys.readouterr().err

    @pytest.mark.parametrize(
        ("prior", "error", "message"),
        [
            ("/no/such/prior", FileNotFoundError, "no folder of a pipeline and no exported weights"),
            ("data/weights/cifar10/diffusion.safetensors", ValueError, "expected an unconditional prior"),
        ],
    )
    def test_what_is_no_prior(self, prior, error, message):
        with pytest.raises(error, match=message):
            as_prior(prior)


def test_signatures_tell_the_truth():
    assert list(inspect.signature(FlowMap).parameters)[:2] == ["latents", "feature_shape"]
    assert "features" in inspect.signature(EnergyScore).parameters
    assert "minutes" in inspect.signature(fibermodels.fit).parameters
    assert "fit" in dir(fibermodels)
