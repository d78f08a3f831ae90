"""Finished batches of an evaluation, so that it can resume after an interruption and several processes can share it.

Each batch is a file `OUT/partial/NNNN.safetensors` with its samples, their time and the model's report. A file stores a
key of the model, its weights, the targets and the seed, and files with another key are not read.
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
    """The samples of some targets."""

    h: Tensor
    """Representations of the targets `(B, *feature_shape)`."""
    x_hat: Tensor
    """Samples `(n, B, C, H, W)`."""
    h_hat: Tensor
    """Their representations `(n, B, *feature_shape)`."""
    seconds: float
    """The time of sampling."""
    report: dict[str, float]
    """The model's report on these samples; empty if it has none."""


class Partial:
    """The finished batches of one evaluation.

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
        with safe_open(self._path(index), "pt") as file:
            about, found = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return Batch(**found, seconds=float(about["seconds"]), report=json.loads(about["report"]))

    def keep(self, index: int, batch: Batch) -> None:
        """Writes a batch under another name and renames it, so that it is never half written."""
        self.folder.mkdir(parents=True, exist_ok=True)
        tensors = {"h": batch.h, "x_hat": batch.x_hat, "h_hat": batch.h_hat}
        about = {"key": self.key, "seconds": str(batch.seconds), "report": json.dumps(batch.report)}
        unfinished = self._path(index).with_suffix(".unfinished")
        save_file({name: value.contiguous() for name, value in tensors.items()}, unfinished, about)
        unfinished.replace(self._path(index))

    def remove(self) -> None:
        """Removes the files."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _path(self, index: int) -> Path:
        return self.folder / f"{index:04d}.safetensors"
