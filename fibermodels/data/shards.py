"""Latents and representations of a large data set, computed once and stored in memory-mapped files.

    <folder>/index.json               rows, draws, rows of a shard
    <folder>/shard-00000.safetensors  mean, std and h of its rows

Each draw begins with a new shard. No shard is half written, and finished shards are kept, so an interrupted encoding
can continue. Process `r` of `w` writes the shards `r, r + w, ...`.
"""

import copy
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from rich.progress import track
from torch import Tensor
from torch.utils.data import Dataset

from fibermodels.checks import check_number
from fibermodels.core import LatentSpace
from fibermodels.data.loading import stream
from fibermodels.files import read_tensors, save_tensors, write_text
from fibermodels.noise import seeded

Encoder = Callable[[Tensor], tuple[Tensor, Tensor, Tensor]]
"""A function that maps images to the posterior's mean and standard deviation, and representations."""

BATCH = 256
"""Images encoded in one call."""


class Shards:
    """The shards of a data set.

    Args:
        folder: the folder of the shards.
        count: number of images in the data set.
        draws: how often each image is encoded.
        rows: images per shard; the last shard of a draw may have fewer.
    """

    def __init__(self, folder: Path, count: int, draws: int, rows: int) -> None:
        check_number("Shards", "rows", rows, least=1)
        self.folder, self.count, self.draws, self.rows = folder, count, draws, rows
        self.per_draw = -(-count // rows)

    def file(self, number: int) -> Path:
        """The path of a shard."""
        return self.folder / f"shard-{number:05d}.safetensors"

    def missing(self) -> list[int]:
        """The numbers of shards that are not written yet."""
        return [number for number in range(self.draws * self.per_draw) if not self.file(number).is_file()]

    def write(
        self, images: Any, encode: Encoder, rank: int = 0, world: int = 1, half: bool = False, workers: int = 0
    ) -> None:
        """Encodes this process's missing shards; only one shard is in memory at a time.

        Args:
            images: a data set with `set_epoch` and `__getitems__`; draw `k` is its epoch `k`.
            encode: maps images to moments and representations.
            rank, world: this process takes every `world`-th shard, starting with shard `rank`.
            half: whether to store 16 bits of each number.
            workers: processes that read the images.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        index = {"images": self.count, "draws": self.draws, "rows_per_shard": self.rows, "half": half}
        write_text(self.folder / "index.json", json.dumps(index, indent=2) + "\n")
        own = [number for number in self.missing() if number % world == rank]
        for number in track(own, "encoding the training set", disable=rank > 0 or not own):
            draw, part = divmod(number, self.per_draw)
            images.set_epoch(draw)
            indices = range(part * self.rows, min(self.count, (part + 1) * self.rows))
            chunks = [list(indices[start : start + BATCH]) for start in range(0, len(indices), BATCH)]
            with torch.no_grad():
                batches = stream(images, chunks, workers)
                encoded = [[value.cpu() for value in encode(batch["x"])] for batch in batches]
            tensors = (torch.cat(column) for column in zip(*encoded, strict=True))
            stored = {
                name: value.half() if half else value for name, value in zip(("mean", "std", "h"), tensors, strict=True)
            }
            save_tensors(stored, self.file(number))


class ShardedDraws(Dataset[dict[str, Tensor]]):
    """Latents `z ~ q(z | x, h)` and representations `h` from shards; epoch `e` uses draw `e mod K`.

    The noise of a row depends on the seed, the epoch and the row only, and not on the process that reads it. Only
    requested rows are read from disk.

    Args:
        shards: the shards, which must exist.
        latents: the latent space.
        seed: the seed of the posterior's noise.
    """

    def __init__(self, shards: Shards, latents: LatentSpace, seed: int) -> None:
        own = type(latents).posterior_sample is not LatentSpace.posterior_sample
        self.latents = copy.deepcopy(latents).cpu() if own else latents  # the original may move to a GPU
        self.shards, self.seed, self.epoch = shards, seed, 0
        self.opened: dict[int, dict[str, Tensor]] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Each worker opens the files itself."""
        return {**self.__dict__, "opened": {}}

    def set_epoch(self, epoch: int) -> None:
        """Selects the draw and the noise of an epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.shards.count

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {name: value[0] for name, value in self.__getitems__([index]).items()}

    def __getitems__(self, indices: list[int]) -> dict[str, Tensor]:
        rows = [self._row(index) for index in indices]
        mean, std, h = (torch.stack([row[name] for row in rows]).float() for name in ("mean", "std", "h"))
        noise = torch.stack(
            [torch.randn(mean.shape[1:], generator=seeded("posterior", self.seed, self.epoch, i)) for i in indices]
        )
        return {"z": self.latents.posterior_sample(mean, std, noise), "h": h}

    def batches(self, size: int) -> Iterator[dict[str, Tensor]]:
        """All rows of the current epoch, in order, in batches of `size`."""
        for start in range(0, len(self), size):
            yield self.__getitems__(list(range(start, min(start + size, len(self)))))

    def _row(self, index: int) -> dict[str, Tensor]:
        part, row = divmod(index, self.shards.rows)
        number = self.epoch % self.shards.draws * self.shards.per_draw + part
        if number not in self.opened:
            self.opened[number], _ = read_tensors(self.shards.file(number))  # views of a mapped file
        return {name: value[row] for name, value in self.opened[number].items()}
