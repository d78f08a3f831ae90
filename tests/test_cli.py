"""The scripts as a user runs them: a small run, its resumption, and what goes wrong."""

import json
import os
import re
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from scripts import run

from fibermodels.files import claim, release

ROOT = Path(__file__).parents[1]
QUICK = ["--config", "configs/quickstart.yaml", "--trainer.max_epochs", "2", "--trainer.limit_train_batches", "2"]
SMALL = ["--trainer.limit_val_batches", "1", "--trainer.check_val_every_n_epoch", "1", "--cache_draws", "1"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder of a run of the quickstart's config, cut short."""
    folder = tmp_path_factory.mktemp("runs")
    done = run("train.py", *QUICK, *SMALL, "--runs", folder, FIBERMODELS_CACHE=folder / "cache")
    assert done.returncode == 0, done.stderr
    return folder


def test_a_run_leaves_what_was_promised(trained):
    own = trained / "quickstart"
    for name in ("config.yaml", "metrics.csv", "samples.png", "checkpoints/last.ckpt", "checkpoints/best.ckpt"):
        assert (own / name).is_file(), name
    assert list(own.glob("events.out.tfevents*"))
    assert "fiber_rms_shuffled" in (own / "metrics.csv").read_text()


def test_an_earlier_run_is_not_overwritten(trained):
    again = run("train.py", *QUICK, *SMALL, "--runs", trained)
    assert again.returncode == 2
    assert "resume it with --ckpt_path last" in again.stderr
    assert "Traceback" not in again.stderr


def test_it_resumes_for_more_epochs(trained):
    more = run(
        "train.py",
        *QUICK,
        *SMALL,
        "--runs",
        trained,
        "--ckpt_path",
        "last",
        "--trainer.max_epochs",
        "3",
        FIBERMODELS_CACHE=trained / "cache",
    )
    assert more.returncode == 0, more.stderr
    lines = (trained / "quickstart" / "metrics.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in lines] == ["epoch", "0", "1", "2"]
    saved = trained / "quickstart" / "config.yaml"
    again = run("train.py", "--config", saved, "--name", "again", "--trainer.fast_dev_run", "true")
    assert again.returncode == 0, again.stderr


def test_overwriting_starts_anew(trained, tmp_path):
    import shutil

    shutil.copytree(trained / "quickstart", tmp_path / "quickstart")
    (tmp_path / "quickstart" / "notes.txt").write_text("mine")
    options = ("--runs", tmp_path, "--overwrite", "true", "--trainer.max_epochs", "1")
    done = run("train.py", *QUICK, *SMALL, *options, FIBERMODELS_CACHE=trained / "cache")
    assert done.returncode == 0, done.stderr
    assert len((tmp_path / "quickstart" / "metrics.csv").read_text().splitlines()) == 2
    assert len(list((tmp_path / "quickstart").glob("events*"))) == 1
    assert (tmp_path / "quickstart" / "notes.txt").read_text() == "mine"


def test_a_run_that_cannot_start_destroys_nothing(trained, tmp_path):
    import shutil

    shutil.copytree(trained / "quickstart", tmp_path / "quickstart", ignore=shutil.ignore_patterns("checkpoints"))
    (tmp_path / "quickstart" / "checkpoints").mkdir()
    for file in ("last.ckpt", "mine.ckpt"):
        (tmp_path / "quickstart" / "checkpoints" / file).write_bytes(b"earlier")
    earlier = {path: path.read_bytes() for path in (tmp_path / "quickstart").rglob("*") if path.is_file()}
    for wrong in (["--data.base", "mnist", "--data.root", tmp_path / "nowhere"], ["--model.weight_decay", "-1"]):
        done = run("train.py", *QUICK, *SMALL, "--runs", tmp_path, "--overwrite", "true", *wrong)
        assert done.returncode == 2
    assert all(path.read_bytes() == content for path, content in earlier.items())


def test_two_runs_do_not_share_a_folder(tmp_path):
    from fibermodels.files import claim

    lock = claim(tmp_path / "quickstart")
    done = run("train.py", *QUICK, *SMALL, "--runs", tmp_path, FIBERMODELS_CACHE=tmp_path / "cache")
    lock.close()
    assert done.returncode == 2
    assert f"in use by process {os.getpid()}" in done.stderr


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        (["--model.learning_rate", "0.5"], "model.learning_rate: 0.001 -> 0.5"),
        (["--data.batch_size", "8"], "data.batch_size: "),
        (["--ema_decay", "0"], "averaged weights: True -> False"),
        (["--model.learner.network.width", "64"], "Its weights do not fit"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_resumed_run_says_what_changed(trained, changed, words):
    again = ("--runs", trained, "--ckpt_path", "last", "--trainer.max_epochs", "9")
    done = run("train.py", *QUICK, *SMALL, *again, *changed, FIBERMODELS_CACHE=trained / "cache")
    assert done.returncode == 2, done.stderr
    assert words in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_evaluate_and_compare(trained, tmp_path):
    checkpoint = trained / "quickstart" / "checkpoints" / "best.ckpt"
    size = ("--num_targets", 20, "--samples_per_target", 2, "--device", "cpu")
    done = run("evaluate.py", "--checkpoint", checkpoint, *size, "--out", tmp_path / "model")
    assert done.returncode == 0, done.stderr
    values = json.loads((tmp_path / "model" / "metrics.json").read_text())
    assert (values["family"], values["num_targets"], values["dataset"]) == ("FlowMatching", 20, "colour_digits")
    assert values["training_steps"] == torch.load(checkpoint, weights_only=True)["global_step"] > 0
    assert values["training_seconds"] > 0
    assert values["training_device"].startswith("cpu")
    again = run("evaluate.py", "--checkpoint", checkpoint, *size, "--out", tmp_path / "model")
    assert again.returncode == 2
    assert "--overwrite true" in again.stderr
    done = run("evaluate.py", "--model", "configs/digits/oracle.yaml", *size, "--out", tmp_path / "oracle")
    assert done.returncode == 0, done.stderr
    done = run("evaluate.py", "--compare", tmp_path / "model", tmp_path / "oracle", "--out", tmp_path / "both")
    assert done.returncode == 0, done.stderr
    assert "oracle" in done.stdout
    names = {*(f"comparison.{e}" for e in ("csv", "md", "png")), "report.html"}
    assert {p.name for p in (tmp_path / "both").iterdir()} == names


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model.lrr", "1"], "--model.lrr"),
        (["--model.learner", "torch.nn.Linear"], "does not correspond to a subclass of Trainable"),
        (["--model.learner", "os.system"], "not allowed"),
        (["--data.batch_size", "0"], "data.batch_size: expected at least 1, got 0"),
        (
            ["--model.learner.sampler", "Midpoint", "--model.learner.sampler.steps", "0"],
            "steps must be at least 1, got 0",
        ),
        (["--subject.weights", "nowhere.safetensors"], "no weights at 'nowhere.safetensors'"),
        (["--name", "fresh", "--ckpt_path", "last"], "nothing to resume at"),
        (["--data.base", "mnits"], "mnits"),
    ],
    ids=lambda v: " ".join(v) if isinstance(v, list) else "",
)
def test_train_says_what_is_wrong(arguments, message, tmp_path):
    failed = run("train.py", *QUICK, *SMALL, "--runs", tmp_path, *arguments)
    assert failed.returncode == 2
    assert message in failed.stderr
    assert "Traceback" not in failed.stderr
    assert not list(tmp_path.rglob("*.ckpt"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "expected one of --checkpoint, --model, --compare and --report"),
        (["--checkpoint", "nowhere.ckpt"], "no checkpoint at 'nowhere.ckpt'"),
        (["--checkpoint", "README.md"], "damaged or not a checkpoint"),
        (["--model", "nowhere.yaml"], "no model file at 'nowhere.yaml'"),
        (["--model", "configs/quickstart.yaml"], "configs/quickstart.yaml"),
        (["--compare", "nowhere"], "no result in 'nowhere'"),
        (["--model", "configs/digits/oracle.yaml", "--num_targets", "-3"], "num_targets: expected at least 1, got -3"),
        (["--modell", "x"], "--modell"),
        (["--compare", "nowhere", "--model.init_args.steps", "3"], "expected only with --model or --checkpoint"),
    ],
    ids=lambda v: " ".join(v) if isinstance(v, list) else "",
)
def test_evaluate_says_what_is_wrong(arguments, message, tmp_path):
    failed = run("evaluate.py", *arguments, "--out", tmp_path / "out")
    assert failed.returncode == 2
    assert message in failed.stderr
    assert "Traceback" not in failed.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("stepz", "3", "Option 'stepz' is not accepted"),
        ("strength", "-1", "Guided: strength: expected a number of at least 0, got -1.0"),
        ("guidance.class_path", "fibermodels.guidance.NTDM", "has no attribute 'NTDM'"),
        ("prior.init_args.network.init_args.width", "64", "Diffusion: the weights in"),
        ("prior.init_args.weights", "nowhere", "Diffusion: no weights at 'nowhere'"),
        ("prior", "configs/parts/colour_mnist/flow_map.yaml", "FlowMap"),
    ],
)
def test_a_model_file_with_a_wrong_key_is_one_clear_message(key, value, message, tmp_path):
    options = ("--model", "configs/colour_mnist/ndtm.yaml", f"--model.init_args.{key}", value)
    failed = run("evaluate.py", *options, "--out", tmp_path / "out")
    assert failed.returncode == 2
    assert message in failed.stderr
    assert "Traceback" not in failed.stderr
    assert len(failed.stderr) < 700


