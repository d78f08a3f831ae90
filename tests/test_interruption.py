"""`kill -9` at random moments, on one file system and with temporary files on another one.

A child of this process runs the command, because a new one would spend most of its life on imports.
"""

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
import torch
from scripts import ROOT, run

from fibermodels.component import read_weights

TRAIN = [
    *("--config", "configs/quickstart.yaml", "--trainer.max_epochs", "30", "--trainer.limit_train_batches", "4"),
    *("--trainer.limit_val_batches", "1", "--trainer.check_val_every_n_epoch", "1", "--cache_draws", "1"),
    *("--checkpoint_steps", "3", "--ckpt_path", "auto", "--trainer.logger", "false"),
]
EVALUATE = ["--model", "configs/digits/oracle.yaml", "--num_targets", "24", "--samples_per_target", "4"]
SHARED_MEMORY = Path("/dev/shm")

pytestmark = pytest.mark.timeout(1800)  # ten commands and more each, and the machine may have other work


@pytest.fixture(params=["here", "elsewhere"])
def temporary(request, tmp_path, monkeypatch):
    """The folder of temporary files: beside the results, or on another file system."""
    if request.param == "elsewhere":
        if not SHARED_MEMORY.is_dir() or SHARED_MEMORY.stat().st_dev == tmp_path.stat().st_dev:
            pytest.skip("there is one file system")
        with tempfile.TemporaryDirectory(dir=SHARED_MEMORY) as folder:
            monkeypatch.setattr(tempfile, "tempdir", folder)
            yield Path(folder)
    else:
        (tmp_path / "temporary").mkdir()
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
        yield tmp_path / "temporary"


def killed(seconds: float, *command: object, **environment: object) -> bool:
    """Runs a command in a child and kills it after some seconds, unless it ended before; whether it was killed."""
    child = os.fork()
    if not child:
        os.setpgid(0, 0)
        with Path(os.devnull).open("w") as nothing:
            os.dup2(nothing.fileno(), 1)
            os.dup2(nothing.fileno(), 2)
            done = run(*command, **environment)  # type: ignore[arg-type]
        os._exit(done.returncode)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        gone, status = os.waitpid(child, os.WNOHANG)
        if gone:
            assert status == 0, f"{command} failed"
            return False
        time.sleep(0.002)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return True


def moments(count: int, length: float) -> list[float]:
    """Random times within the length of a command."""
    draw = random.Random(0)
    return [draw.uniform(0.05, 0.95) * length for _ in range(count)]


@pytest.mark.slow
def test_training_and_its_cache(temporary, tmp_path):
    def options(name):
        return (*TRAIN, "--runs", tmp_path / name), {"FIBERMODELS_CACHE": tmp_path / name / "cache"}

    first, environment = options("first")
    assert run("train.py", *first, **environment).returncode == 0  # which imports everything
    whole, environment = options("whole")
    begin = time.monotonic()
    assert run("train.py", *whole, **environment).returncode == 0
    length = time.monotonic() - begin
    broken, environment = options("broken")
    mine = tmp_path / "broken" / "quickstart" / "notes.txt"
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    kills = sum(killed(seconds, "train.py", *broken, **environment) for seconds in moments(10, length / 4))
    assert kills >= 8
    last = run("train.py", *broken, **environment)
    assert last.returncode == 0, last.stderr
    tables = [(tmp_path / name / "quickstart" / "metrics.csv").read_text() for name in ("whole", "broken")]
    assert tables[0] == tables[1]
    one, other = (
        torch.load(tmp_path / name / "quickstart/checkpoints/last.ckpt", weights_only=True)["state_dict"]
        for name in ("whole", "broken")
    )
    assert all(torch.equal(value, other[name]) for name, value in one.items())
    assert mine.read_text() == "mine"
    assert not [path for path in temporary.iterdir() if not path.name.startswith("torchinductor")]
    left = [path.name for path in (tmp_path / "broken").rglob(".*") if path.name != ".lock"]
    assert not left


@pytest.mark.slow
def test_evaluation(temporary, tmp_path):
    def command(name, *more):
        return "evaluate.py", *EVALUATE, "--out", tmp_path / name, *more

    assert run(*command("whole")).returncode == 0
    begin = time.monotonic()
    assert run(*command("broken")).returncode == 0
    length = time.monotonic() - begin
    before = (tmp_path / "broken" / "metrics.json").read_text()
    for seconds in moments(6, length):
        killed(seconds, *command("broken", "--overwrite", "true", "--seed", 1))
        assert json.loads((tmp_path / "broken" / "metrics.json").read_text())["seed"] in (0, 1)
    assert json.loads(before)["seed"] == 0
    done = run(*command("broken", "--overwrite", "true"))
    assert done.returncode == 0, done.stderr
    files = [(tmp_path / name / "samples.safetensors").read_bytes() for name in ("whole", "broken")]
    assert files[0] == files[1]
    assert sorted(path.name for path in (tmp_path / "broken").iterdir()) == sorted(
        path.name for path in (tmp_path / "whole").iterdir()
    )
    assert not [path for path in temporary.iterdir() if not path.name.startswith("torchinductor")]


@pytest.mark.slow
def test_export(temporary, tmp_path):
    runs, out = tmp_path / "runs", tmp_path / "weights" / "model"
    assert run("train.py", *TRAIN, "--runs", runs, FIBERMODELS_CACHE=tmp_path / "cache").returncode == 0
    command = ("export.py", "--checkpoint", runs / "quickstart/checkpoints/last.ckpt", "--out", out)
    begin = time.monotonic()
    assert run(*command).returncode == 0
    length = time.monotonic() - begin
    before = out.with_suffix(".safetensors").read_bytes()
    for seconds in moments(6, length):
        killed(seconds, *command, "--overwrite", "true")
        read_weights("test", out.with_suffix(".safetensors"))
        assert out.with_suffix(".safetensors").read_bytes() == before
    assert run(*command, "--overwrite", "true").returncode == 0
    assert sorted(path.name for path in out.parent.iterdir()) == [
        "model.frozen.safetensors",
        "model.json",
        "model.safetensors",
    ]
    assert not [path for path in temporary.iterdir() if not path.name.startswith("torchinductor")]


@pytest.mark.slow
def test_the_workers_of_a_killed_evaluation_end(tmp_path):
    """`--processes 2`, and `kill -9` of the first process."""
    few = [*EVALUATE[:2], "--num_targets", "200", "--batch_size", "1", "--samples_per_target", "200"]
    command = [sys.executable, "evaluate.py", *few, "--processes", "2", "--out", str(tmp_path / "out")]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def workers():
        mine = [path for path in Path("/proc").glob("[0-9]*") if str(tmp_path) in reading(path / "cmdline")]
        own = [path for path in Path("/proc").glob("[0-9]*") if f"PPid:\t{process.pid}\n" in reading(path / "status")]
        return {*mine, *own}

    wait(lambda: (tmp_path / "out" / "partial").is_dir() and len(workers()) >= 2)
    found = workers()
    process.kill()
    process.wait()
    wait(lambda: not [path for path in found if path.exists()])
    again = run("evaluate.py", *few, "--samples_per_target", 2, "--out", tmp_path / "out")
    assert again.returncode == 0, again.stderr


def reading(path):
    """The text of a file of /proc, which may be gone."""
    try:
        return path.read_text(errors="replace").replace("\0", " ")
    except OSError:
        return ""


def wait(condition, seconds=600):
    """Waits until a condition holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.05)
