"""Draws samples in batches, in one process or in several that share the batches.

The random numbers of a batch depend only on the seed and the batch's index, so any process can draw any batch.
"""

import contextlib
import hashlib
import json
import math
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from rich.progress import track
from safetensors import SafetensorError, safe_open
from torch import Tensor

from fibermodels.component import fingerprint
from fibermodels.config import describe
from fibermodels.core import FiberModel, FiberSamples, Reports, Subject
from fibermodels.files import read_tensors, save_tensors
from fibermodels.noise import seeded, skip_targets


@dataclass(frozen=True)
class Choice:
    """The samples to draw.

    Raises:
        ValueError: a number is below 1, or the seed below 0.
    """

    num_targets: int
    """The number of targets: the first inputs of the split."""
    samples_per_target: int
    seed: int = 0
    """The seed of the samples."""
    split: Literal["test", "val"] = "test"
    batch_size: int | None = None
    """Targets per batch; None takes 100 for models with many network calls, else 500."""

    def __post_init__(self) -> None:
        for name, least in {"num_targets": 1, "samples_per_target": 1, "batch_size": 1, "seed": 0}.items():
            value = getattr(self, name)
            if value is not None and value < least:
                raise ValueError(f"{name}: expected at least {least}, got {value}")


@dataclass(frozen=True)
class Batch:
    """The samples of some targets."""

    h: Tensor
    """Representations of the targets `(B, *feature_shape)`."""
    x_hat: Tensor
    """Samples `(n, B, *input_shape)`."""
    h_hat: Tensor
    """Their representations `(n, B, *feature_shape)`."""
    seconds: float
    """The time of sampling."""
    report: dict[str, float]
    """The model's report on these samples; empty if it has none."""


class Partial:
    """The finished batches of one evaluation, in files `OUT/partial/NNNN.safetensors`.

    With them, an evaluation can resume after an interruption, and several processes can share it. A file stores a key
    of the model, its weights, the targets and the seed; files with another key are not read.

    Args:
        folder: the folder of the files.
        model: the model.
        choice: everything else that determines the samples: subject, targets, samples per target, seed, batch size.
    """

    def __init__(self, folder: Path, model: FiberModel, *choice: int | str) -> None:
        self.folder = folder
        text = json.dumps([describe(model), fingerprint(model), choice])
        self.key = hashlib.sha256(text.encode()).hexdigest()[:16]

    def holds(self, index: int) -> bool:
        """Whether the batch with this index is stored completely and belongs to this evaluation."""
        try:
            with safe_open(self._path(index), "pt") as file:
                return (file.metadata() or {}).get("key") == self.key
        except (FileNotFoundError, SafetensorError):
            return False

    def load(self, index: int) -> Batch | None:
        """The batch with this index, or None if `holds` is false."""
        if not self.holds(index):
            return None
        found, about = read_tensors(self._path(index))
        return Batch(**found, seconds=float(about["seconds"]), report=json.loads(about["report"]))

    def keep(self, index: int, batch: Batch) -> None:
        """Stores a batch."""
        tensors = {"h": batch.h, "x_hat": batch.x_hat, "h_hat": batch.h_hat}
        about = {"key": self.key, "seconds": str(batch.seconds), "report": json.dumps(batch.report)}
        save_tensors(tensors, self._path(index), about)

    def remove(self) -> None:
        """Removes the files, and the folder if nothing else is in it."""
        for file in self.folder.glob("[0-9]*.safetensors"):
            file.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self.folder.rmdir()

    def _path(self, index: int) -> Path:
        return self.folder / f"{index:04d}.safetensors"


