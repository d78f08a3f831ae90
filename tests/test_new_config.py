"""`fibermodels init`: one file for a user's own network and images, which the training takes as it is."""

import importlib
import os
import re
import shlex
import time
from dataclasses import replace
from unittest import mock

import pytest
import torch
import yaml
from scripts import run
from torchvision.utils import save_image

from fibermodels.api.fit import fit
from fibermodels.config import describe
from fibermodels.training.planning import whole

NETWORK = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, width=8, grey=False):
        super().__init__()
        self.stage1 = nn.Sequential(nn.Conv2d(1 if grey else 3, width, 3, padding=1), nn.ReLU())
        self.stage2 = nn.Sequential(nn.Conv2d(width, 2 * width, 3, 2, padding=1), nn.ReLU())
        self.stage3 = nn.Sequential(nn.Conv2d(2 * width, 3 * width, 3, 2, padding=1), nn.ReLU(), nn.Identity())
        self.head = nn.Linear(3 * width, 5)

    def forward(self, x):
        return self.head(self.stage3(self.stage2(self.stage1(x))).mean((2, 3)))


class Needs(Net):
    def __init__(self, width):
        super().__init__(width)


class Row(nn.Sequential):
    def __init__(self):
        stages = (nn.Sequential(nn.Conv2d(i, i + 3, 3, 2, padding=1), nn.ReLU()) for i in (3, 6))
        super().__init__(nn.Sequential(*stages), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(9, 5))


def function():
    pass
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A user's folder, with a module and images in it."""
    folder = tmp_path_factory.mktemp("home")
    (folder / "mine.py").write_text(NETWORK)
    generator = torch.Generator().manual_seed(0)
    for name, shape, count in (("pictures", (3, 16, 16), 24), ("large", (3, 30, 100), 12), ("grey", (1, 16, 16), 12)):
        (folder / name).mkdir()
        for i in range(count):
            image = torch.rand(*shape, generator=generator)
            if name == "grey":
                from torchvision.transforms.functional import to_pil_image

                to_pil_image(image).save(folder / name / f"{i}.png")
            else:
                save_image(image, folder / name / f"{i}.png")
    (folder / "notes").mkdir()
    (folder / "notes" / "a.txt").write_text("x")
    return folder


def init(home, *arguments):
    return run("fibermodels", "init", *arguments, cwd=home, FIBERMODELS_IMPORTS="")


def test_the_file_trains_as_it_is(home, tmp_path):
    """With the command that its first lines and the last line on the screen name."""
    out = tmp_path / "my file.yaml"
    done = init(home, "--network", "mine.Net", "--layer", "stage3", "--images", "pictures", "--out", out)
    assert done.returncode == 0, done.stderr
    command = re.search(r"to train: (.*)", done.stdout)[1]
    assert f"#   {command}\n" in out.read_text()[:600]
    variable, program, *words = shlex.split(command)
    name, value = variable.split("=")
    assert (name, value, program, words[:2]) == ("FIBERMODELS_IMPORTS", "mine", "fibermodels", ["train", "--config"])
    once = ("--trainer.max_steps", 1, "--trainer.limit_val_batches", 1, "--runs", tmp_path / "runs")
    trained = run("fibermodels", *words, *once, cwd=home, **{name: value})
    assert trained.returncode == 0, trained.stderr
    checkpoint = tmp_path / "runs" / "my file" / "checkpoints" / "last.ckpt"
    assert torch.load(checkpoint, weights_only=True)["global_step"] == 1
    given = ("--images", "pictures/0.png", "-n", 2, "--out", tmp_path / "samples")
    sampled = run("fibermodels", "sample", "--checkpoint", checkpoint, *given, cwd=home, **{name: value})
    assert sampled.returncode == 0, sampled.stderr


