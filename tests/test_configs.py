"""Every shipped config runs: a training for one batch, a model file for a few targets."""

import importlib.util
import json
import sys
import warnings
from pathlib import Path

import pytest
import yaml
from cases import write_mnist
from pipelines import tiny_guided_diffusion
from scripts import run

ROOT = Path(__file__).parents[1]
CONFIGS = [path for path in sorted(ROOT.glob("configs/**/*.yaml")) if "parts" not in path.relative_to(ROOT).parts]


@pytest.fixture(scope="module")
def data_root(tmp_path_factory):
    """A few images in MNIST's layout, so that no config needs a download."""
    return write_mnist(tmp_path_factory.mktemp("data"), 6000, 64)


def script(name):
    """A benchmark, as a module."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "benchmarks" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # where dataclasses look
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def stand_ins(tmp_path_factory):
    """For a config of real systems, a data root with tiny stand-ins of what it names; random weights of large subjects
    are written where one asks for them."""
    module, folder = script("stand_ins"), tmp_path_factory.mktemp("stand_ins")

    def root(config):
        text = config.read_text()
        if "guided_diffusion" in text:
            tiny_guided_diffusion(folder / "weights" / "256x256_diffusion_uncond.pt")
        return module.write(folder, {name: count for name, count in module.SUBJECTS.items() if f"{name}." in text})

    return root


def name(path):
    return str(path.relative_to(ROOT / "configs").with_suffix(""))


def is_real(config):
    return config.parent.name in ("cifar10", "imagenet", "chexpert")


def marked(configs):
    """Networks of 90 million weights, or of many pixels, take a core half a minute; the others here, five to ten
    seconds, and the tests of their classes are others."""
    large = (
        "convnext_base",
        "swinv2_base",
        "/controlnet_resnet50",
        "colour_mnist/prior",
        "/ndtm_dinov2",
        "/ndtm_inception",
        "/ndtm_resnet50",
        "/dig_in_resnet50",
        "chexpert/",
        "cifar10/controlnet_inverter",
        "cifar10/diffusion",
        "cifar10/flow_map",
        "cifar10/ndtm",
        "cifar10/prior",
        "colour_mnist/langevin",
    )
    return [
        pytest.param(path, marks=[pytest.mark.slow] if any(part in name(path) for part in large) else [])
        for path in configs
    ]


TRAINED = [path for path in CONFIGS if "learner" in yaml.safe_load(path.read_text())["model"]]
UNTRAINED = [path for path in CONFIGS if path not in TRAINED]


@pytest.mark.parametrize("config", CONFIGS, ids=name)
def test_its_first_line_says_what_it_is(config):
    assert config.read_text().startswith("# "), "and what to expect"


@pytest.mark.parametrize("config", marked(TRAINED), ids=name)
def test_a_training_runs(config, data_root, stand_ins, tmp_path):
    here = {"FIBERMODELS_DATA": stand_ins(config) if is_real(config) else data_root, "FIBERMODELS_CACHE": tmp_path}
    few = ("--data.init_args.batch_size", "2") if is_real(config) else ()
    if is_real(config) and "Representations" not in config.read_text():  # these are computed once, without workers
        few += ("--data.init_args.workers", "0")
    if is_real(config) and "sampler" in yaml.safe_load(config.read_text())["model"]["learner"].get("init_args", {}):
        few += ("--model.learner.init_args.sampler", "fibermodels.diffusion.DDIM")
        few += ("--model.learner.init_args.sampler.init_args.steps", "2")
    if name(config) == "chexpert/prior":
        few += ("--model.learner.init_args.network.init_args.patch", "8")  # 384 x 384 pixels, one by one, are for a GPU
    done = run("train.py", "--config", config, "--trainer.fast_dev_run", "true", "--runs", tmp_path, *few, **here)
    assert done.returncode == 0, done.stderr


def smaller(part, numbers, key="--model"):
    """Options that give the numbers of these names, wherever a model file has them; never more steps than it says.

    A part that is the name of another file has none of its own.
    """
    for name, value in part.items() if isinstance(part, dict) else ():
        if name in numbers and (name != "steps" or value > numbers[name]):
            yield from (f"{key}.{name}", numbers[name])
        elif isinstance(value, dict):
            yield from smaller(value, numbers, f"{key}.{name}")


@pytest.mark.parametrize("config", marked(UNTRAINED), ids=name)
def test_a_model_is_evaluated(config, data_root, stand_ins, tmp_path):
    """In few steps, where it takes many."""
    numbers = {"steps": 3} | ({"inner": 1, "patch": 8, "count": 2} if is_real(config) else {})
    fewer = tuple(smaller(yaml.safe_load(config.read_text())["model"], numbers))
    targets = 2 if config.parent.name in ("imagenet", "chexpert") else 4
    size = ("--num_targets", targets, "--samples_per_target", targets // 2, "--device", "cpu")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*within a fifth of target_rms.*", UserWarning)  # not in three steps
        arguments = ("--model", config, *fewer, *size, "--out", tmp_path / "out")
        done = run("evaluate.py", *arguments, FIBERMODELS_DATA=stand_ins(config) if is_real(config) else data_root)
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "out" / "metrics.json").read_text())["num_targets"] == targets


@pytest.mark.parametrize(
    "card",
    sorted(ROOT.glob("data/weights/**/*.json")),
    ids=lambda p: p.stem,
)
def test_published_weights_are_what_their_card_says(card):
    import hashlib

    from fibermodels.config import build
    from fibermodels.trainable import TrainableFiberModel

    content = json.loads(card.read_text())
    weights = card.with_suffix(".safetensors")
    assert weights.stat().st_size < 10_000_000
    assert hashlib.sha256(weights.read_bytes()).hexdigest() == content["sha256"]
    component = build(content["component"], weights=False)
    parts = component.frozen_parts() if isinstance(component, TrainableFiberModel) else {}
    component.load_weights(weights, given=tuple(f"{part}." for part in parts))


STUDIES = {"equidiff", "features", "spectral", "tilts"}
"""Folders in `results/` whose records are those of a table, and not of the samples of one model."""


def test_every_result_says_where_it_comes_from():
    for path in sorted(ROOT.glob("results/**/metrics.json")):
        values = json.loads(path.read_text())
        if path.parent.parent.name == "applications":
            assert {"commit", "device", "seed", "num_targets", "seconds"} <= set(values), path
            assert (path.parent / "figure.png").stat().st_size < 150_000
            continue
        if STUDIES & {path.parent.name, path.parent.parent.name}:
            assert {"commit", "device", "seed"} <= set(values), path
            assert any(path.parent.parent.glob("**/*.md")), path
            continue
        missing = {"fiber_rms", "commit", "device", "seed", "num_targets"} - set(values)
        assert not missing, f"{path}: {missing}"
        assert (path.parent / "samples.png").is_file()


SUITES = ("blobs", "colour_digits", "dependent_colours", "orbits", "textured_digits")


@pytest.mark.parametrize("suite", SUITES)
def test_a_family_trains_on_every_suite(suite, data_root, tmp_path):
    benchmark = script("suites")
    part = ROOT / "configs/parts" / suite / "vae.yaml"
    space = yaml.safe_load(part.read_text())
    if not (ROOT / space["init_args"]["weights"]).exists():  # too large to be committed
        space["init_args"]["weights"] = None
        part = tmp_path / "vae.yaml"
        part.write_text(yaml.safe_dump(space))
    options = (*benchmark.world(suite), f"{benchmark.LEARNER}.latents", part)
    few = ("--trainer.fast_dev_run", "true", "--runs", tmp_path)
    here = {"FIBERMODELS_DATA": data_root, "FIBERMODELS_CACHE": tmp_path}
    done = run("train.py", "--config", ROOT / "configs/colour_mnist/flow_matching.yaml", *options, *few, **here)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("suite", ["blobs", "orbits"])
def test_the_general_space_trains_on_images_of_other_shapes(suite, data_root, tmp_path):
    benchmark = script("suites")
    shape = (f"{benchmark.LEARNER}.image_shape", benchmark.SUITES[suite].image_shape)
    few = ("--trainer.fast_dev_run", "true", "--runs", tmp_path)
    config = ROOT / "configs/general/fiber_autoencoder.yaml"
    done = run("train.py", "--config", config, *benchmark.world(suite), *shape, *few, FIBERMODELS_DATA=data_root)
    assert done.returncode == 0, done.stderr


def test_the_benchmark_of_suites_knows_their_shapes():
    from fibermodels.config import build

    benchmark = script("suites")
    assert set(benchmark.SUITES) == set(SUITES)
    for suite in SUITES:
        described = yaml.safe_load((ROOT / "configs/parts" / suite / "subject.yaml").read_text())
        subject = build({"init_args": {}, **described}, weights=False)
        assert list(subject.image_shape) == json.loads(benchmark.SUITES[suite].image_shape)
        assert list(subject.feature_shape) == json.loads(benchmark.SUITES[suite].feature_shape)


def test_all_benchmarks_have_the_same_families():
    assert set(script("suites").FAMILIES) == set(script("colour_mnist").FAMILIES)


ELSEWHERE = {"ControlNetInverter", "EnergyScore"}
"""They are no rows of the comparison in one latent space: they draw pixels."""


def test_the_benchmark_names_every_family_once():
    from cases import MODELS

    from fibermodels.trainable import TrainableFiberModel

    benchmark = script("colour_mnist")
    names = [point.name for point in benchmark.POINTS]
    assert len(set(names)) == len(names)
    classes = set()
    for family in benchmark.FAMILIES:
        config = yaml.safe_load((ROOT / "configs" / "colour_mnist" / f"{family}.yaml").read_text())
        classes.add(config["model"]["learner"]["class_path"].rpartition(".")[2])
        assert {point.weight for point in benchmark.POINTS if point.name.startswith(family)} >= {0, 1, 10, 100}
    families = {cls.__name__ for cls in MODELS if issubclass(cls, TrainableFiberModel)}
    assert classes == families - ELSEWHERE


def test_the_guided_benchmark_names_configs_once():
    benchmark = script("guidance")
    names = [row.name for row in benchmark.ROWS]
    assert len(set(names)) == len(names)
    for row in benchmark.ROWS:
        assert (ROOT / "configs" / "colour_mnist" / f"{row.config.removesuffix('-ablation')}.yaml").is_file()
