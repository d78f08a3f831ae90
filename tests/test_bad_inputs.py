"""Every bad input gets one message that names the cause, no traceback, and changes nothing."""

import bad_inputs
import pytest
from scripts import run

from fibermodels.programs import SCRIPTS

QUICK = "--config configs/quickstart.yaml --trainer.max_epochs 1 --trainer.limit_train_batches 1 --cache_draws 1"
ORACLE = "--model configs/digits/oracle.yaml --num_targets 4 --samples_per_target 2 --device cpu"

LINES = [
    *(("train", f"{QUICK} --runs RUNS {arguments}", words) for arguments, words in bad_inputs.TRAIN),
    *(("evaluate", f"{ORACLE} --out OUT {arguments}", words) for arguments, words in bad_inputs.EVALUATE),
    *((command, f"{arguments} --out OUT" if command == "evaluate" else arguments, words)
      for command, arguments, words in bad_inputs.ALONE),
]  # fmt: skip


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bad")
    return folder, bad_inputs.write(folder)


@pytest.mark.parametrize(("command", "arguments", "words"), LINES, ids=lambda value: value[-60:])
def test_a_bad_input_gets_one_message(command, arguments, words, files, tmp_path):
    folder, paths = files
    before = sorted(folder.rglob("*"))
    own = (word.format(**paths).replace("RUNS", str(tmp_path)) for word in arguments.split())
    call = [f"{command}.py"] if command in SCRIPTS else ["fibermodels", command]
    done = run(*call, *(word.replace("OUT", str(tmp_path / "out")) for word in own))
    assert done.returncode == 2, done.stderr
    assert words.replace("{folder}", paths["folder"]).replace("{file}", paths["file"]) in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.count("error: ") == 1
    assert len(done.stderr) < 3000
    assert sorted(folder.rglob("*")) == before
    assert not (tmp_path / "out").exists()
