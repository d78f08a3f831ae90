"""Training end to end on tiny models: logs, exact resume, NaN, foreign checkpoints, processes."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from cases import flow_matching, normalizing_flow, subject, vae
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from fibermodels.component import fingerprint
from fibermodels.data.cached import CachedLatents
from fibermodels.models import FiberLoss
from fibermodels.noise import seeded
from fibermodels.suites import DecolorisedAutoencoder
from fibermodels.suites.colour_digits import ColourDigits
from fibermodels.training import NonFiniteLoss, Training, export, load
from fibermodels.training.averaging import AveragedWeights
from fibermodels.training.callbacks import MetricsCSV, SampleGrid
from fibermodels.training.checkpoint import start_from
from fibermodels.training.schedule import one_cycle

ROOT = Path(__file__).parents[1]


def trainer(folder, epochs, **options):
    own = [
        AveragedWeights(0.9),
        ModelCheckpoint(str(folder), "last", enable_version_counter=False, save_on_train_epoch_end=True),
        MetricsCSV(folder / "metrics.csv"),
        SampleGrid(folder / "samples.png"),
    ]
    defaults = {
        "accelerator": "cpu",
        "max_epochs": epochs,
        "limit_train_batches": 3,
        "limit_val_batches": 1,
        "num_sanity_val_steps": 0,
        "logger": False,
        "callbacks": own,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "gradient_clip_val": 1.0,
    }
    return Trainer(**defaults | options)


def training(model=None, **options):
    model = model or flow_matching()
    return Training(model, subject(), FiberLoss(1.0, rows=4), **{"preview": 8} | options)


def rows(folder):
    with (folder / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


class _Stop(Exception):
    pass


class _StopAt(Callback):
    """Dies in the middle of an epoch, as a killed process would."""

    def __init__(self, epoch):
        self.epoch = epoch

    def on_train_batch_start(self, trainer, module, batch, index):
        if trainer.current_epoch == self.epoch and index == 1:
            raise _Stop


@pytest.mark.parametrize(("cached", "optimizer"), [(True, "adamw"), (False, "adamw"), (False, "muon")])
def test_a_resumed_run_continues_exactly(tmp_path, cached, optimizer):
    """Losses, raw and averaged weights equal those of a run that was never interrupted."""

    def data():
        source = ColourDigits(batch_size=32)
        return CachedLatents(source, vae(), subject(), 2, str(tmp_path / "cache")) if cached else source

    whole, parts = tmp_path / "whole", tmp_path / "parts"
    trainer(whole, 4).fit(training(optimizer=optimizer), datamodule=data())

    interrupted = trainer(parts, 4)
    interrupted.callbacks.append(_StopAt(2))
    with pytest.raises(_Stop):
        interrupted.fit(training(optimizer=optimizer), datamodule=data())
    torch.manual_seed(12345)  # whatever happens between
    trainer(parts, 4).fit(
        training(optimizer=optimizer), datamodule=data(), ckpt_path=str(parts / "last.ckpt"), weights_only=True
    )

    assert rows(parts) == rows(whole)
    first, second = (torch.load(folder / "last.ckpt", weights_only=True) for folder in (whole, parts))
    assert first["global_step"] == second["global_step"] == 12
    for key in ("state_dict", "current_model_state"):
        for name, value in first[key].items():
            assert torch.equal(value, second[key][name]), f"{key}: {name}"


def test_a_run_leaves_scalars_and_pictures(tmp_path):
    trainer(tmp_path, 2).fit(training(), datamodule=ColourDigits(batch_size=32))
    last = rows(tmp_path)[-1]
    assert {"train/velocity", "train/fiber", "val/loss", "val/fiber_rms", "val/fiber_rms_shuffled"} <= set(last)
    assert (tmp_path / "samples.png").stat().st_size > 1000


def test_load_rebuilds_model_subject_and_data(tmp_path):
    module = training(normalizing_flow())
    trainer(tmp_path, 1, callbacks=[ModelCheckpoint(str(tmp_path), "last")]).fit(
        module, datamodule=ColourDigits(seed=7)
    )
    run = load(tmp_path / "last.ckpt")
    h = torch.randn(3, 6, generator=seeded(0))
    expected = module.learner.eval().sample(h, 2, seeded(1))
    torch.testing.assert_close(run.model.sample(h, 2, seeded(1)), expected)
    assert fingerprint(run.subject) == fingerprint(module.subject)
    assert run.data.seed == 7
    assert run.training.fiber.weight == 1.0


def test_the_loss_falls(tmp_path):
    module = training(normalizing_flow(), learning_rate=3e-3)
    trainer(tmp_path, 5, limit_train_batches=30).fit(module, datamodule=ColourDigits(batch_size=32))
    losses = [float(row["val/nll"]) for row in rows(tmp_path)]
    assert losses[-1] < losses[0] - 0.05


@pytest.mark.parametrize("build", [flow_matching, normalizing_flow], ids=lambda f: f.__name__)
def test_bfloat16_stays_close_to_float32(tmp_path, build):
    losses = []
    for precision in ("32-true", "bf16-mixed"):
        folder = tmp_path / precision
        trainer(folder, 1, precision=precision).fit(training(build()), datamodule=ColourDigits(batch_size=32))
        losses.append(float(rows(folder)[-1]["train/loss"]))
    assert losses[1] == pytest.approx(losses[0], rel=0.02)


def test_nan_stops_and_keeps_the_last_good_checkpoint(tmp_path):
    class Poison(ModelCheckpoint):
        def on_train_batch_start(self, trainer, module, batch, index):
            if trainer.current_epoch == 1 and index == 1:
                module.learner.network.layers.enter.weight.data.fill_(float("nan"))

    poison = Poison(str(tmp_path), "last", enable_version_counter=False, save_on_train_epoch_end=True)
    with pytest.raises(NonFiniteLoss, match=r"loss term velocity and fiber is not finite at step 4 \(epoch 1"):
        trainer(tmp_path, 3, callbacks=[poison]).fit(training(), datamodule=ColourDigits(batch_size=32))
    run = load(tmp_path / "last.ckpt")
    assert all(p.isfinite().all() for p in run.model.parameters())


def test_a_checkpoint_of_another_subject_is_refused(tmp_path):
    trainer(tmp_path, 1).fit(training(), datamodule=ColourDigits(batch_size=32))
    other = Training(flow_matching(), subject(seed=9))
    with pytest.raises(ValueError, match="trained with another subject"):
        trainer(tmp_path / "b", 2).fit(other, datamodule=ColourDigits(), ckpt_path=str(tmp_path / "last.ckpt"))


def test_damaged_and_foreign_checkpoints(tmp_path):
    with pytest.raises(FileNotFoundError, match="no checkpoint at"):
        load(tmp_path / "missing.ckpt")
    file = tmp_path / "file.ckpt"
    file.write_bytes(b"PK\x03\x04 cut short")
    with pytest.raises(ValueError, match="damaged or not a checkpoint"):
        load(file)
    torch.save({"state_dict": {}}, file)
    with pytest.raises(ValueError, match="not a checkpoint of fibermodels"):
        load(file)
    torch.save({"state_dict": {}, "fibermodels": {"format": 99}}, file)
    with pytest.raises(ValueError, match="checkpoint format 99"):
        load(file)


def test_a_pickle_is_not_executed(tmp_path):
    import pickle

    class Evil:
        def __reduce__(self):
            return (os.system, (f"touch {tmp_path}/pwned",))

    (tmp_path / "evil.ckpt").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(ValueError, match="damaged or not a checkpoint"):
        load(tmp_path / "evil.ckpt")
    assert not (tmp_path / "pwned").exists()


def test_averaging_leaves_frozen_weights_as_they_are(tmp_path):
    module = training()
    before = module.frozen()
    trainer(tmp_path, 2).fit(module, datamodule=ColourDigits(batch_size=32))
    run = load(tmp_path / "last.ckpt")
    assert run.training.frozen() == module.frozen() == before


def test_averages_are_those_of_the_formula(tmp_path):
    """Of what is trained, with a decay that grows over the first steps; buffers are the module's own."""
    seen = []

    class Keep(Callback):
        def on_train_batch_end(self, trainer, module, *_):
            seen.append({name: p.detach().clone() for name, p in module.learner.named_parameters()})

    own = [Keep(), AveragedWeights(0.9)]
    module = training(normalizing_flow())
    buffers = {name: b.clone() for name, b in module.named_buffers()}
    trainer(tmp_path, 2, callbacks=own, limit_val_batches=0, enable_checkpointing=False).fit(
        module, datamodule=ColourDigits(batch_size=32)
    )
    assert len(seen) == 6
    for name, p in module.learner.named_parameters():  # at the end of training, the averages
        average = seen[0][name]
        for n, step in enumerate(seen[1:], 1):
            average = average + (1 - min(0.9, (1 + n) / (10 + n))) * (step[name] - average)
        torch.testing.assert_close(p.detach(), average)
    fixed = {name: value for name, value in module.named_buffers() if "standardise" not in name}
    assert all(torch.equal(value, buffers[name]) for name, value in fixed.items())
    assert any(not value.is_floating_point() for value in buffers.values())


