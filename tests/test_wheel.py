"""The wheel, installed and used away from the clone."""

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def test_the_wheel_has_the_weights_that_its_first_configs_need():
    """Those of the quickstart and of the digits; all files that the build names exist."""
    import yaml

    build = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    brought = build["only-include"]
    assert all((ROOT / path).exists() for path in brought)
    parts = ("parts/colour_mnist/subject.yaml", "parts/colour_digits/fiber_autoencoder.yaml")
    for part in parts:
        weights = yaml.safe_load((ROOT / "configs" / part).read_text())["init_args"]["weights"]
        assert any(weights == path or weights.startswith(f"{path}/") for path in brought), weights


def test_a_config_of_the_project_is_found_from_anywhere(tmp_path, monkeypatch):
    from fibermodels.config import installed

    monkeypatch.chdir(tmp_path)
    assert installed("configs/quickstart.yaml") == str(ROOT / "configs" / "quickstart.yaml")
    assert installed("--config=configs/quickstart.yaml") == f"--config={ROOT / 'configs' / 'quickstart.yaml'}"
    for word in ("configs/nowhere.yaml", "--model.width=3", "README.md", "configs"):
        assert installed(word) == word
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "quickstart.yaml").write_text("name: mine")
    assert installed("configs/quickstart.yaml") == "configs/quickstart.yaml"


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_an_installed_wheel_works_in_an_empty_folder(tmp_path):
    """Without the clone: the list, a step of the quickstart, and the score of the exact oracle."""
    wheels, site, home = (tmp_path / name for name in ("wheels", "site", "home"))
    home.mkdir()
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", wheels, ROOT], check=True)
    (wheel,) = wheels.glob("*.whl")
    assert wheel.stat().st_size < 30_000_000
    subprocess.run([*pip, "install", "--no-deps", "--no-index", "--target", site, wheel], check=True)
    dropped = ("FIBERMODELS_DATA", "FIBERMODELS_IMPORTS")
    environment = {name: value for name, value in os.environ.items() if name not in dropped}
    environment |= {"PYTHONPATH": str(site), "FIBERMODELS_CACHE": str(tmp_path / "cache")}

    def call(*words):
        done = subprocess.run(words, cwd=home, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    where = call(sys.executable, "-c", "import fibermodels; print(fibermodels.__file__)")
    assert Path(where.strip()).parent == site / "fibermodels"
    assert (site / "fibermodels" / "py.typed").is_file()
    own = str(site / "bin" / "fibermodels")
    listed = call(own, "list", "configs", "weights")
    assert "configs/quickstart.yaml" in listed
    assert "data/weights/colour_digits/flow_matching.safetensors" in listed
    once = ("--trainer.max_epochs", "1", "--trainer.limit_train_batches", "1", "--cache_draws", "1")
    call(own, "train", "--config", "configs/quickstart.yaml", *once)
    assert (home / "runs" / "quickstart" / "checkpoints" / "last.ckpt").is_file()
    few = ("--num_targets", "20", "--samples_per_target", "2", "--device", "cpu")
    call(own, "evaluate", "--model", "configs/digits/oracle.yaml", *few, "--out", "oracle")
    assert json.loads((home / "oracle" / "metrics.json").read_text())["fiber_rms"] < 0.01
    assert {path.name for path in home.iterdir()} == {"runs", "oracle"}
