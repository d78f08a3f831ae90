"""Every shipped config runs: a training for one batch, a model file for a few targets."""

import json
import sys
from pathlib import Path

import pytest
import yaml
from cases import write_mnist
from scripts import run

ROOT = Path(__file__).parents[1]
CONFIGS = [path for path in sorted(ROOT.glob("configs/**/*.yaml")) if path.parent.name != "parts"]


@pytest.fixture(scope="module")
def data_root(tmp_path_factory):
    """A few images in MNIST's layout, so that no config needs a download."""
    return write_mnist(tmp_path_factory.mktemp("data"), 6000, 64)


@pytest.mark.parametrize("config", CONFIGS, ids=lambda p: str(p.relative_to(ROOT / "configs")))
def test_it_runs(config, data_root, tmp_path):
    text = config.read_text()
    assert text.startswith("# "), "the first line says what it is and what to expect"
    here = {"FIBERMODELS_DATA": data_root, "FIBERMODELS_CACHE": tmp_path}
    if "learner" in yaml.safe_load(text)["model"]:
        done = run("train.py", "--config", config, "--trainer.fast_dev_run", "true", "--runs", tmp_path, **here)
        assert done.returncode == 0, done.stderr
        return
    size = ("--num_targets", "4", "--samples_per_target", "2", "--device", "cpu")
    done = run("evaluate.py", "--model", config, *size, "--out", tmp_path / "out", **here)
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "out" / "metrics.json").read_text())["num_targets"] == 4


@pytest.mark.parametrize("card", sorted(ROOT.glob("data/weights/**/*.json")), ids=lambda p: p.stem)
def test_published_weights_are_what_their_card_says(card):
    import hashlib

    from fibermodels.config import build
    from fibermodels.core import TrainableFiberModel

    content = json.loads(card.read_text())
    weights = card.with_suffix(".safetensors")
    assert weights.stat().st_size < 10_000_000
    assert hashlib.sha256(weights.read_bytes()).hexdigest() == content["sha256"]
    component = build(content["component"], weights=False)
    component.load_weights(weights, given="latents." if isinstance(component, TrainableFiberModel) else None)


def test_every_result_says_where_it_comes_from():
    for path in sorted(ROOT.glob("results/**/metrics.json")):
        values = json.loads(path.read_text())
        missing = {"fiber_rms", "commit", "device", "seed", "num_targets"} - set(values)
        assert not missing, f"{path}: {missing}"
        assert (path.parent / "samples.png").is_file()


def test_the_benchmark_names_every_family_once():
    import importlib.util

    from cases import MODELS

    from fibermodels.core import TrainableFiberModel

    spec = importlib.util.spec_from_file_location("colour_mnist", ROOT / "benchmarks" / "colour_mnist.py")
    benchmark = importlib.util.module_from_spec(spec)
    sys.modules["colour_mnist"] = benchmark  # where dataclasses look
    spec.loader.exec_module(benchmark)
    names = [point.name for point in benchmark.POINTS]
    assert len(set(names)) == len(names)
    classes = set()
    for family in benchmark.FAMILIES:
        config = yaml.safe_load((ROOT / "configs" / "colour_mnist" / f"{family}.yaml").read_text())
        classes.add(config["model"]["learner"]["class_path"].rpartition(".")[2])
        assert {point.weight for point in benchmark.POINTS if point.name.startswith(family)} >= {0, 1, 10, 100}
    assert classes == {cls.__name__ for cls in MODELS if issubclass(cls, TrainableFiberModel)}
