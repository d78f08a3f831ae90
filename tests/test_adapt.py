"""A trained model for another subject, parts that stay frozen, and frozen parts that live in files of their own."""

import csv
import importlib.util
import json
from pathlib import Path

import pytest
import torch
from cases import controlnet, energy_score, flow_matching, subject
from controllable import StoredPrior, TinyPrior
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from scripts import run
from torch import nn

from fibermodels.component import fingerprint
from fibermodels.config import build, describe
from fibermodels.diffusion import DDIM
from fibermodels.models import ControlNetInverter
from fibermodels.suites import DecolorisedEncoder
from fibermodels.suites.colour_digits import ColourDigits
from fibermodels.training import Training, export, load
from fibermodels.training.averaging import AveragedWeights
from fibermodels.training.checkpoint import adapt_from

ROOT = Path(__file__).parents[1]


def digits():
    return ColourDigits("digits", batch_size=8)


def short(epochs, *callbacks):
    """A trainer for two batches an epoch."""
    return Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        limit_train_batches=2,
        limit_val_batches=1,
        num_sanity_val_steps=0,
        logger=False,
        callbacks=list(callbacks),
        enable_progress_bar=False,
        enable_model_summary=False,
    )


def fitted(training, folder):
    saved = ModelCheckpoint(str(folder), "last", enable_version_counter=False, save_on_train_epoch_end=True)
    short(1, AveragedWeights(0.5), saved).fit(training, datamodule=digits())
    return folder / "last.ckpt"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """An inverter of a subject with 6 features, whose prior has files of its own."""
    training = Training(controlnet(StoredPrior()), subject(), preview=2)
    return fitted(training, tmp_path_factory.mktemp("trained"))


class TestFromFiles:
    def test_states_of_what_contains_it_leave_it_out_and_load(self):
        inner = StoredPrior()
        outer, twin = (nn.ModuleDict({"prior": each, "own": nn.Linear(1, 1)}) for each in (inner, StoredPrior(seed=1)))
        assert set(outer.state_dict()) == {"own.weight", "own.bias"}
        before = fingerprint(twin["prior"])
        twin.load_state_dict(outer.state_dict())
        assert fingerprint(twin["prior"]) == before != fingerprint(inner)
        assert set(inner.state_dict()) == set(TinyPrior().state_dict())
        assert fingerprint(inner) == fingerprint(TinyPrior())
        with pytest.raises(RuntimeError, match="own.bias"):
            twin.load_state_dict({"own.weight": torch.zeros(1, 1)})

    def test_a_checkpoint_holds_its_fingerprint_and_not_its_weights(self, trained):
        checkpoint = torch.load(trained, weights_only=True)
        for part in ("state_dict", "current_model_state"):
            assert not [name for name in checkpoint[part] if "prior" in name]
        assert checkpoint["fibermodels"]["frozen"]["prior"] == fingerprint(StoredPrior())
        run = load(trained)
        assert fingerprint(run.model.prior) == fingerprint(StoredPrior())
        assert run.model.sample(torch.zeros(1, 6)).shape == (1, 1, 3, 28, 28)

    def test_other_files_than_it_was_trained_with_are_refused(self, trained, monkeypatch):
        monkeypatch.setattr("controllable.SEED", 7)
        with pytest.raises(ValueError, match="trained with another prior"):
            load(trained)

    def test_a_run_resumes_exactly_without_it(self, tmp_path):
        def training():
            return Training(controlnet(StoredPrior()), subject(), preview=2)

        def fit(start=None):
            options = {"save_top_k": -1, "save_on_train_epoch_end": True, "enable_version_counter": False}
            trainer = short(2, AveragedWeights(0.5), ModelCheckpoint(str(tmp_path), "{epoch}", **options))
            trainer.fit(training(), datamodule=digits(), ckpt_path=start, weights_only=True)
            return torch.load(tmp_path / "epoch=1.ckpt", weights_only=True)

        first, second = fit(), fit(tmp_path / "epoch=0.ckpt")
        for part in ("state_dict", "current_model_state"):
            assert list(first[part]) == list(second[part])
            assert all(torch.equal(value, second[part][name]) for name, value in first[part].items())


class TestLoadChanged:
    def test_a_sampler_with_other_steps(self, trained):
        run = load(trained, {"sampler": describe(DDIM(3)), "guidance_scale": 2.0})
        assert (run.model.sampler.steps, run.model.network_calls) == (3, 6)
        assert load(trained, {"sampler.steps": 4}).model.sampler.steps == 4
        with pytest.raises(ValueError, match=r"no argument 'sizes'"):
            load(trained, {"sampler.sizes": 4})
        with pytest.raises(ValueError, match=r"no argument 'guidance_scal'.*guidance_scale"):
            load(trained, {"guidance_scal": 2.0})