def test_what_the_file_says(home, tmp_path):
    out = tmp_path / "a.yaml"
    given = ("--layer", "stage3", "--mean", "[0.5, 0.4, 0.3]", "--std", "[0.2, 0.2, 0.2]", "--network_args.width", 4)
    done = init(home, "--network", "mine.Net", *given, "--images", "pictures", "--out", out)
    assert done.returncode == 0, done.stderr
    content = yaml.safe_load(out.read_text())
    assert content["subject"]["class_path"] == "fibermodels.subjects.Cut"
    subject = content["subject"]["init_args"]
    assert subject == {
        "network": "mine.Net", "network_args": {"width": 4}, "layer": "stage3", "image_shape": [3, 16, 16],
        "mean": [0.5, 0.4, 0.3], "std": [0.2, 0.2, 0.2], "weights": "a.safetensors",
    }  # fmt: skip
    learner = content["model"]["learner"]["init_args"]
    layers = [each["init_args"]["layer"] for each in learner["features"]]
    assert layers == ["stage1", "stage2"]
    assert all(
        each["init_args"] == subject | {"layer": layer} for each, layer in zip(learner["features"], layers, strict=True)
    )
    data = content["data"]["init_args"]
    assert (data["root"], data["image_shape"]) == ("pictures", [3, 16, 16])
    assert content["trainer"]["max_epochs"] == 2800  # of one step each
    assert "12 x 4 x 4" in done.stdout
    assert "note: weights: as the class starts, at random" in done.stdout
    assert "note: mean" not in done.stdout


@pytest.mark.parametrize(
    ("layer", "features"),
    [("spatial", ["stage1", "stage2"]), ("logits", ["stage1", "stage2"]), ("stage1", []), ("stage2.0", ["stage1"])],
)
def test_the_stages_are_those_before_the_layer(home, tmp_path, layer, features):
    out = tmp_path / "a.yaml"
    assert init(home, "--network", "mine.Net", "--layer", layer, "--images", "pictures", "--out", out).returncode == 0
    model = yaml.safe_load(out.read_text())["model"]
    assert [each["init_args"]["layer"] for each in model["learner"]["init_args"]["features"]] == features


def test_layers_whose_names_are_numbers(home, tmp_path):
    """A `Sequential` names its parts 0, 1, ..., which YAML would read as numbers."""
    out = tmp_path / "a.yaml"
    assert init(home, "--network", "mine.Row", "--layer", "0", "--images", "pictures", "--out", out).returncode == 0
    content = yaml.safe_load(out.read_text())
    layers = [each["init_args"]["layer"] for each in content["model"]["learner"]["init_args"]["features"]]
    assert (content["subject"]["init_args"]["layer"], layers) == ("0", ["0.0"])
    once = ("--trainer.max_steps", 1, "--trainer.limit_val_batches", 1, "--runs", tmp_path / "runs")
    trained = run("fibermodels", "train", "--config", out, *once, cwd=home, FIBERMODELS_IMPORTS="mine")
    assert trained.returncode == 0, trained.stderr


def recipe(model):
    """A description of a training, with a layer's name for each subject, and without what `train` infers."""
    if isinstance(model, list):
        return [recipe(each) for each in model]
    if not isinstance(model, dict):
        return model
    if str(model.get("class_path")).startswith("fibermodels.subjects."):
        own = model["init_args"]
        return own["layer"], own["image_shape"], own["mean"], own["std"]
    return {key: recipe(value) for key, value in model.items() if key not in ("subject", "feature_shape", "seed")}


def test_the_file_states_the_recipe_of_fit(home, tmp_path, monkeypatch):
    """What `train` would build from it is what `fit` has built, argument by argument."""
    out, statistics = tmp_path / "a.yaml", {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.2, 0.1]}
    given = [word for key, value in statistics.items() for word in (f"--{key}", str(value))]
    done = init(home, "--network", "mine.Net", "--layer", "stage3", "--images", "pictures", "--out", out, *given)
    assert done.returncode == 0, done.stderr
    printed = run("fibermodels", "train", "--config", out, "--print_config", cwd=home, FIBERMODELS_IMPORTS="mine")
    assert printed.returncode == 0, printed.stderr
    config = yaml.safe_load(printed.stdout)
    plan = whole(20, torch.device("cpu"))
    monkeypatch.setattr("fibermodels.api.fit.planned", lambda *_: replace(plan, epochs=1, steps=1, seconds=1.0))
    monkeypatch.setattr("fibermodels.api.fit._trainer", lambda *_: mock.MagicMock(global_step=0))  # builds only
    monkeypatch.syspath_prepend(home)
    network = importlib.import_module("mine").Net()
    fitted = fit(network, home / "pictures", "stage3", runs=tmp_path, progress=False, **statistics)
    assert recipe(config["model"]) == recipe(describe(fitted.run.training)["init_args"])
    assert recipe(config["subject"]) == recipe(describe(fitted.subject))
    assert config["data"]["init_args"] == fitted.data.arguments | {"root": "pictures"}
    assert (config["ema_decay"], config["trainer"]["max_epochs"]) == (plan.ema_decay, plan.epochs)


