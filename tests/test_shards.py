"""Encoded data sets in shards: their rows, their writers, interruption, memory."""

import json
import pickle
import subprocess
import sys

import pytest
import torch
from cases import fiber_autoencoder, subject, vae
from safetensors.torch import load_file, save_file

from fibermodels.data.cached import CachedLatents
from fibermodels.data.shards import ShardedDraws, Shards
from fibermodels.latents import Identity
from fibermodels.suites.colour_digits import ColourDigits


class Maps(torch.utils.data.Dataset):
    """Images that name their row and epoch."""

    def __init__(self, count, fail_at=None):
        self.count, self.fail_at, self.epoch = count, fail_at, 0

    def set_epoch(self, epoch):
        self.epoch = epoch

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        return {"x": self.__getitems__([index])["x"][0]}

    def __getitems__(self, indices):
        if self.fail_at is not None and (self.epoch, self.fail_at) >= (1, 0) and self.fail_at in indices:
            raise OSError("taken away")
        return {"x": torch.tensor(indices).float().view(-1, 1, 1, 1).expand(-1, 1, 2, 2) + 1000 * self.epoch}


def encode(x):
    """Flat latents and a spatial representation."""
    return x.flatten(1), torch.zeros_like(x.flatten(1)), 2 * x


def test_rows_of_all_draws_come_back(tmp_path):
    shards = Shards(tmp_path, 10, 2, 4)
    shards.write(Maps(10), encode)
    assert [len(load_file(shards.file(n))["h"]) for n in range(6)] == [4, 4, 2, 4, 4, 2]
    assert json.loads((tmp_path / "index.json").read_text()) == {
        "images": 10, "draws": 2, "rows_per_shard": 4, "half": False
    }  # fmt: skip
    rows = ShardedDraws(shards, Identity((1, 2, 2)), seed=0)
    for epoch in (0, 1, 2):
        rows.set_epoch(epoch)
        batch = rows.__getitems__([9, 0, 4, 5])
        expected = torch.tensor([9.0, 0.0, 4.0, 5.0]) + 1000 * (epoch % 2)
        assert batch["h"].shape == (4, 1, 2, 2)
        assert torch.equal(batch["h"][:, 0, 0, 0], 2 * expected)
        assert torch.equal(batch["z"], expected[:, None].expand(4, 4))
        assert torch.equal(rows[4]["h"], batch["h"][2])


def test_processes_write_what_one_writes_and_finished_shards_are_kept(tmp_path):
    alone, together = Shards(tmp_path / "a", 10, 2, 4), Shards(tmp_path / "b", 10, 2, 4)
    alone.write(Maps(10), encode)
    together.write(Maps(10), encode, rank=1, world=2)
    assert together.missing() == [0, 2, 4]
    with pytest.raises(OSError, match="taken away"):
        together.write(Maps(10, fail_at=5), encode, rank=0, world=2)
    assert together.missing() == [4]
    assert len(list((tmp_path / "b").iterdir())) == 6, "five shards and the index: nothing unfinished"
    stamps = {n: together.file(n).stat().st_mtime_ns for n in (0, 2)}
    together.write(Maps(10), encode, rank=0, world=2)
    assert all(together.file(n).stat().st_mtime_ns == stamp for n, stamp in stamps.items())
    for n in range(6):
        first, second = load_file(alone.file(n)), load_file(together.file(n))
        assert all(torch.equal(first[name], second[name]) for name in ("mean", "std", "h"))


def test_noise_belongs_to_the_row(tmp_path):
    """Whichever batch, process or worker reads it; it is standard normal, and new in each epoch."""
    shards = Shards(tmp_path, 400, 1, 64)
    shards.write(Maps(400), lambda x: (torch.zeros(len(x), 20), torch.ones(len(x), 20), x))
    rows = ShardedDraws(shards, Identity((1, 4, 5)), seed=3)
    whole = rows.__getitems__(list(range(400)))["z"]
    copy = pickle.loads(pickle.dumps(rows))  # noqa: S301
    assert rows.opened
    assert not copy.opened
    assert torch.equal(copy.__getitems__([7, 300])["z"], whole[[7, 300]])
    assert whole.mean().abs() < 4 / 8000**0.5
    assert abs(whole.std() - 1) < 4 / 16000**0.5
    rows.set_epoch(1)
    assert not torch.equal(rows[7]["z"], whole[7])


@pytest.mark.parametrize("space", [vae, fiber_autoencoder], ids=lambda f: f.__name__)
def test_a_sharded_cache_is_the_cache_in_memory(tmp_path, space):
    """Moments and representations are equal, and to 16 bits where asked for; the noise alone is another."""
    latents, phi = space().eval(), subject()
    make = lambda **options: CachedLatents(  # noqa: E731
        ColourDigits(batch_size=64), latents, phi, draws=2, folder=str(tmp_path), **options
    )
    memory, shards, half = make(), make(shard_rows=500), make(shard_rows=500, half=True)
    for data in (memory, shards, half):
        data.prepare_data()
        data.setup("fit")
    assert len({data.file for data in (memory, shards, half)}) == 3
    expected = load_file(memory.file)
    for data, tolerance in ((shards, 1e-6), (half, 2e-3)):
        stored = [load_file(data.shards.file(n)) for n in range(6)]
        for name in ("mean", "std", "h"):
            value = torch.cat([part[name] for part in stored]).float().unflatten(0, (2, -1))
            torch.testing.assert_close(value, expected[name], atol=tolerance, rtol=tolerance)
    sizes = [sum(f.stat().st_size for f in data.file.glob("*.safetensors")) for data in (shards, half)]
    assert sizes[1] < 0.55 * sizes[0]
    loader = shards.train_dataloader()
    loader.sampler.set_epoch(1)
    batch = next(iter(loader))
    order = list(iter(loader.sampler))[:64]
    assert torch.equal(batch["h"], torch.cat([load_file(shards.shards.file(n))["h"] for n in (3, 4, 5)])[order])
    assert batch["z"].shape == (64, 6)


def test_other_images_are_another_folder(tmp_path):
    same, again, other = ColourDigits(), ColourDigits(), ColourDigits()
    other.split("train").contents = other.split("train").contents.roll(1, -1)
    files = [CachedLatents(d, vae(), subject(), 1, str(tmp_path), 100).file for d in (same, again, other)]
    assert files[0] == files[1] != files[2]


MEMORY = """
import resource, sys, torch
from pathlib import Path
from fibermodels.data.shards import ShardedDraws, Shards
from fibermodels.latents import Identity
shards = Shards(Path(sys.argv[1]), 4096, 1, 4096)
rows = ShardedDraws(shards, Identity((1, 64, 64)), 0)
rows[0]
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
rows.__getitems__([5, 77, 4000])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_rows_are_mapped_not_loaded(tmp_path):
    """A shard of 128 MB: three rows of it cost less than 16 MB."""
    content = {"mean": torch.zeros(4096, 4096), "std": torch.zeros(4096, 4096), "h": torch.zeros(4096, 2)}
    save_file(content, tmp_path / "shard-00000.safetensors")
    done = subprocess.run([sys.executable, "-c", MEMORY, str(tmp_path)], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 16_000


@pytest.mark.parametrize(
    ("options", "message"),
    [({"half": True}, "cache_half"), ({"shard_rows": -1}, "cache_shard_rows"), ({"workers": -1}, "cache_workers")],
)
def test_bad_options(options, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        CachedLatents(ColourDigits(), vae(), subject(), 1, str(tmp_path), **options)
