"""Training at scale: checkpoints within an epoch, averages, several processes."""

import csv
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from cases import FEATURES, flow_matching, subject
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from fibermodels.data.loading import EpochSampler, ResumableLoader
from fibermodels.models import FiberLoss
from fibermodels.noise import seeded
from fibermodels.suites.colour_digits import ColourDigits
from fibermodels.training import Training, load
from fibermodels.training.averaging import AveragedWeights
from fibermodels.training.callbacks import EXIT_STATUS, MetricsCSV, Preemption
from fibermodels.training.cli import main

ROOT = Path(__file__).parents[1]


def trainer(folder, epochs=2, extra=(), steps=0, **options):
    own = [
        AveragedWeights(0.9),
        ModelCheckpoint(str(folder), "last", enable_version_counter=False, save_on_train_epoch_end=True),
        MetricsCSV(folder / "metrics.csv"),
        Preemption(folder / "last.ckpt", steps=steps),
        *extra,
    ]
    defaults = {
        "accelerator": "cpu",
        "max_epochs": epochs,
        "limit_train_batches": 6,
        "limit_val_batches": 1,
        "num_sanity_val_steps": 0,
        "logger": False,
        "callbacks": own,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "gradient_clip_val": 1.0,
    }
    return Trainer(**defaults | options)


def training(optimizer="adamw"):
    fiber = FiberLoss(1.0, rows=4, checkpointing=True)
    return Training(flow_matching(), subject(), fiber, optimizer=optimizer, preview=8)


def compare(whole, parts, **tolerance):
    """Weights, averages and the optimizer's state of two runs."""
    first, second = (torch.load(folder / "last.ckpt", weights_only=True) for folder in (whole, parts))
    assert first["global_step"] == second["global_step"]
    for key in ("state_dict", "current_model_state"):
        assert first[key].keys() == second[key].keys()
        for name, value in first[key].items():
            torch.testing.assert_close(second[key][name], value, **{"atol": 0, "rtol": 0} | tolerance)
    states = [each["optimizer_states"][0]["state"] for each in (first, second)]
    for index, values in states[0].items():
        for name, value in values.items():
            torch.testing.assert_close(states[1][index][name], value, **{"atol": 0, "rtol": 0} | tolerance)


def rows(folder):
    with (folder / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


class Die(Callback):
    """In the middle of an epoch, after the steps given."""

    def __init__(self, step, number=None):
        self.step, self.number = step, number

    def on_train_batch_start(self, trainer, module, batch, index):
        if trainer.global_step == self.step:
            if self.number is None:
                raise KeyError("died")
            os.kill(os.getpid(), self.number)


@pytest.mark.parametrize("number", [None, signal.SIGTERM, signal.SIGUSR1], ids=["died", "SIGTERM", "SIGUSR1"])
@pytest.mark.parametrize("accumulated", [1, 2])
def test_a_run_goes_on_in_the_middle_of_an_epoch(tmp_path, number, accumulated):
    """As if it had never stopped: weights, averages, optimizer, and the epoch's means."""
    data = lambda: ColourDigits(batch_size=32)  # noqa: E731
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    options = {"accumulate_grad_batches": accumulated, "limit_train_batches": 8}
    trainer(whole, **options).fit(training(), datamodule=data())
    steps = 8 // accumulated
    dying = trainer(parts, extra=[Die(steps + 2, number)], steps=0 if number else 1, **options)
    handlers = [signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGUSR1)]
    with pytest.raises(SystemExit if number else KeyError) as stopped:
        dying.fit(training(), datamodule=data())
    assert [signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGUSR1)] == handlers
    if number:
        assert stopped.value.code == EXIT_STATUS == 143
    saved = torch.load(parts / "last.ckpt", weights_only=True)
    assert saved["global_step"] == (steps + 3 if number else steps + 2)
    torch.manual_seed(12345)
    trainer(parts, **options).fit(training(), datamodule=data(), ckpt_path=str(parts / "last.ckpt"), weights_only=True)
    assert rows(parts) == rows(whole)
    compare(whole, parts)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_loader_goes_on_in_an_epoch_that_is_set_late(workers):
    """As Lightning does: the iterator first, then the epoch; its order and its colours are that epoch's."""
    batches = []
    for start in (0, 2):
        data = ColourDigits().split("train")
        loader = ResumableLoader(
            data, 300, sampler=EpochSampler(data, 7), collate_fn=lambda x: x, drop_last=True, num_workers=workers
        )
        iterator = iter(loader)
        loader.sampler.set_epoch(3)
        loader.left_out = start
        batches.append([batch["x"] for batch in iterator])
        assert loader.state_dict() == {"batches": 4}
    data.set_epoch(3)
    order = torch.randperm(len(data), generator=torch.Generator().manual_seed(7 + 3))  # as DistributedSampler's
    assert torch.equal(batches[0][1], data.images(order[300:600]))
    assert len(batches[1]) == 2
    assert all(map(torch.equal, batches[0][2:], batches[1]))