def test_another_run_can_start_from_the_weights_of_one(tmp_path):
    trainer(tmp_path, 1).fit(training(), datamodule=ColourDigits(batch_size=32))
    trained = load(tmp_path / "last.ckpt").model.state_dict()
    fresh = training()
    assert any(not torch.equal(value, trained[name]) for name, value in fresh.learner.state_dict().items())
    start_from(fresh, tmp_path / "last.ckpt")
    assert all(torch.equal(value, trained[name]) for name, value in fresh.learner.state_dict().items())
    with pytest.raises(ValueError, match="do not fit this learner"):
        start_from(training(flow_matching(width=8)), tmp_path / "last.ckpt")
    with pytest.raises(ValueError, match="another subject"):
        start_from(Training(flow_matching(), subject(seed=9)), tmp_path / "last.ckpt")


def test_the_seconds_of_a_training_add_up(tmp_path):
    """Over epochs, over a resumption and over a start from trained weights."""
    data = ColourDigits(batch_size=32)
    trainer(tmp_path, 1).fit(training(), datamodule=data)
    first = load(tmp_path / "last.ckpt").training.seconds
    resumed = training()
    trainer(tmp_path, 2).fit(resumed, datamodule=data, ckpt_path=tmp_path / "last.ckpt")
    second = load(tmp_path / "last.ckpt").training.seconds
    fresh = training()
    start_from(fresh, tmp_path / "last.ckpt")
    assert 0 < first < second == resumed.seconds == fresh.seconds


