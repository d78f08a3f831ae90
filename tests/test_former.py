"""What earlier versions wrote: checkpoints and cards in their terms still load, and are put into today's."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from test_condition import fit, plane

from fibermodels.config import build, current, describe, import_class, public_path
from fibermodels.former import modern
from fibermodels.noise import seeded
from fibermodels.training import Training, load

FORMER = Path(__file__).parent / "former"
WEIGHTS = Path(__file__).parents[1] / "data" / "weights"
CHECKPOINTS = sorted(FORMER.glob("*.ckpt"))
CARDS = [path for path in sorted(WEIGHTS.rglob("*.json")) if "component" in json.loads(path.read_text())]


def names(description):
    """All class paths in a description."""
    if isinstance(description, dict):
        own = [description["class_path"]] if "class_path" in description else []
        return own + [name for item in description.values() for name in names(item)]
    return [name for item in description for name in names(item)] if isinstance(description, list) else []


def test_there_are_some():
    assert len(CHECKPOINTS) == 10
    assert len(CARDS) > 5


@pytest.mark.parametrize("path", CHECKPOINTS, ids=lambda p: p.stem)
def test_a_checkpoint_samples_as_it_did(path):
    expected = load_file(path.with_suffix(".safetensors"))
    run = load(path)
    torch.testing.assert_close(run.model.sample(expected["h"], 2, seeded(0)), expected["x_hat"], atol=1e-4, rtol=0)
    described = describe(run.training)
    assert all(name == public_path(import_class(name, bool, "a class")) for name in names(described))
    assert {"learning_rate", "warmup"} <= set(described["init_args"])
    assert run.data.split("train") is not None


@pytest.mark.parametrize("path", CARDS, ids=lambda p: str(p.relative_to(WEIGHTS)))
def test_a_card_builds(path):
    card = json.loads(path.read_text())
    component = build(card["component"], weights=False)
    assert describe(component)["class_path"] == current(card["component"])["class_path"]
    if "training" not in card:  # of a subject that a benchmark's script trains
        return
    assert describe(build(card["data"])) == current(card["data"])
    training = current(card["training"])
    assert training["class_path"] == public_path(Training)
    assert all(name == public_path(import_class(name, bool, "a class")) for name in names(training))


def test_a_former_run_is_resumed(tmp_path):
    path = fit(tmp_path, plane(), 1)
    saved = torch.load(path, weights_only=True)
    described = saved["fibermodels"]["training"]
    arguments = described["init_args"]
    arguments |= {"lr": arguments.pop("learning_rate"), "rise": arguments.pop("warmup"), "same_noise": True}
    described["class_path"] = "fibermodels.training.module.Training"
    torch.save(saved, path)
    assert load(path).training.learning_rate == arguments["lr"]
    fit(tmp_path, plane(), 2, start=str(path))
    assert torch.load(path, weights_only=True)["global_step"] == 20


@pytest.mark.parametrize("path", sorted((FORMER / "cards").glob("*.json")), ids=lambda p: p.stem)
def test_a_former_card_builds_what_its_card_of_today_builds(path):
    folder, _, name = path.stem.partition("-")
    today = json.loads((WEIGHTS / folder / f"{name.removeprefix('representation_')}.json").read_text())
    built = build(json.loads(path.read_text())["component"], weights=False)
    twin = build(today["component"], weights=False)
    shapes, wanted = ({key: value.shape for key, value in each.state_dict().items()} for each in (built, twin))
    assert type(built) is type(twin)
    assert shapes == wanted


def test_a_path_that_was_given_away_still_reads_what_had_it():
    """`FiberAutoencoder` was the latent space that is `ColourAutoencoder` today."""
    old = {"class_path": "fibermodels.latents.FiberAutoencoder", "init_args": {"maps": 2, "map_width": 512}}
    new = {"class_path": "fibermodels.latents.FiberAutoencoder", "init_args": {"products": 4}}
    assert modern(old)["class_path"] == "fibermodels.suites.ColourAutoencoder"
    assert modern(new) == new