class TestExport:
    def test_what_was_trained_is_published_without_its_prior(self, trained, tmp_path):
        card = export(trained, tmp_path / "inverter")
        model = build(card["component"], weights=False)
        arguments = model.arguments | {"weights": str(tmp_path / "inverter.safetensors")}
        twin, noise, h = type(model)(**arguments), torch.randn(1, 2352), torch.randn(1, 6)
        torch.testing.assert_close(twin.eval().push(noise, h), load(trained).model.push(noise, h))


class TestChoice:
    """Of strength and scale, on the validation split."""

    @pytest.fixture
    def script(self, monkeypatch):
        spec = importlib.util.spec_from_file_location("choose_control", ROOT / "benchmarks" / "choose_control.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)

        def call(name, *arguments):
            done = run(name, *arguments, "--device", "cpu")
            assert done.returncode == 0, done.stderr

        monkeypatch.setattr(module, "call", call)
        return module

    @pytest.mark.slow
    def test_the_best_pair_is_found(self, script, trained, tmp_path, capsys):
        script.main(trained, tmp_path, [0.0, 1.0], [1.0, 2.0], "fiber_rms", num_targets=3)
        with (tmp_path / "choice.csv").open() as file:
            rows = list(csv.DictReader(file))
        pairs = [(float(row["model_control_strength"]), float(row["model_guidance_scale"])) for row in rows]
        assert pairs == [(0, 1), (0, 2), (1, 1), (1, 2)]
        assert {row["split"] for row in rows} == {"val"}
        assert [int(row["network_calls_per_sample"]) for row in rows] == [2, 4, 2, 4]
        # without strength the prior alone is left, whatever the scale
        assert float(rows[0]["fiber_rms"]) == pytest.approx(float(rows[1]["fiber_rms"]), rel=1e-4)
        assert rows[2]["fiber_rms"] != rows[3]["fiber_rms"] != rows[0]["fiber_rms"]
        least = min(rows, key=lambda row: float(row["fiber_rms"]))
        said = f"--model.control_strength {float(least['model_control_strength']):g} --model.guidance_scale "
        assert said + f"{float(least['model_guidance_scale']):g} --out" in capsys.readouterr().out

    def test_larger_is_better_for_some(self, script):
        rows = [{"cosine": 0.1, "fid": 3.0}, {"cosine": 0.2, "fid": 4.0}]
        assert script.best(rows, "cosine") is rows[1]
        assert script.best(rows, "fid") is rows[0]
        with pytest.raises(ValueError, match=r"no 'fidd', but \['cosine', 'fid'\]"):
            script.best(rows, "fidd")

    def test_a_wrong_argument_of_a_checkpoint(self, trained, tmp_path):
        done = run("evaluate.py", "--checkpoint", trained, "--model.sample", "3", "--out", tmp_path)
        assert done.returncode == 2
        assert "did you mean one of ['sampler']" in done.stderr
        none = json.dumps(describe(DDIM(1))).replace(": 1", ": 0")
        done = run("evaluate.py", "--checkpoint", trained, "--model.sampler", none, "--out", tmp_path)
        assert "steps must be at least 1" in done.stderr


class TestTrainOnly:
    def test_the_others_stay_as_they_are(self, tmp_path):
        training = Training(controlnet(), subject(), preview=2, train_only=["encoder"])
        before = {name: p.detach().clone() for name, p in training.learner.named_parameters()}
        fitted(training, tmp_path)
        changed = {name.split(".")[0] for name, p in training.learner.named_parameters() if (p != before[name]).any()}
        assert changed == {"encoder"}

    def test_wrong_names_list_close_ones(self):
        with pytest.raises(ValueError, match=r"begins with 'encoders'; there are \['encoder'\]"):
            Training(controlnet(), subject(), train_only=["encoders"])


class TestAdaptFrom:
    """From 6 features to 4: all fits but the encoder's first convolution."""

    def other(self, **options):
        torch.manual_seed(8)
        model = ControlNetInverter(StoredPrior(), [4], width=8, sampler=DDIM(2))
        return Training(model, DecolorisedEncoder(dim=4, width=16, blocks=1), preview=2, **options)

    def test_what_fits_is_taken_over(self, trained):
        training, theirs = self.other(), torch.load(trained, weights_only=True)["state_dict"]
        start = training.learner.encoder.layers[0].weight.clone()
        assert adapt_from(training, trained) == ["encoder.layers.0.weight"]
        assert torch.equal(training.learner.encoder.layers[0].weight, start)
        own = training.learner.state_dict(prefix="learner.")
        assert [name for name in own if own[name].shape != theirs[name].shape] == ["learner.encoder.layers.0.weight"]
        assert all(torch.equal(own[name], theirs[name]) for name in own if own[name].shape == theirs[name].shape)

    def test_the_encoder_alone_is_trained_for_the_new_subject(self, trained, tmp_path):
        training = self.other(train_only=["encoder"])
        adapt_from(training, trained)
        before = training.learner.control.network.conv_in.weight.clone()
        fitted(training, tmp_path)
        assert torch.equal(training.learner.control.network.conv_in.weight, before)

    def test_it_works_for_other_families(self, tmp_path):
        path = fitted(Training(flow_matching(), subject(), preview=2), tmp_path)
        training = Training(flow_matching(), subject(seed=3), preview=2)
        assert adapt_from(training, path) == []
        ours, theirs = (model.network.layers.state_dict() for model in (training.learner, load(path).model))
        assert all(torch.equal(ours[name], value) for name, value in theirs.items())
        assert not training.learner.network.standardise.settled, "statistics are those of the other subject"

    def test_what_does_not_fit_is_refused(self, trained):
        with pytest.raises(ValueError, match=r"train_only leaves them untrained: \['encoder.layers.0.weight'\]"):
            adapt_from(self.other(train_only=["control"]), trained)
        with pytest.raises(ValueError, match="another latent space"):
            adapt_from(Training(flow_matching(), subject()), trained)
        with pytest.raises(ValueError, match="another prior"):
            adapt_from(Training(ControlNetInverter(StoredPrior(seed=5), [6], width=8), subject()), trained)

    def test_from_the_command_line(self, tmp_path):
        quick = ("--config", "configs/quickstart.yaml", "--trainer.limit_train_batches", "2", "--cache_draws", "0")
        quick = (*quick, "--trainer.max_epochs", "1", "--runs", tmp_path, "--trainer.accelerator", "cpu")
        first = run("train.py", *quick, "--name", "first")
        assert first.returncode == 0, first.stderr
        checkpoint = tmp_path / "first" / "checkpoints" / "last.ckpt"
        only = ("--model.train_only", "[network.layers.leave]")
        second = run("train.py", *quick, "--name", "second", "--adapt_from", checkpoint, *only)
        assert second.returncode == 0, second.stderr
        assert "adapt_from: 0 tensors start anew: none" in second.stderr
        own, theirs = (
            load(path).model.state_dict() for path in (tmp_path / "second" / "checkpoints" / "last.ckpt", checkpoint)
        )
        changed = {
            name.split(".")[2] for name in own if name.startswith("network") and (own[name] != theirs[name]).any()
        }
        assert changed == {"leave"}
        both = run("train.py", *quick, "--name", "third", "--adapt_from", checkpoint, "--start_from", checkpoint)
        assert both.returncode == 2
        assert "one of --start_from" in both.stderr


def test_published_weights_are_adapted_as_their_checkpoint_is(tmp_path):
    """All but the condition's statistics, which belong to the other subject."""
    checkpoint = fitted(Training(flow_matching(), subject(), preview=2), tmp_path)
    export(checkpoint, tmp_path / "published")
    ours = [Training(flow_matching(), subject(1), preview=2) for _ in range(2)]
    anew = [adapt_from(ours[0], checkpoint), adapt_from(ours[1], tmp_path / "published.safetensors")]
    assert anew[0] == anew[1]
    first, second = (training.learner.network.state_dict() for training in ours)
    for name, value in first.items():
        torch.testing.assert_close(second[name], value, msg=name)
    with pytest.raises(FileNotFoundError, match="adapt_from: no weights at"):
        adapt_from(ours[0], tmp_path / "nowhere.safetensors")


def test_networks_that_score_are_no_weights_that_start_anew(tmp_path):
    """They are frozen, and exported weights do not contain them."""
    first = Training(energy_score(features=[subject(2)]), subject(), preview=2)
    path = fitted(first, tmp_path)
    export(path, tmp_path / "model")
    second = Training(energy_score(features=[subject(2), subject(3)]), subject(), preview=2)
    assert adapt_from(second, tmp_path / "model.safetensors") == []
    trained = load(path).training.learner.network.state_dict()
    for name, value in second.learner.network.state_dict().items():
        if "standardise" not in name:
            torch.testing.assert_close(value, trained[name])