def test_it_works_from_any_folder(trained, tmp_path):
    """A config, a saved config and a model file, whose paths belong to the project."""
    few = ("--trainer.max_epochs", "1", "--runs", tmp_path, "--ckpt_path", "auto")
    for config, name in ((ROOT / "configs" / "quickstart.yaml", "a"), (trained / "quickstart" / "config.yaml", "b")):
        done = run("train.py", "--config", config, "--name", name, *SMALL, *few, cwd=tmp_path,
                   FIBERMODELS_CACHE=trained / "cache")  # fmt: skip
        assert done.returncode == 0, done.stderr
    model = ("--model", ROOT / "configs" / "digits" / "oracle.yaml", "--num_targets", 4, "--samples_per_target", 2)
    done = run("evaluate.py", *model, "--out", "result", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b", "result"]


def test_paths_in_a_config_may_be_relative_to_it(trained, tmp_path):
    (tmp_path / "mine").mkdir()
    exported = run(
        "export.py", "--checkpoint", trained / "quickstart/checkpoints/last.ckpt", "--out", tmp_path / "mine/m"
    )
    assert exported.returncode == 0, exported.stderr
    (tmp_path / "mine" / "more.yaml").write_text("model: {learner: {init_args: {weights: m.safetensors}}}\n")
    few = ("--trainer.max_epochs", "1", "--runs", tmp_path)
    done = run("train.py", *QUICK, *SMALL, "--config", tmp_path / "mine" / "more.yaml", *few)
    assert done.returncode == 0, done.stderr


def test_two_evaluations_do_not_share_a_folder(tmp_path):
    lock = claim(tmp_path / "out")
    few = ("--model", "configs/digits/oracle.yaml", "--num_targets", 4, "--samples_per_target", 2)
    done = run("evaluate.py", *few, "--out", tmp_path / "out")
    assert done.returncode == 2
    assert f"is in use by process {os.getpid()}" in done.stderr
    release(lock)
    done = run("evaluate.py", *few, "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert ".lock" not in [path.name for path in (tmp_path / "out").iterdir()]


@pytest.mark.parametrize("script", ["train", "evaluate", "export"])
def test_a_full_disk_is_one_message(script, trained, tmp_path):
    """No file may grow beyond 30 KB, which ends like a full disk."""
    few = ("--num_targets", 50, "--samples_per_target", 2, "--out", tmp_path / "out")
    command = {
        "train": ("train.py", *QUICK, *SMALL, "--runs", tmp_path, "--cache_draws", 0),
        "evaluate": ("evaluate.py", "--model", "configs/digits/oracle.yaml", *few),
        "export": ("export.py", "--checkpoint", trained / "quickstart/checkpoints/last.ckpt", "--out", tmp_path / "m"),
    }[script]
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, limits[1]))
    try:
        done = run(*command)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert done.returncode == 2
    assert re.search(r"error: (cannot write )?'.*(File too large|Error|fail)", done.stderr), done.stderr
    assert str(tmp_path) in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_a_killed_run_resumes_and_ends_as_if_it_had_not_been(tmp_path):
    """`kill -9` in the middle; the same rows and the same weights in the end."""
    import torch

    epochs = [*QUICK, *SMALL, "--trainer.max_epochs", "30", "--trainer.limit_train_batches", "10"]
    environment = {**os.environ, "FIBERMODELS_CACHE": str(tmp_path / "cache"), "CUDA_VISIBLE_DEVICES": ""}
    first, second = tmp_path / "a" / "quickstart", tmp_path / "b" / "quickstart"

    def start(folder, *more):
        command = [sys.executable, "train.py", *epochs, "--runs", str(folder.parent), *more]
        return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL)

    assert start(first).wait(240) == 0
    process, table = start(second), second / "metrics.csv"
    while process.poll() is None and not (table.is_file() and len(table.read_text().splitlines()) > 8):
        time.sleep(0.01)
    assert process.poll() is None, "it was to be killed while it ran"
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert start(second, "--ckpt_path", "last").wait(240) == 0
    assert (first / "metrics.csv").read_text() == (second / "metrics.csv").read_text()
    states = [torch.load(p / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"] for p in (first, second)]
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())


@pytest.mark.slow
def test_two_processes_from_the_command_line(tmp_path):
    options = ["--trainer.accelerator", "cpu", "--trainer.devices", "2", "--trainer.strategy", "ddp"]
    command = [sys.executable, "train.py", *QUICK, *SMALL, *options, "--runs", str(tmp_path)]
    environment = {**os.environ, "FIBERMODELS_CACHE": str(tmp_path / "cache"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    assert len((tmp_path / "quickstart" / "metrics.csv").read_text().splitlines()) == 3


def test_an_interrupted_evaluation_says_so(tmp_path, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("fibermodels.evaluation.cli.run", interrupted)
    done = run("evaluate.py", "--model", "configs/digits/oracle.yaml", "--out", tmp_path / "out")
    assert done.returncode == 130
    assert "interrupted: no result in" in done.stderr
