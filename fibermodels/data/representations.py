"""The representations of a data set by a frozen network, as inputs of another one."""

import hashlib
import json
import os
from pathlib import Path

import torch
from lightning.pytorch import LightningDataModule
from rich.progress import track
from torch import Tensor

from fibermodels.checks import check_finite
from fibermodels.component import fingerprint, reading
from fibermodels.config import Recorded, describe
from fibermodels.core import Data, Inputs, Subject
from fibermodels.data.digits import Split
from fibermodels.data.in_memory import TensorSet
from fibermodels.data.split_data import SplitData
from fibermodels.files import read_tensors, save_tensors
from fibermodels.noise import seeded

BATCH, SAMPLE = 500, 256
"""Inputs that are represented in one call, and inputs that determine the name of a stored split."""


class Representations(SplitData, metaclass=Recorded):
    """Maps, signals or vectors `phi(x)` as inputs, with the splits and the labels of the data.

    A subject of such maps, such as `subjects.SpatialMean`, has maps as its fibers. They are computed once for each
    split, in epoch 0, and stored below `folder` if the data can be described (see `config.Recorded`).

    Args:
        data: the inputs of the frozen network, such as images.
        subject: the frozen network.
        batch_size: representations per batch; None takes that of the data.
        folder: of the stored representations; None takes `$FIBERMODELS_CACHE`, else `~/.cache/fibermodels`.

    Raises:
        ValueError: the data has no splits; on use, a representation is not finite.
    """

    def __init__(
        self, data: LightningDataModule, subject: Subject, batch_size: int | None = None, folder: str | None = None
    ) -> None:
        known: object = data
        if not isinstance(known, Data):
            raise ValueError(f"data: expected data with splits, got {type(data).__name__}")
        super().__init__(f"{known.name}-representations", batch_size or known.batch_size, known.seed)
        self.data: Data = known
        self.subject = subject
        default = os.environ.get("FIBERMODELS_CACHE") or Path.home() / ".cache" / "fibermodels"
        self.folder = Path(folder or default)
        self._splits: dict[Split, TensorSet] = {}

    def split(self, split: Split) -> TensorSet:
        """The representations of a split, which are computed or read on first use."""
        if split not in self._splits:
            inputs = self.data.split(split)
            inputs.set_epoch(0)
            self._splits[split] = TensorSet(self._stored(split, inputs), inputs.labels())
        return self._splits[split]

    def _stored(self, split: Split, inputs: Inputs) -> Tensor:
        if not isinstance(type(self.data), Recorded):
            return self._represented(inputs)
        file = self.folder / f"{self._key(split, inputs)}.safetensors"
        if not file.is_file():
            save_tensors({"x": self._represented(inputs)}, file)
        return read_tensors(file)[0]["x"]

    def _key(self, split: Split, inputs: Inputs) -> str:
        """What the representations depend on: the data, some of its inputs, and the network with its layer."""
        own = [split, describe(self.data), fingerprint(self.subject), reading(describe(self.subject))]
        rows = torch.randperm(len(inputs), generator=seeded("fingerprint"))[:SAMPLE]
        digest = hashlib.sha256(json.dumps(own).encode())
        digest.update(inputs.inputs(rows).numpy().tobytes())
        return digest.hexdigest()[:16]

    @torch.no_grad()
    def _represented(self, inputs: Inputs) -> Tensor:
        device = "cuda" if torch.cuda.is_available() else "cpu"
        self.subject.to(device)
        batches = track(inputs.batches(BATCH), f"representing {self.data.name}", total=-(-len(inputs) // BATCH))
        x = torch.cat([self.subject(batch["x"].to(device)).cpu() for batch in batches])
        check_finite(x, f"representations by {type(self.subject).__name__}")
        return x