def test_more_targets_than_a_batch_holds_are_scored_by_energy(tmp_path):
    """One batch scores its rows; all batches score the mean over all rows, which is another number."""
    scores = []
    for preview, batches in ((32, 2), (64, 2), (64, 1)):
        run = trainer(tmp_path / f"{preview}-{batches}", 1, limit_val_batches=batches)
        run.fit(training(preview=preview), datamodule=ColourDigits(batch_size=32))
        scores.append(float(rows(tmp_path / f"{preview}-{batches}")[0]["val/energy_score"]))
    assert scores[0] == scores[2] != scores[1]
    assert all(0 < score < 10 for score in scores)


def test_the_schedule_rises_and_falls():
    values = [one_cycle(i / 100, 0.1) for i in range(121)]
    assert values[0] == pytest.approx(0.04)
    assert values[10] == pytest.approx(1)
    assert values[100] == values[120] == pytest.approx(0, abs=1e-9)
    assert values == [*sorted(values[:11]), *sorted(values[11:], reverse=True)]


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Training(flow_matching()), "needs the subject"),
        (lambda: Training(flow_matching(), subject(), learning_rate=0.0), "learning_rate: expected a number above 0"),
        (lambda: Training(DecolorisedAutoencoder(), subject(), FiberLoss(1.0)), "pushes no noise"),
        (lambda: Training(DecolorisedAutoencoder(size=32), subject()), "the subject takes images"),
    ],
)
def test_bad_combinations(build, message):
    with pytest.raises(ValueError, match=message):
        build()


