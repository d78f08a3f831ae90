"""Files are replaced when they are whole, damage is found, and one process holds a folder."""

import os
import resource
import stat
import subprocess
import sys

import pytest
import torch
from safetensors.torch import save_file

from fibermodels.component import read_weights
from fibermodels.files import claim, read_tensors, release, replace_file, save_tensors, write_text
from fibermodels.subjects.weights import read_state
from fibermodels.training.saving import Saving, check_archive, newest


def damage(path, share=0.5, size=64):
    """Inverts some bytes within a file."""
    content = bytearray(path.read_bytes())
    start = int(share * len(content))
    content[start : start + size] = bytes(255 - value for value in content[start : start + size])
    path.write_bytes(content)


class TestReplacing:
    def test_a_failure_leaves_the_earlier_file_and_nothing_else(self, tmp_path):
        path = tmp_path / "table.csv"
        write_text(path, "whole")

        def fail(file):
            file.write_text("ha")
            raise OSError("no space left")

        with pytest.raises(OSError, match="no space left"):
            replace_file(path, fail)
        assert path.read_text() == "whole"
        assert list(tmp_path.iterdir()) == [path]

    def test_the_umask_gives_the_mode(self, tmp_path):
        before = os.umask(0o027)
        try:
            save_tensors({"a": torch.zeros(2)}, tmp_path / "a.safetensors")
        finally:
            os.umask(before)
        assert stat.S_IMODE((tmp_path / "a.safetensors").stat().st_mode) == 0o640

    def test_what_a_killed_process_left_is_removed(self, tmp_path):
        code = (
            "import os, sys, pathlib; from fibermodels.files import replace_file\n"
            "replace_file(pathlib.Path(sys.argv[1]), lambda f: (f.write_text('half'), os.kill(os.getpid(), 9)))"
        )
        path = tmp_path / "last.ckpt"
        subprocess.run([sys.executable, "-c", code, str(path)], check=False)
        left = list(tmp_path.iterdir())
        assert len(left) == 1
        assert left[0] != path
        write_text(path, "whole")
        assert list(tmp_path.iterdir()) == [path]


class TestDamage:
    def test_tensors_that_changed_on_disk(self, tmp_path):
        path = tmp_path / "cache.safetensors"
        save_tensors({"z": torch.arange(1000.0), "h": torch.ones(3)}, path, {"key": "k"})
        content, about = read_tensors(path)
        assert about["key"] == "k"
        torch.testing.assert_close(content["z"], torch.arange(1000.0))
        damage(path)
        with pytest.raises(ValueError, match=r"cache\.safetensors' is damaged .*: remove it"):
            read_tensors(path)
        path.write_bytes(path.read_bytes()[:100])
        with pytest.raises(ValueError, match=r"cache\.safetensors' is damaged"):
            read_tensors(path)

    def test_weights_that_are_not_those_of_their_card(self, tmp_path):
        path = tmp_path / "model-v1.5.safetensors"
        save_file({"a": torch.zeros(100)}, path)
        (tmp_path / "model-v1.5.json").write_text('{"sha256": "0"}')
        for read in (lambda: read_weights("VAE", path), lambda: read_state(path)):
            with pytest.raises(ValueError, match=r"not the file that its card 'model-v1\.5\.json' describes"):
                read()
        (tmp_path / "model-v1.5.json").write_text("[another file]")
        assert set(read_state(path)) == {"a"}

    def test_exported_weights_without_a_card(self, tmp_path):
        path = tmp_path / "model.safetensors"
        save_tensors({"a": torch.zeros(1000)}, path)
        assert set(read_weights("VAE", path)[0]) == {"a"}
        damage(path)
        with pytest.raises(ValueError, match=r"model\.safetensors' is damaged: its tensors do not have their digest"):
            read_weights("VAE", path)

    def test_checkpoints(self, tmp_path):
        """torch reads changed bytes without a word."""
        older, last = tmp_path / "best.ckpt", tmp_path / "last.ckpt"
        Saving().save_checkpoint({"w": torch.zeros(5000)}, older)
        Saving().save_checkpoint({"w": torch.zeros(5000)}, last)
        os.utime(older, (1, 1))
        said = []
        assert newest(tmp_path, said.append) == last
        damage(last)
        assert torch.load(last, weights_only=True)["w"].any()
        with pytest.raises(ValueError, match=r"last\.ckpt' is damaged"):
            Saving().load_checkpoint(last)
        assert newest(tmp_path, said.append) == older
        assert len(said) == 1
        assert "last.ckpt" in said[0]
        for content in (b"", b"PK", last.read_bytes()[:2000]):
            last.write_bytes(content)
            with pytest.raises(ValueError, match=r"last\.ckpt' is damaged or not a checkpoint"):
                check_archive(last)
        older.unlink()
        assert newest(tmp_path, said.append) is None

    def test_a_file_that_may_not_be_read_is_not_called_damaged(self, tmp_path, monkeypatch):
        def refuse(path):
            raise PermissionError(13, "Permission denied", str(path))

        Saving().save_checkpoint({"w": torch.zeros(5)}, tmp_path / "last.ckpt")
        monkeypatch.setattr("zipfile.ZipFile", refuse)
        for check in (check_archive, lambda path: newest(path.parent, print)):
            with pytest.raises(PermissionError):
                check(tmp_path / "last.ckpt")

    def test_what_follows_the_first_checkpoint(self, tmp_path):
        done = []
        saving = Saving(lambda: done.append((tmp_path / "last.ckpt").is_file()))
        for _ in range(2):
            saving.save_checkpoint({}, tmp_path / "last.ckpt")
        assert done == [True]


def test_a_folder_belongs_to_one_process(tmp_path):
    lock = claim(tmp_path / "run")
    with pytest.raises(FileExistsError, match=rf"run' is in use by process {os.getpid()} on "):
        claim(tmp_path / "run")
    release(lock)
    assert not (tmp_path / "run").exists()  # nothing else was in it
    lock = claim(tmp_path / "run")
    (tmp_path / "run" / "notes.txt").write_text("mine")
    release(lock)
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["notes.txt"]


@pytest.fixture
def full_disk():
    """No file may grow beyond 4 KB, which ends like a full disk: with an OSError in the middle of a file."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)


class TestFullDisk:
    @pytest.mark.parametrize(
        "write",
        [
            lambda path: write_text(path, "x" * 10000),
            lambda path: save_tensors({"a": torch.zeros(10000)}, path),
            lambda path: Saving().save_checkpoint({"w": torch.zeros(10000)}, path),
        ],
        ids=["text", "tensors", "checkpoint"],
    )
    def test_the_earlier_file_stays(self, write, tmp_path, full_disk):
        path = tmp_path / "file"
        path.write_text("earlier")
        with pytest.raises(OSError, match="file"):
            write(path)
        assert path.read_text() == "earlier"
        assert list(tmp_path.iterdir()) == [path]