def check_memory(subject: Subject, targets: int, n: int) -> None:
    """Checks that `n` samples of each of so many targets, with their representations, fit into the memory.

    Raises:
        ValueError: they do not.
    """
    shapes = (subject.input_shape, subject.feature_shape)
    size = 4.0 * targets * (n + 1) * sum(math.prod(shape) for shape in shapes)
    if size > (memory := os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")):
        raise ValueError(
            f"{n} samples of each of {targets} targets would take {size / 1e9:.3g} GB, more than the memory of "
            f"{memory / 1e9:.3g} GB"
        )


class Drawing:
    """The samples of some targets, in batches that can be drawn in any order.

    Args:
        model: any FiberModel; one that `Remembers` the training set must have it already.
        subject: the network whose fibers are sampled.
        x: targets `(B, *input_shape)`.
        samples_per_target: samples per target.
        seed: the seed of the samples; a target's samples do not depend on `batch_size`.
        batch_size: targets per batch.
        device: the device of the computation; samples are returned on the CPU.
        partial: stores finished batches, and returns those of other processes or of an interrupted call.

    Raises:
        ValueError: the targets are no inputs of the subject.
    """

    def __init__(
        self,
        model: FiberModel,
        subject: Subject,
        x: Tensor,
        samples_per_target: int,
        seed: int = 0,
        batch_size: int = 500,
        device: str | torch.device = "cpu",
        partial: Partial | None = None,
    ) -> None:
        subject.input_space.check(x, "targets")
        self.model, self.subject = model.to(device), subject.to(device)
        self.x, self.n, self.seed, self.batch_size = x, samples_per_target, seed, batch_size
        self.device, self.partial = device, partial

    def __len__(self) -> int:
        return -(-len(self.x) // self.batch_size)

    def __str__(self) -> str:
        return type(self.model).__name__

    def __getitem__(self, index: int) -> Batch:
        """The batch with this index, from `partial` if it is stored there; otherwise it is drawn."""
        batch = self.partial.load(index) if self.partial else None
        if batch is None:
            batch = self._draw(index)
            if self.partial:
                self.partial.keep(index, batch)
        return batch

    @torch.no_grad()
    def _draw(self, index: int) -> Batch:
        start = index * self.batch_size
        x = self.x[start : start + self.batch_size].to(self.device)
        generator = seeded("samples", self.seed)
        skip_targets(start, generator)
        h = self.subject(x)
        begin = time.perf_counter()
        x_hat = self.model.sample(h, self.n, generator, x)
        if x.device.type == "cuda":
            torch.cuda.synchronize()
        seconds = time.perf_counter() - begin
        for slot, images in enumerate(x_hat):
            self._check(images, slot, start)
        h_hat = torch.stack([self.subject(slot) for slot in x_hat])
        finite = h_hat.isfinite().reshape(*h_hat.shape[:2], -1).all(-1)
        if not finite.all():
            slot, row = (~finite).nonzero()[0].tolist()
            raise ValueError(
                f"representations of samples of {self}, slot {slot}, target {start + row}: expected finite numbers, "
                "got NaN or infinity"
            )
        report = self.model.report() if isinstance(self.model, Reports) else {}
        return Batch(h.cpu(), x_hat.cpu(), h_hat.cpu(), seconds, report)

    def _check(self, images: Tensor, slot: int, start: int) -> None:
        """Raises an error that names the first sample that the subject does not take."""
        space, what = self.subject.input_space, f"samples of {self}, slot {slot}"
        try:
            space.check(images, what)
        except ValueError:
            for target, image in enumerate(images, start):
                space.check(image[None], f"{what}, target {target}")
            raise

    def share(self, rank: int, processes: int) -> None:
        """Draws and stores every `processes`-th batch from batch `rank` on; the first process shows progress."""
        own = range(rank, len(self), processes)
        for index in own if rank else track(own, f"sampling {self}, with {processes - 1} more"):
            self[index]

    def undone(self) -> list[int]:
        """The indices of batches that are not stored yet."""
        return [index for index in range(len(self)) if not (self.partial and self.partial.holds(index))]

    def gather(self) -> tuple[FiberSamples, float, dict[str, float]]:
        """All samples, the seconds of sampling, and the report of a model that `Reports`.

        Raises:
            ValueError: all targets have the same representation.
        """
        batches = [self[index] for index in track(range(len(self)), f"sampling {self}")]
        samples = FiberSamples(
            self.x,
            torch.cat([batch.h for batch in batches]),
            torch.cat([batch.x_hat for batch in batches], 1),
            torch.cat([batch.h_hat for batch in batches], 1),
        )
        if len(samples.h) > 1 and bool((samples.h == samples.h[0]).all()):
            raise ValueError(
                f"the subject has the same representation for all {len(samples.h)} targets: its weights may be damaged"
            )
        share = [len(batch.h) / len(self.x) for batch in batches]
        report = {
            name: sum(part * batch.report[name] for part, batch in zip(share, batches, strict=True))
            for name in batches[0].report
        }
        return samples, sum(batch.seconds for batch in batches), report