def test_averages_hold_what_is_trained_and_nothing_else(tmp_path):
    """Bytes of the averages, and what a checkpoint repeats."""
    module = training()
    run = trainer(tmp_path, 1)
    run.fit(module, datamodule=ColourDigits(batch_size=32))
    averages = run.callbacks[0]
    trained = {name: p for name, p in module.named_parameters() if p.requires_grad}
    assert sum(a.numel() for a in averages.averages) == sum(p.numel() for p in trained.values())
    assert len(trained) < len(list(module.parameters()))
    saved = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert saved["current_model_state"].keys() == trained.keys()
    assert saved["state_dict"].keys() == module.state_dict().keys()
    assert load(tmp_path / "last.ckpt").training.frozen() == module.frozen()


def test_a_checkpoint_of_earlier_averages_is_resumed(tmp_path):
    """Earlier versions repeated the whole module, frozen parts and buffers, in both states."""
    parts = tmp_path / "parts"
    trainer(parts, 1).fit(training(), datamodule=ColourDigits(batch_size=32))
    trainer(tmp_path / "new", 1).fit(training(), datamodule=ColourDigits(batch_size=32))
    saved = torch.load(parts / "last.ckpt", weights_only=True)
    saved["current_model_state"] = {**saved["state_dict"], **saved["current_model_state"]}
    del saved["fibermodels"]["epoch"]
    torch.save(saved, parts / "last.ckpt")
    for folder in (parts, tmp_path / "new"):
        trainer(folder, 2).fit(training(), datamodule=ColourDigits(batch_size=32), ckpt_path=str(folder / "last.ckpt"))
    compare(tmp_path / "new", parts)


@pytest.mark.parametrize("option", [{"minutes": -1}, {"steps": -1}])
def test_bad_intervals(option, tmp_path):
    with pytest.raises(ValueError, match="expected 0 or more"):
        Preemption(tmp_path, **option)


RUN = """
import os, signal, sys
sys.path[:0] = [{tests!r}]
import torch
torch.set_num_threads(1)
from pathlib import Path
from test_scale import ColourDigits, Die, trainer, training
from fibermodels.training import sharding
sharding.UNIT = 1  # every block of a list for itself
die, resume, folder = int(sys.argv[1]), sys.argv[2] == "resume", Path({folder!r})
strategy = sharding.FullyShardedStrategy() if {strategy!r} == "fsdp" else {strategy!r}
run = trainer(folder, extra=[Die(die, signal.SIGKILL)], steps=2, devices=2, strategy=strategy, precision={precision!r})
learner = training(optimizer={optimizer!r})
run.fit(learner, datamodule=ColourDigits(batch_size=16), ckpt_path=folder / "last.ckpt" if resume else None)
"""


