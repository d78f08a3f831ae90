"""Latents and representations of a training set, computed once.

Latent space and subject are frozen while a fiber model is trained, so their outputs on the training set, in several
draws of colours or augmentations, are stored on disk. Every run with the same data, latent space and subject uses them;
only the posterior's noise is new in each epoch. A small set is one file, which is read into memory; a large set is a
folder of shards (see `shards`).
"""

import hashlib
import json
import math
import os
import sys
from collections.abc import Iterator
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from lightning.pytorch import LightningDataModule
from rich.progress import track
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from fibermodels.checks import check_finite, check_number
from fibermodels.component import fingerprint, reading
from fibermodels.config import describe
from fibermodels.core import LatentSpace, Subject
from fibermodels.data.digits import Split
from fibermodels.data.loading import EpochSampler, loader
from fibermodels.data.shards import ShardedDraws, Shards
from fibermodels.files import read_tensors, save_tensors
from fibermodels.noise import seeded

SAMPLE = 256
"""The number of images that determine the name of a large set."""

LARGEST = 4e9
"""The largest size, in bytes, of an encoded set that is read into memory."""

BATCH = 2000
"""Images that are encoded in one call."""


class LatentDraws(Dataset[dict[str, Tensor]]):
    """Latents `z ~ q(z | x, h)` and representations `h`; epoch `e` uses draw `e mod K`.

    Args:
        mean, std, h: moments and representations `(K, N, ...)` of K draws of N images.
        latents: the latent space.
        seed: the seed of the posterior's noise.
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

    def batches(self, size: int) -> Iterator[dict[str, Tensor]]:
        """All rows of the current epoch, in order, in batches of `size`."""
        return (self[start : start + size] for start in range(0, len(self), size))

    def __getitem__(self, rows: int | slice | Tensor) -> dict[str, Tensor]:
        return {"z": self.z[rows], "h": self.h[self.draw, rows]}

    def __getitems__(self, indices: list[int]) -> dict[str, Tensor]:
        return self[torch.tensor(indices)]


class CachedLatents(LightningDataModule):
    """A data module whose training batches are `{"z", "h"}` instead of `{"x"}`.

    It passes on the batches of its source if encoding once saves nothing or takes too much memory (see `declined`).

    Args:
        source: the data.
        latents: the frozen latent space.
        subject: the frozen subject.
        draws: how often each training image is encoded, each time with new colours or augmentations.
        folder: the folder of encoded sets; None takes `$FIBERMODELS_CACHE`, else `~/.cache/fibermodels`.
        shard_rows: images per memory-mapped file; 0 writes one file, which is read into memory.
        half: whether shards store 16 bits of each number.
        workers: processes that read the images while shards are encoded.

    Raises:
        ValueError: an option is out of range, or subject and latent space take different images.
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
        check_number("cache", "cache_draws", draws, least=1)
        check_number("cache", "cache_shard_rows", shard_rows, least=0)
        check_number("cache", "cache_workers", workers, least=0)
        if half and not shard_rows:
            raise ValueError("cache: cache_half: expected cache_shard_rows with it, because one file stores 32 bits")
        if subject.input_space != latents.input_space:
            raise ValueError(
                f"cache: subject: expected {latents.input_space.word} {list(latents.input_shape)} as of the latent "
                f"space, got {subject.input_space.word} {list(subject.input_shape)}"
            )
        self.shard_rows, self.half, self.workers = shard_rows, half, workers
        self.source, self.latents, self.subject, self.draws = source, latents, subject, draws
        default = os.environ.get("FIBERMODELS_CACHE") or Path.home() / ".cache" / "fibermodels"
        self.folder = Path(folder or default)

    @property
    def size(self) -> int:
        """Bytes of the encoded training set."""
        numbers = 2 * math.prod(self.latents.latent_shape) + math.prod(self.subject.feature_shape)
        return self.draws * len(self.source.split("train")) * numbers * (2 if self.half else 4)

    @cached_property
    def declined(self) -> str:
        """The reason why the training set is not encoded once; empty if it is."""
        if self.shard_rows:
            return ""
        if self.latents.trivial:
            return f"a {type(self.latents).__name__} encodes at no cost"
        if self.size > LARGEST:
            return (
                f"{self.draws} draws would take {self.size / 1e9:.3g} GB of memory, more than {LARGEST / 1e9:g}; "
                "--cache_shard_rows 4096 keeps them on disk, --cache_draws 1 takes less"
            )
        return ""

    @cached_property
    def file(self) -> Path:
        """The encoded training set: a file, or a folder of shards.

        The name depends on the configuration, the weights and the images of epoch 0 (of a large set, on a sample of
        them), because the code that makes the images can change.
        """
        data = describe(self.source)
        for irrelevant in ("root", "batch_size", "workers", "cache"):
            data["init_args"].pop(irrelevant, None)
        subject = [fingerprint(self.subject), reading(describe(self.subject))]
        parts = [data, fingerprint(self.latents), *subject, self.draws]
        if self.shard_rows:
            parts += [self.shard_rows, self.half]
        digest, images = hashlib.sha256(json.dumps(parts).encode()), self.source.split("train")
        images.set_epoch(0)
        if self.shard_rows:
            sample = torch.randperm(len(images), generator=seeded("fingerprint"))[:SAMPLE].tolist()
            digest.update(images.__getitems__(sample)["x"].numpy().tobytes())
            return self.folder / digest.hexdigest()[:16]
        for batch in images.batches(BATCH):
            digest.update(batch["x"].numpy().tobytes())
        return self.folder / f"{digest.hexdigest()[:16]}.safetensors"

    @cached_property
    def shards(self) -> Shards:
        """The shards of a large set."""
        return Shards(self.file, len(self.source.split("train")), self.draws, self.shard_rows)

    def split(self, split: Split) -> Any:
        """Encoded training images, if they are encoded once, and the images of the other splits."""
        return self.source.split(split) if split != "train" or self.declined else self.train

    def prepare_data(self) -> None:
        """Encodes a small training set, unless the file exists."""
        if self.declined:
            print(f"latents are encoded in every step, not once: {self.declined}", file=sys.stderr)
        elif not self.shard_rows and not self.file.is_file():
            self._announce()
            self._write_file()

    def _announce(self) -> None:
        """Checks an input, and prints what will be written and why."""
        images, space = self.source.split("train"), self.latents.input_space
        space.check(images.__getitems__([0])["x"], f"data: the training {space.word}")
        print(
            f"encoding {len(images)} training {space.word} in {self.draws} draws, once, so that no step has to: "
            f"{self.size / 1e6:.3g} MB in '{self.file}' (--cache_draws 0: encode in every step)",
            file=sys.stderr,
        )

    def _encode(self, x: Tensor, device: torch.device | str) -> tuple[Tensor, Tensor, Tensor]:
        """Moments and representations of images.

        Raises:
            ValueError: a value is not finite.
        """
        x = x.to(device)
        h = self.subject(x)
        encoded = (*self.latents.moments(x, h), h)
        for name, value in zip(("mean of the latents", "deviation of the latents", "h"), encoded, strict=True):
            check_finite(value, f"{name}, of training images")
        return encoded

    def _write_file(self) -> None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
        self.latents.to(device)
        self.subject.to(device)
        images = self.source.split("train")
        parts: list[list[tuple[Tensor, ...]]] = []
        with torch.no_grad():
            for draw in track(range(self.draws), "encoding the training set"):
                images.set_epoch(draw)
                encoded = (self._encode(batch["x"], device) for batch in images.batches(BATCH))
                parts.append([tuple(value.cpu() for value in row) for row in encoded])
        stacked = [torch.stack([torch.cat([row[i] for row in rows]) for rows in parts]) for i in range(3)]
        save_tensors(dict(zip(("mean", "std", "h"), stacked, strict=True)), self.file)

    def setup(self, stage: str) -> None:
        """Writes missing shards, with all processes, and reads the encoded training set.

        Raises:
            ValueError: the file is damaged, or a stored value is not finite.
        """
        if self.declined:
            return
        if self.shard_rows:
            self._write_shards()
            self.train: Any = ShardedDraws(self.shards, self.latents, self.source.seed)
            return
        content, _ = read_tensors(self.file)
        for name, value in content.items():
            check_finite(value, f"{name} in '{self.file}'")
        self.train = LatentDraws(**content, latents=self.latents.cpu(), seed=self.source.seed)

    def _write_shards(self) -> None:
        ranked = dist.is_available() and dist.is_initialized()
        rank, world = (dist.get_rank(), dist.get_world_size()) if ranked else (0, 1)
        device = self.trainer.strategy.root_device if self.trainer is not None else torch.device("cpu")
        self.latents.to(device)
        self.subject.to(device)
        if self.shards.missing() and not rank:
            self._announce()
        encode = partial(self._encode, device=device)
        self.shards.write(self.source.split("train"), encode, rank, world, self.half, self.workers)
        if ranked:
            dist.barrier()
        if missing := self.shards.missing():  # if nodes do not share a disk
            raise FileNotFoundError(f"'{self.shards.folder}' lacks {len(missing)} shards that other processes wrote")

    def train_dataloader(self) -> DataLoader[Any]:
        """Shuffled batches of latents and representations."""
        if self.declined:
            return self.source.train_dataloader()
        return loader(EpochSampler(self.train, self.source.seed), self.source.batch_size)

    def val_dataloader(self) -> DataLoader[Any]:
        """Batches of validation images."""
        return self.source.val_dataloader()
