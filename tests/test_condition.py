"""The first run starts right: conditions are standardised by what is measured before the first step, averages are no
worse than the weights, and shapes and numbers that cannot be right stop with a message."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from scripts import run
from toy import IMAGE, Bend, PlaneData, PlaneFlow, PlaneRegression

from fibermodels import distances
from fibermodels.data.cached import CachedLatents
from fibermodels.latents import Identity
from fibermodels.models import EnergyScore
from fibermodels.nn import MLP, Regression
from fibermodels.noise import seeded
from fibermodels.training import Training, load
from fibermodels.training.averaging import AveragedWeights, decay_at
from fibermodels.training.callbacks import MetricsCSV
from fibermodels.training.checkpoint import adapt_from, start_from
from fibermodels.training.statistics import measure, unsettled

ROOT = Path(__file__).parents[1]


def plane(subject=None, model=PlaneFlow, **options):
    torch.manual_seed(0)
    subject = subject or Bend()
    return Training(model(list(subject.feature_shape)), subject, **{"learning_rate": 3e-3, "preview": 0} | options)


def plane_generator(feature_shape):
    return EnergyScore(Identity(IMAGE), feature_shape, MLP(8, 1), regression=True)


def fit(folder, training, epochs=2, data=None, start=None, extra=(), **options):
    own = [
        AveragedWeights(0.999),
        ModelCheckpoint(str(folder), "last", enable_version_counter=False, save_on_train_epoch_end=True),
        MetricsCSV(folder / "metrics.csv"),
        *extra,
    ]
    trainer = Trainer(
        accelerator="cpu", max_epochs=epochs, num_sanity_val_steps=0, logger=False, callbacks=own,
        enable_progress_bar=False, enable_model_summary=False, gradient_clip_val=1.0, **options,
    )  # fmt: skip
    trainer.fit(training, datamodule=data or PlaneData(), ckpt_path=start, weights_only=True if start else None)
    return folder / "last.ckpt"


def losses(folder):
    with (folder / "metrics.csv").open() as file:
        return [float(row["val/loss"]) for row in csv.DictReader(file)]


class _Die(Callback):
    """In the middle of the second epoch."""

    def on_train_batch_start(self, trainer, module, batch, index):
        if trainer.global_step == 13:
            raise KeyError("died")


class TestStatistics:
    @pytest.mark.parametrize(("scale", "shift"), [(0.01, 0), (10, 0), (100, 0), (1, 10), (1, 1000)])
    def test_scale_and_shift_of_the_subject_change_nothing(self, tmp_path, scale, shift):
        fit(tmp_path / "one", plane())
        fit(tmp_path / "other", plane(Bend(scale, shift)))
        assert losses(tmp_path / "other") == pytest.approx(losses(tmp_path / "one"), rel=1e-2)

    def test_they_are_those_of_the_training_set(self, tmp_path):
        training = plane(Bend(3.0, 7.0))
        fit(tmp_path, training, 1)
        h = training.subject(PlaneData().split("train").x)
        for module in (training.learner.standardise, load(tmp_path / "last.ckpt").model.standardise):
            torch.testing.assert_close(module.mean, h.mean(0))
            torch.testing.assert_close(module.std, h.std(0, correction=0))

    def test_cached_representations_are_enough(self, tmp_path):
        training = plane()
        data = CachedLatents(PlaneData(), training.learner.latents, training.subject, 1, str(tmp_path), shard_rows=256)
        data.setup("fit")
        measure(training.learner, training.subject, data, torch.device("cpu"))
        first = training.learner.standardise.mean.clone()
        other = plane()
        measure(other.learner, other.subject, PlaneData(), torch.device("cpu"))
        torch.testing.assert_close(first, other.learner.standardise.mean)

    def test_only_what_is_unsettled_and_of_the_shape_is_measured(self):
        training = plane()
        training.learner.settled = PlaneFlow([1]).standardise
        training.learner.settled.settled = True
        training.learner.other = PlaneFlow([3]).standardise
        training.learner.latents.frozen = PlaneFlow([1]).standardise
        assert unsettled(training.learner) == [training.learner.standardise, training.learner.other]
        assert measure(training.learner, training.subject, PlaneData(), torch.device("cpu")) == 1
        assert training.learner.standardise.measured
        assert not training.learner.other.measured

    def test_a_resumed_run_keeps_them_and_continues_exactly(self, tmp_path):
        whole, parts = tmp_path / "whole", tmp_path / "parts"
        fit(whole, plane())
        with pytest.raises(KeyError, match="died"):
            fit(parts, plane(), extra=[_Die()])
        fit(parts, plane(), start=str(parts / "last.ckpt"))
        first, second = (torch.load(folder / "last.ckpt", weights_only=True) for folder in (whole, parts))
        assert "learner.standardise.mean" in first["state_dict"]
        assert first["global_step"] == second["global_step"] == 20
        assert all(torch.equal(value, second["state_dict"][name]) for name, value in first["state_dict"].items())

    def test_a_start_keeps_them_and_an_adaptation_measures_anew(self, tmp_path):
        path = fit(tmp_path / "first", plane(), 1)
        theirs = load(path).model.standardise.mean
        again = plane()
        start_from(again, path)
        fit(tmp_path / "again", again, 1)
        assert torch.equal(again.learner.standardise.mean, theirs)
        other = plane(Bend(shift=5.0))
        adapt_from(other, path)
        fit(tmp_path / "other", other, 1)
        torch.testing.assert_close(other.learner.standardise.mean, theirs + 5)

    def test_a_linear_part_is_that_of_the_training_set_and_an_adaptation_measures_it_anew(self, tmp_path):
        path = fit(tmp_path / "first", plane(model=plane_generator), 1)
        theirs, x = load(path).model.linear, PlaneData().split("train").x
        own = Regression(theirs.latent_shape, [1])
        own.measure([(Bend()(x), Identity(IMAGE).moments(x, None)[0])])
        torch.testing.assert_close(theirs.weight, own.weight, atol=1e-4, rtol=1e-3)
        other = plane(Bend(2.0), model=plane_generator)
        adapt_from(other, path)
        fit(tmp_path / "other", other, 1)
        torch.testing.assert_close(2 * other.learner.linear.weight, theirs.weight, atol=1e-4, rtol=1e-3)

    def test_the_subject_sees_the_training_set_once(self, monkeypatch):
        training, seen = plane(model=plane_generator), []
        forward = training.subject.forward
        monkeypatch.setattr(training.subject, "forward", lambda x: seen.append(len(x)) or forward(x))
        assert measure(training.learner, training.subject, PlaneData(), torch.device("cpu")) == 2
        assert sum(seen) == 1000

    def test_weights_of_an_earlier_version_stay_as_they_were_trained(self, tmp_path):
        path = fit(tmp_path, plane(), 1)
        saved = torch.load(path, weights_only=True)
        for state in ("state_dict", "current_model_state"):
            saved[state] = {name: value for name, value in saved[state].items() if "standardise" not in name}
        torch.save(saved, path)
        for start in (True, False):
            training = plane()
            if start:
                start_from(training, path)
            fit(tmp_path / "start" if start else tmp_path, training, 2, start=None if start else str(path))
            assert training.learner.standardise.mean.item() == 0

    def test_not_a_number_is_refused(self):
        training = plane()
        with pytest.raises(ValueError, match="h of the training set, batch 1 of 500 images: expected finite"):
            measure(training.learner, training.subject, PlaneData(bad=700), torch.device("cpu"))


class TestAverages:
    def test_the_decay_grows(self):
        assert [decay_at(n, 0.999) for n in (0, 1, 90, 10**6)] == [0, 2 / 11, 91 / 100, 0.999]

    @pytest.mark.parametrize("warm", [True, False])
    def test_a_short_run_samples_as_well_as_its_weights(self, tmp_path, monkeypatch, warm):
        """200 steps at the default decay; a decay that is constant from the start is clearly worse."""
        if not warm:
            monkeypatch.setattr("fibermodels.training.averaging.decay_at", lambda n, decay: decay if n else 0.0)
        path = fit(tmp_path, plane(learning_rate=1e-2), 20, limit_val_batches=0)
        run, raw = load(path), load(path)
        raw.training.load_state_dict(torch.load(path, weights_only=True)["current_model_state"], strict=False)
        x = PlaneData().split("test").x
        h = run.subject(x)
        averaged, own = (
            float(distances.rms(h.repeat(4, 1), run.subject(model.sample(h, 4, seeded(0)).flatten(0, 1))).mean())
            for model in (run.model, raw.model)
        )
        assert own < 0.5 * float(h.std())
        assert averaged < 1.03 * own if warm else averaged > 1.3 * own


class TestNumbers:
    def test_images(self):
        with pytest.raises(ValueError, match=r"inputs x in batch 0 of epoch 0: expected finite numbers"):
            Trainer(
                accelerator="cpu", max_epochs=1, logger=False, enable_checkpointing=False, enable_progress_bar=False
            ).fit(Training(_Unconditional([]), Bend(), preview=0), datamodule=PlaneData(batch_size=1000, bad=3))

    def test_cached_latents(self, tmp_path):
        cached = CachedLatents(PlaneData(bad=3), _Space(IMAGE), Bend(), 1, str(tmp_path))
        with pytest.raises(ValueError, match="mean of the latents, of training images: expected finite"):
            cached.prepare_data()
        assert not list(tmp_path.glob("*.safetensors"))

    def test_checkpoints_and_files_of_weights(self, tmp_path):
        path = fit(tmp_path, plane(), 1)
        saved = torch.load(path, weights_only=True)
        saved["state_dict"]["learner.network.2.weight"][0, 0] = float("inf")
        torch.save(saved, path)
        with pytest.raises(ValueError, match=r"weights 'learner.network.2.weight' in .*expected finite"):
            load(path)
        from safetensors.torch import save_file

        state = PlaneFlow([1]).state_dict()
        state["network.0.bias"] = state["network.0.bias"] / 0
        save_file(state, tmp_path / "weights.safetensors")
        with pytest.raises(ValueError, match="PlaneFlow: the weights 'network.0.bias' in .*expected finite"):
            PlaneFlow([1]).load_weights(tmp_path / "weights.safetensors")


class _Space(Identity):
    """A latent space that is worth a cache."""

    trivial = False


class _Unconditional(PlaneFlow):
    """A prior: it does not standardise anything."""

    def velocity(self, z, t, h):
        return self.network(torch.cat([z, t[:, None]], 1))


class TestCache:
    def test_it_says_what_where_and_why_before_it_encodes(self, tmp_path, capsys):
        cached = CachedLatents(PlaneData(), _Space(IMAGE), Bend(), 2, str(tmp_path))
        cached.prepare_data()
        said = capsys.readouterr().err
        assert "encoding 1000 training images in 2 draws, once, so that no step has to: 0.04 MB in '" in said
        assert str(cached.file) in said
        assert cached.file.stat().st_size == pytest.approx(cached.size, rel=0.05)
        cached.prepare_data()
        assert not capsys.readouterr().err

    @pytest.mark.parametrize("limit", [1e9, 1e4])
    def test_it_is_off_where_nothing_is_saved_or_memory_is_short(self, tmp_path, capsys, monkeypatch, limit):
        monkeypatch.setattr("fibermodels.data.cached.LARGEST", limit)
        latents = Identity(IMAGE) if limit == 1e9 else _Space(IMAGE)
        cached = CachedLatents(PlaneData(), latents, Bend(), 2, str(tmp_path / "cache"))
        cached.prepare_data()
        cached.setup("fit")
        assert set(next(iter(cached.train_dataloader()))) == {"x"}
        assert not (tmp_path / "cache").exists()
        reason = "a Identity encodes at no cost" if limit == 1e9 else "take 4e-05 GB of memory, more than 1e-05"
        assert reason in capsys.readouterr().err
        assert not CachedLatents(PlaneData(), latents, Bend(), 2, str(tmp_path), shard_rows=100).declined

    def test_shapes_are_compared_before(self, tmp_path):
        with pytest.raises(
            ValueError, match=r"subject: expected images \[3, 8, 8\] as of the latent space, got images \[1, 1, 2\]"
        ):
            CachedLatents(PlaneData(), Identity((3, 8, 8)), Bend(), 1, str(tmp_path))


PLANE = {
    "data": "toy.PlaneData",
    "subject": "toy.Bend",
    "model.learner": "toy.PlaneFlow",
    "trainer.accelerator": "cpu",
    "trainer.max_epochs": "1",
    "trainer.limit_train_batches": "2",
}


def train(folder, *more, **changed):
    options = [part for name, value in (PLANE | changed).items() for part in (f"--{name}", value)]
    return run("train.py", *options, "--runs", folder, *more)


class TestShapes:
    def test_the_feature_shape_is_the_subjects(self, tmp_path):
        done = train(tmp_path, "--subject.features", "4")
        assert done.returncode == 0, done.stderr
        assert load(tmp_path / "unnamed" / "checkpoints" / "last.ckpt").model.feature_shape == (4,)

    def test_a_prior_stays_unconditional(self, tmp_path):
        done = train(tmp_path, "--model.learner.feature_shape", "[]")
        assert done.returncode == 0, done.stderr
        again = run("train.py", "--config", tmp_path / "unnamed" / "config.yaml", "--runs", tmp_path, "--name", "again")
        assert again.returncode == 0, again.stderr
        for name in ("unnamed", "again"):
            assert load(tmp_path / name / "checkpoints" / "last.ckpt").model.feature_shape == ()

    def test_another_shape_than_the_subjects_is_one_message(self, tmp_path):
        failed = train(tmp_path, "--model.learner.feature_shape", "[3]")
        assert failed.returncode == 2
        assert "PlaneFlow: feature_shape: expected [1], the shape of the subject's representations" in failed.stderr
        assert "got [3]" in failed.stderr
        assert not list(tmp_path.rglob("*.ckpt"))

    def test_learners_without_one_are_left_alone(self, tmp_path):
        learner = "fibermodels.suites.DecolorisedAutoencoder"
        options = ("--data", "fibermodels.suites.ColourDigits", "--model.learner", learner)
        small = ("--trainer.fast_dev_run", "true", "--trainer.accelerator", "cpu", "--runs", tmp_path)
        done = run("train.py", *options, *small)
        assert done.returncode == 0, done.stderr


TWO = """
import sys, torch
sys.path[:0] = [{tests!r}]
from pathlib import Path
from test_condition import PlaneData, PlaneRegression, fit, plane
torch.set_num_threads(1)
fit(Path({folder!r}), plane(model=PlaneRegression), data=PlaneData(batch_size=50), devices=2, strategy="ddp")
"""


@pytest.mark.slow
def test_two_processes_train_a_learner_without_random_numbers_as_one_does(tmp_path):
    """Gradients are those of the whole batch, and statistics those of the whole set."""
    first = fit(tmp_path / "one", plane(model=PlaneRegression))
    script = tmp_path / "two.py"
    script.write_text(TWO.format(tests=str(ROOT / "tests"), folder=str(tmp_path / "two")))
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, str(script)], env=environment, check=True, capture_output=True, timeout=240)
    one, two = (torch.load(path, weights_only=True) for path in (first, tmp_path / "two" / "last.ckpt"))
    assert one["global_step"] == two["global_step"] == 20
    for key in ("state_dict", "current_model_state"):
        for name, value in one[key].items():
            torch.testing.assert_close(two[key][name], value, atol=1e-5, rtol=1e-4)