def processes(folder, strategy, precision, optimizer, *calls):
    """Two processes train; each call is a step to be killed at (-1: none), `start` or `resume`, and a status."""
    folder.mkdir()
    script = folder / "run.py"
    script.write_text(
        RUN.format(
            tests=str(ROOT / "tests"), folder=str(folder), strategy=strategy, precision=precision, optimizer=optimizer
        )
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    for *arguments, status in calls:
        done = subprocess.run(
            [sys.executable, str(script), *arguments], env=environment, capture_output=True, timeout=240
        )
        assert done.returncode == status, done.stderr.decode()[-2000:]
        if status:
            assert torch.load(folder / "last.ckpt", weights_only=True)["global_step"] == 8


def killed_and_resumed(folder, strategy, precision="32-true", optimizer="adamw"):
    """A run of two processes that is killed in the second epoch and resumed, and one that ran through."""
    whole, parts = folder / "whole", folder / "parts"
    processes(whole, strategy, precision, optimizer, ("-1", "start", 0))
    processes(parts, strategy, precision, optimizer, ("9", "start", -signal.SIGKILL), ("-1", "resume", 0))
    assert rows(whole) == rows(parts)
    return whole, parts


@pytest.mark.slow
def test_two_processes_killed_and_resumed_end_as_two_that_ran_through(tmp_path):
    """Posterior noise, times, the fiber loss's rows and validation: all of it, bit by bit."""
    compare(*killed_and_resumed(tmp_path, "ddp"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("precision", "optimizer"), [("32-true", "adamw"), ("bf16-mixed", "adamw"), ("32-true", "muon")]
)
def test_two_shards_killed_and_resumed_end_as_two_that_ran_through(tmp_path, precision, optimizer):
    compare(*killed_and_resumed(tmp_path, "fsdp", precision, optimizer))


def command(monkeypatch, *arguments):
    """`train.py` in this process."""
    monkeypatch.setattr(sys, "argv", ["train.py", "--config", "configs/quickstart.yaml", *map(str, arguments)])
    monkeypatch.chdir(ROOT)
    main()


def test_a_job_that_starts_again_resumes_where_there_is_something(tmp_path, monkeypatch):
    small = ["--runs", tmp_path, "--cache_draws", 0, "--trainer.accelerator", "cpu", "--trainer.limit_train_batches", 2]
    for epochs in (1, 2):
        command(monkeypatch, *small, "--ckpt_path", "auto", "--trainer.max_epochs", epochs)
        assert [row["epoch"] for row in rows(tmp_path / "quickstart")] == ["0", "1"][:epochs]
    assert [row["step"] for row in rows(tmp_path / "quickstart")] == ["2", "4"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--global_batch", 3, "--trainer.devices", 2], "global_batch: expected a multiple of 2 processes, got 3"),
        (["--checkpoint_minutes", -1], "checkpoint_minutes, checkpoint_steps: expected 0 or more"),
        (["--cache_half", "true"], "cache_half: expected cache_shard_rows"),
    ],
)
def test_bad_options_of_the_command(options, message, tmp_path, monkeypatch, capsys):
    with pytest.raises(SystemExit) as ended:
        command(monkeypatch, "--runs", tmp_path, "--trainer.accelerator", "cpu", *options)
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


def test_a_batch_is_shared(tmp_path, monkeypatch, capsys):
    """32 images over four processes are 8 each; the dry run counts steps of 32."""
    processes = ["--trainer.devices", 4, "--trainer.strategy", "ddp", "--trainer.accelerator", "cpu"]
    with pytest.raises(SystemExit):
        command(monkeypatch, "--runs", tmp_path, *processes, "--global_batch", 32, "--dry_run", "true")
    shown = capsys.readouterr().out
    assert "batch of 8 per process" in shown
    assert f"{1297 // 32} steps an epoch" in shown


def test_a_share_of_the_fiber_loss_rows():
    """Two processes push half of the rows each; their mean is that of one."""
    model, phi = flow_matching(), subject()
    h = torch.randn(8, FEATURES, generator=seeded(0))
    for rows_, processes, expected in ((6, 2, 3), (6, 4, 1), (2, 4, 1), (None, 2, 8)):
        assert len(FiberLoss(1.0, rows=rows_)(model, phi, h, processes=processes)) == expected
