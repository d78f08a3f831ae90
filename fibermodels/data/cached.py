"""Latents and representations, computed once.

In training a fiber model, latent space and subject are frozen. Their outputs on the training set, in
several draws of colours or augmentations, are kept on disk and shared by every run that has the same data,
latent space and subject; only the posterior's noise is drawn anew in each epoch. A small set is one file,
read into memory; a large one is many (see `shards`).
"""

import hashlib
import json
import os
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from lightning.pytorch import LightningDataModule
from rich.progress import track
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from fibermodels.component import fingerprint, reading
from fibermodels.config import describe
from fibermodels.core import LatentSpace, Subject
from fibermodels.data.loading import EpochSampler, loader
from fibermodels.data.shards import ShardedDraws, Shards
from fibermodels.noise import seeded

SAMPLE = 256
"""Images of a large set that its name follows from."""


class LatentDraws(Dataset[dict[str, Tensor]]):
    """Latents `z ~ q(z | x, h)` and representations `h`; epoch `e` uses draw `e mod K`.

    Args:
        mean, std, h: `(K, N, ...)`, K draws of N images.
        latents: the space they belong to.
        seed: of the posterior's noise.
    """

    def __init__(self, mean: Tensor, std: Tensor, h: Tensor, latents: LatentSpace, seed: int) -> None:
        self.mean, self.std, self.h, self.latents, self.seed = mean, std, h, latents, seed
        self.set_epoch(0)

    def set_epoch(self, epoch: int) -> None:
        """Draws the latents of an epoch."""
        self.draw = epoch % len(self.mean)
        noise = torch.randn(self.mean.shape[1:], generator=seeded("posterior", self.seed, epoch))
        self.z = self.latents.posterior_sample(self.mean[self.draw], self.std[self.draw], noise)

    def __len__(self) -> int:
        return self.mean.shape[1]

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {"z": self.z[index], "h": self.h[self.draw, index]}

    def __getitems__(self, indices: list[int]) -> dict[str, Tensor]:
        rows = torch.tensor(indices)
        return {"z": self.z[rows], "h": self.h[self.draw, rows]}


class CachedLatents(LightningDataModule):
    """A data module whose training batches are `{"z", "h"}` instead of `{"x"}`.

    Args:
        source: the data.
        latents: the frozen latent space.
        subject: the frozen subject.
        draws: how often each training image is encoded, each time in other colours, or augmented otherwise.
        folder: where encoded sets are kept; None takes `$FIBERMODELS_CACHE`, else
            `~/.cache/fibermodels`.
        shard_rows: images per file, which is mapped; 0 makes one file, which is read into memory.
        half: keep 16 bits of each number, in shards.
        workers: processes that read the images while shards are encoded.
    """

    def __init__(
        self,
        source: Any,
        latents: LatentSpace,
        subject: Subject,
        draws: int,
        folder: str | None = None,
        shard_rows: int = 0,
        half: bool = False,
        workers: int = 0,
    ) -> None:
        super().__init__()
        if half and not shard_rows:
            raise ValueError("cache_half: expected cache_shard_rows with it, for one file in memory keeps 32 bits")
        if shard_rows < 0 or workers < 0:
            raise ValueError(f"cache_shard_rows, cache_workers: expected 0 or more, got {shard_rows} and {workers}")
        self.shard_rows, self.half, self.workers = shard_rows, half, workers
        self.source, self.latents, self.subject, self.draws = source, latents, subject, draws
        default = os.environ.get("FIBERMODELS_CACHE") or Path.home() / ".cache" / "fibermodels"
        self.folder = Path(folder or default)

    @cached_property
    def file(self) -> Path:
        """The encoded training set, a file or a folder of shards; its name follows from everything it depends on:
        the images of epoch 0 themselves, not only their configuration, for code that makes them can change. Of a
        large set, a sample of them."""
        data = describe(self.source)
        for irrelevant in ("root", "batch_size", "workers", "cache"):
            data["init_args"].pop(irrelevant, None)
        parts = [
            data,
            fingerprint(self.latents),
            fingerprint(self.subject),
            reading(describe(self.subject)),
            self.draws,
        ]
        if self.shard_rows:
            parts += [self.shard_rows, self.half]
        digest, images = hashlib.sha256(json.dumps(parts).encode()), self.source.split("train")
        images.set_epoch(0)
        if self.shard_rows:
            sample = torch.randperm(len(images), generator=seeded("fingerprint"))[:SAMPLE].tolist()
            digest.update(images.__getitems__(sample)["x"].numpy().tobytes())
            return self.folder / digest.hexdigest()[:16]
        for batch in images.batches(2000):
            digest.update(batch["x"].numpy().tobytes())
        return self.folder / f"{digest.hexdigest()[:16]}.safetensors"

    @cached_property
    def shards(self) -> Shards:
        """The files of a large set."""
        return Shards(self.file, len(self.source.split("train")), self.draws, self.shard_rows)

    def prepare_data(self) -> None:
        """Encodes a small training set unless that was done before."""
        if self.shard_rows or self.file.is_file():
            return
        device = "cuda" if torch.cuda.is_available() else "cpu"
        latents, subject = self.latents.to(device), self.subject.to(device)
        images = self.source.split("train")
        parts: list[list[tuple[Tensor, ...]]] = []
        with torch.no_grad():
            for draw in track(range(self.draws), "encoding the training set"):
                images.set_epoch(draw)
                rows = []
                for batch in images.batches(2000):
                    x = batch["x"].to(device)
                    h = subject(x)
                    rows.append(tuple(value.cpu() for value in (*latents.moments(x, h), h)))
                parts.append(rows)
        stacked = [torch.stack([torch.cat([row[i] for row in rows]) for rows in parts]) for i in range(3)]
        self.file.parent.mkdir(parents=True, exist_ok=True)
        unfinished = self.file.with_suffix(f".{os.getpid()}")
        save_file(dict(zip(("mean", "std", "h"), stacked, strict=True)), unfinished)
        unfinished.replace(self.file)  # whole or not at all

    def setup(self, stage: str) -> None:
        """Reads the encoded training set. Shards are written first where they are missing, by all processes."""
        if self.shard_rows:
            self._write_shards()
            self.train: Any = ShardedDraws(self.shards, self.latents, self.source.seed)
            return
        self.train = LatentDraws(**load_file(self.file), latents=self.latents.cpu(), seed=self.source.seed)

    def _write_shards(self) -> None:
        ranked = dist.is_available() and dist.is_initialized()
        rank, world = (dist.get_rank(), dist.get_world_size()) if ranked else (0, 1)
        device = self.trainer.strategy.root_device if self.trainer is not None else torch.device("cpu")
        latents, subject = self.latents.to(device), self.subject.to(device)

        def encode(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            x = x.to(device)
            h = subject(x)
            return *latents.moments(x, h), h

        self.shards.write(self.source.split("train"), encode, rank, world, self.half, self.workers)
        if ranked:
            dist.barrier()
        if missing := self.shards.missing():  # where nodes do not share a disk
            raise FileNotFoundError(f"'{self.shards.folder}' lacks {len(missing)} shards that other processes wrote")

    def train_dataloader(self) -> DataLoader[Any]:
        """Shuffled batches of latents and representations."""
        return loader(EpochSampler(self.train, self.source.seed), self.source.batch_size)

    def val_dataloader(self) -> DataLoader[Any]:
        """Validation images, as they are."""
        loaded: DataLoader[Any] = self.source.val_dataloader()
        return loaded