def test_subject_and_latent_space_are_exported(tmp_path):
    """The published files rebuild what was trained; the subject has unit variance on the training set."""
    module = Training(DecolorisedAutoencoder(dim=6, width=16, blocks=1))
    trainer(tmp_path, 1, callbacks=[ModelCheckpoint(str(tmp_path), "last")]).fit(module, datamodule=ColourDigits())
    card = export(tmp_path / "last.ckpt", tmp_path / "subject")
    with pytest.raises(FileExistsError, match="--overwrite"):
        export(tmp_path / "last.ckpt", tmp_path / "subject")
    from fibermodels.suites import DecolorisedEncoder

    phi = DecolorisedEncoder(str(tmp_path / "subject.safetensors"), dim=6, width=16, blocks=1)
    h = phi(ColourDigits().split("train").images())
    torch.testing.assert_close(h.mean(0), torch.zeros(6), atol=1e-4, rtol=0)
    torch.testing.assert_close(h.std(0, correction=0), torch.ones(6), atol=1e-4, rtol=0)
    assert card["test_scores"].keys() == {"reconstruction_rmse"}


DDP = """
import sys, torch
sys.path[:0] = [{tests!r}]
from lightning.pytorch import Callback, Trainer
from fibermodels.suites.colour_digits import ColourDigits
from fibermodels.models import FiberLoss
from fibermodels.training import Training
from cases import subject

class Keep(Callback):
    def on_before_optimizer_step(self, trainer, module, optimizer):
        if trainer.is_global_zero:
            grads = {{n: p.grad.clone() for n, p in module.named_parameters() if p.grad is not None}}
            torch.save(grads, {out!r})

torch.set_num_threads(1)
devices = {devices}
# One process sees the union of what two see, and nothing is random: noise and times follow from the row.
import cases
from fibermodels.models import FlowMap
torch.randn_like = lambda z: 3 * torch.sin(97 * z)
FlowMap.times = lambda self, z: (0.2 + 0.2 * z[:, 0].sigmoid(), 0.5 + 0.5 * z[:, 1].sigmoid())
model = {model}
trainer = Trainer(accelerator="cpu", devices=devices, strategy="ddp" if devices > 1 else "auto", max_steps=1,
                  logger=False, enable_checkpointing=False, enable_progress_bar=False, callbacks=[Keep()],
                  enable_model_summary=False, limit_val_batches=0)
trainer.fit(Training(model, subject()), datamodule=ColourDigits(batch_size=64 // devices))
"""


@pytest.mark.parametrize(
    "model",
    [
        pytest.param("cases.normalizing_flow()", marks=pytest.mark.slow),
        pytest.param("cases.flow_map(instantaneous=0.0)", marks=pytest.mark.slow),
        pytest.param("cases.flow_map(instantaneous=0.0, derivative='difference')", marks=pytest.mark.slow),
    ],
    ids=["flow", "flow_map", "flow_map_by_difference"],
)
def test_two_processes_have_the_gradients_of_one(tmp_path, model):
    gradients = []
    for devices in (1, 2):
        out = tmp_path / f"{devices}.pt"
        script = tmp_path / f"run{devices}.py"
        script.write_text(DDP.format(tests=str(ROOT / "tests"), out=str(out), devices=devices, model=model))
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        subprocess.run([sys.executable, str(script)], env=environment, check=True, capture_output=True, timeout=240)
        gradients.append(torch.load(out, weights_only=True))
    assert gradients[0].keys() == gradients[1].keys()
    assert len(gradients[0]) > 4
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, atol=1e-6, rtol=1e-4)


def test_validation_represents_and_encodes_each_image_once(monkeypatch):
    """The subject also sees the eight previewed samples and the four rows of each fiber loss, and nothing else."""
    module = training()
    seen = {"subject": 0, "latents": 0}
    represent, encode = module.subject.forward, module.learner.latents.moments

    def counted(name, function):
        def call(x, *rest):
            seen[name] += len(x)
            return function(x, *rest)

        return call

    monkeypatch.setattr(module.subject, "forward", counted("subject", represent))
    monkeypatch.setattr(module.learner.latents, "moments", counted("latents", encode))
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    own = Trainer(accelerator="cpu", limit_val_batches=3, **quiet)
    own.validate(module, datamodule=ColourDigits(batch_size=32), verbose=False)
    assert seen == {"subject": 3 * (32 + 4) + 8, "latents": 3 * 32}