def test_minutes_limit_the_training(home, tmp_path):
    """A step is measured, and no more steps are planned than the minutes hold."""
    out, start = tmp_path / "a.yaml", time.perf_counter()
    given = ("--layer", "stage1", "--images", "pictures", "--minutes", 0.01, "--out", out)
    assert init(home, "--network", "mine.Net", *given).returncode == 0
    assert time.perf_counter() - start < 20
    content = yaml.safe_load(out.read_text())
    trainer = content["trainer"]
    assert trainer["max_epochs"] * trainer["limit_train_batches"] == 20  # the fewest
    assert content["model"]["learner"]["init_args"]["network"]["init_args"]["width"] == 48
    done = init(home, "--network", "mine.Net", "--images", "pictures", "--minutes", 0, "--out", tmp_path / "b.yaml")
    assert done.returncode == 2
    assert "minutes" in done.stderr


def test_images_of_another_size_are_scaled(home, tmp_path):
    usual, large = tmp_path / "a.yaml", tmp_path / "b.yaml"
    done = init(home, "--network", "mine.Net", "--images", "large", "--out", usual)
    assert done.returncode == 0, done.stderr
    assert "note: the images are 30 x 100, and are scaled and cropped to 28 x 28" in done.stdout
    assert yaml.safe_load(usual.read_text())["data"]["init_args"]["image_shape"] == [3, 28, 28]
    assert "AutoencoderKL" not in usual.read_text()
    assert init(home, "--network", "mine.Net", "--images", "large", "--size", 96, "--out", large).returncode == 0
    assert "AutoencoderKL" in large.read_text()
    assert yaml.safe_load(large.read_text())["model"]["learner"]["init_args"]["patch_sizes"] == [4, 8, 32, 96]


def test_grey_images(home, tmp_path):
    """They stay grey, also for a network that takes colours."""
    for name, more, channels in (("a", (), 3), ("b", ("--network_args.grey", "true"), 1)):
        out = tmp_path / f"{name}.yaml"
        done = init(home, "--network", "mine.Net", "--images", "grey", "--out", out, *more)
        assert done.returncode == 0, done.stderr
        subject = yaml.safe_load(out.read_text())["subject"]["init_args"]
        assert subject["image_shape"] == [1, 16, 16]
        assert len(subject["mean"]) == channels


def test_an_unknown_layer_gets_a_list(home, tmp_path):
    out = tmp_path / "a.yaml"
    done = init(home, "--network", "mine.Net", "--layer", "stage4", "--images", "pictures", "--out", out)
    assert done.returncode == 2
    assert "there is no 'stage4' in Net; did you mean ['stage" in done.stderr
    assert re.search(r"^  stage2 +16 x 8 x 8$", done.stderr, re.MULTILINE)
    assert re.search(r"^  head +5$", done.stderr, re.MULTILINE)
    assert not out.exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("--network mine.Nett", "no class 'mine.Nett'; did you mean ['Net']"),
        ("--network mine.function", "that is not an nn.Module"),
        ("--network mine.Needs", "give --network_args.NAME VALUE"),
        ("--network nowhere.Net", "cannot import 'nowhere'"),
        ("--network Net", "network: expected an import path such as mypackage.nets.ResNet, or timm:NAME, got 'Net'"),
        ("--network timm:resnet81", "timm"),
        ("--network timm:test_resnet --network_args.width 3", "network_args: expected only for a class"),
        ("--network mine.Net --images nowhere", "nothing at"),
        ("--network mine.Net --images notes", "no image below"),
        ("--network mine.Net --size 30", "size: expected a multiple of 4 of at least 8, got 30"),
        ("--network mine.Net --mean [0.5]", "mean, std: expected"),
        ("--network mine.Net --weights nowhere.pt", "nowhere.pt"),
        ("--network mine.Net --out a.txt", "out: expected a file that ends in .yaml, got 'a.txt'"),
        ("--network mine.Net --layr x", "did you mean 'layer'"),
        ("", "arguments are required: network"),
    ],
)
def test_what_is_wrong_gets_one_message(home, arguments, words):
    before = {*os.listdir(home), "__pycache__"}
    images = [] if "--images" in arguments else ["--images", "pictures"]
    done = init(home, *arguments.split(), *images)
    assert done.returncode == 2
    assert words in done.stderr
    assert done.stderr.count("error: ") == 1
    assert "Traceback" not in done.stderr
    assert set(os.listdir(home)) <= before


