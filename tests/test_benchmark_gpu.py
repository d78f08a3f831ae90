"""The script for a GPU runs on a CPU in miniature, and each of its stages leaves a result."""

import json
from pathlib import Path

import pytest
from scripts import run

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_every_stage_leaves_a_result(tmp_path, monkeypatch):
    import cifar10_gpu
    import runner
    import stand_ins

    for name in ("configs", "examples"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "weights").symlink_to(ROOT / "data" / "weights")
    root = stand_ins.write(tmp_path / "root", {})
    (tmp_path / "data" / "cifar10_images").symlink_to(root / "data" / "cifar10_images")
    called = []

    def call(script, *arguments):
        called.append(script)
        done = run(script, *arguments, cwd=tmp_path, FIBERMODELS_DATA=root, FIBERMODELS_IMPORTS="examples")
        assert done.returncode == 0, done.stderr

    monkeypatch.setattr(runner, "call", call)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cifar10_gpu, "PILOT", 2)
    small = {"width": 16, "batch": 2, "targets": 4, "samples": 2, "out": "results"}
    few = ["--data.init_args.val_size", "2", "--trainer.accelerator", "cpu", "--trainer.precision", "32-true"]
    cifar10_gpu.main(minutes=1e-9, **small, more=few)
    assert called == ["train.py"], "when the minutes are over, only the pilot has run"
    monkeypatch.setattr(cifar10_gpu, "rate", lambda _: 1e-3)
    cifar10_gpu.main(minutes=30, **small, more=few)
    for stage in cifar10_gpu.STAGES:
        values = json.loads((tmp_path / "results" / stage.name / "metrics.json").read_text())
        assert values["num_targets"] == 4
        assert values["family"] == "EnergyScore"
        assert values["training_steps"] == 2
        assert {"top1_match", "unseen_match_mean", "unseen_match_min"} <= set(values)
    assert (tmp_path / "results" / "comparison.csv").is_file()
    before = len(called)
    cifar10_gpu.main(minutes=30, **small, more=few)
    assert len(called) == before, "what is done is not done again"
