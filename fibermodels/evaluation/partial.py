"""Samples of an evaluation that is not finished: an interrupted one goes on where it was, and processes that share
the work find each other's batches.

Each batch is a file, `OUT/partial/NNNN.safetensors`, with its samples, what they took and what the model said of
them. The files belong to one model, with these weights, and to one choice of targets and seed; those of any other are
not read.
"""

import hashlib
import json
import shutil
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from fibermodels.component import fingerprint
from fibermodels.config import describe
from fibermodels.core import FiberModel


@dataclass(frozen=True)
class Batch:
    """What was drawn for some targets."""

    h: Tensor
    """Representations of the targets `(B, *feature_shape)`."""
    x_hat: Tensor
    """Samples `(n, B, C, H, W)`."""
    h_hat: Tensor
    """Their representations `(n, B, *feature_shape)`."""
    seconds: float
    """What sampling took."""
    report: dict[str, float]
    """What the model said of these samples; empty for one that reports nothing."""


class Partial:
    """The finished batches of one evaluation.

    Args:
        folder: where they are kept.
        model: what is evaluated.
        choice: all else on which the samples depend: subject, targets, samples of each, seed, size of a batch.
    """

    def __init__(self, folder: Path, model: FiberModel, *choice: int | str) -> None:
        self.folder = folder
        text = json.dumps([describe(model), fingerprint(model), choice])
        self.key = hashlib.sha256(text.encode()).hexdigest()[:16]

    def holds(self, index: int) -> bool:
        """Whether the batch of this index is there, whole and of this evaluation."""
        try:
            with safe_open(self._path(index), "pt") as file:
                return (file.metadata() or {}).get("key") == self.key
        except (FileNotFoundError, SafetensorError):
            return False

    def load(self, index: int) -> Batch | None:
        """The batch of this index if it is there, whole and of this evaluation."""
        if not self.holds(index):
            return None
        with safe_open(self._path(index), "pt") as file:
            about, found = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return Batch(**found, seconds=float(about["seconds"]), report=json.loads(about["report"]))

    def keep(self, index: int, batch: Batch) -> None:
        """Writes a batch, whole or not at all."""
        self.folder.mkdir(parents=True, exist_ok=True)
        tensors = {"h": batch.h, "x_hat": batch.x_hat, "h_hat": batch.h_hat}
        about = {"key": self.key, "seconds": str(batch.seconds), "report": json.dumps(batch.report)}
        unfinished = self._path(index).with_suffix(".unfinished")
        save_file({name: value.contiguous() for name, value in tensors.items()}, unfinished, about)
        unfinished.replace(self._path(index))

    def remove(self) -> None:
        """Removes the files: the result has it all."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _path(self, index: int) -> Path:
        return self.folder / f"{index:04d}.safetensors"