def test_an_earlier_file_stays(home, tmp_path):
    out = tmp_path / "a.yaml"
    out.write_text("mine: 1\n")
    given = ("--network", "mine.Net", "--images", "pictures", "--out", out)
    done = init(home, *given)
    assert done.returncode == 2
    assert "--overwrite true" in done.stderr
    assert out.read_text() == "mine: 1\n"
    assert init(home, *given, "--overwrite", "true").returncode == 0


def test_a_network_of_timm_brings_its_preprocessing(home, tmp_path):
    import timm

    out = tmp_path / "a.yaml"
    done = init(home, "--network", "timm:test_resnet", "--layer", "pooled", "--images", "pictures", "--out", out)
    assert done.returncode == 0, done.stderr
    assert "FIBERMODELS_IMPORTS" not in out.read_text()
    config = timm.get_pretrained_cfg("test_resnet")
    subject = yaml.safe_load(out.read_text())["subject"]
    assert subject["class_path"] == "fibermodels.subjects.Timm"
    given = subject["init_args"]
    assert given["mean"] == pytest.approx(config.mean)
    assert given["std"] == pytest.approx(config.std)
    assert given["input_size"] == 16  # the images as they are


@pytest.mark.slow
def test_a_network_of_timm_trains(home, tmp_path):
    """ResNet-18, pooled, at the size of the images."""
    out = tmp_path / "a.yaml"
    done = init(home, "--network", "timm:resnet18", "--layer", "pooled", "--images", "pictures", "--out", out)
    assert done.returncode == 0, done.stderr
    once = ("--trainer.fast_dev_run", "true", "--runs", tmp_path)
    trained = run("fibermodels", "train", "--config", out, *once, cwd=home)
    assert trained.returncode == 0, trained.stderr


def test_all_layers_have_the_same_random_weights(home, tmp_path):
    """The score compares stages of the subject's own network, so both must be one network."""
    import sys

    from fibermodels.config import build

    out = tmp_path / "a.yaml"
    assert init(home, "--network", "mine.Net", "--images", "pictures", "--out", out).returncode == 0
    content = yaml.safe_load(out.read_text())
    x = torch.rand(2, 3, 16, 16)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [str(home), *sys.path])
        patch.setenv("FIBERMODELS_IMPORTS", "mine")
        patch.setattr("fibermodels.config.CONFIG_FOLDERS", [tmp_path])
        subject = build(content["subject"])
        stage = build(content["model"]["learner"]["init_args"]["features"][0])
    torch.testing.assert_close(subject.network.stage1(subject.preprocess(x)), stage(x))


@pytest.mark.parametrize("lost", ["yaml", "safetensors"])
def test_random_weights_are_not_replaced_by_the_way(home, tmp_path, lost):
    out = tmp_path / "a.yaml"
    given = ("--network", "mine.Net", "--images", "pictures", "--out", out)
    assert init(home, *given).returncode == 0
    out.with_suffix(f".{lost}").unlink()
    done = init(home, *given)
    assert done.returncode == 2
    assert "exists: choose another --out" in done.stderr
