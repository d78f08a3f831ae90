"""Inputs in one file of numbers: points, a table, signals, maps, or images as bytes."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from torch import Tensor

from fibermodels.config import Recorded, locate
from fibermodels.data.csv_file import read_cells
from fibermodels.data.digits import Split
from fibermodels.data.in_memory import ArraySet, InMemory, TensorSet
from fibermodels.data.split_data import SplitData
from fibermodels.files import open_tensors

ENDINGS = (".csv", ".npy", ".npz", ".safetensors")
"""How the names of files end that `read_arrays` reads."""

CLASSES = (
    "a table with a column of classes is data.Table(file, label=COLUMN) in Python, and has --label COLUMN in "
    "`fibermodels init`"
)
"""What to do with a file of numbers and a column of text."""


class Arrays(SplitData, metaclass=Recorded):
    """The inputs in a file, with training, validation and test inputs that the seed selects.

    Args:
        file: as in `read_arrays`, in the working directory or below the data root.
        batch_size: inputs per batch.
        seed: of the splits and the order.
        val_size: number or share of validation inputs, and of test inputs.
        input_shape: of one input, if the file has each input in one row: `[1, 128]` for signals of one channel in rows
            of 128 numbers. None takes the inputs as they are in the file.

    Raises:
        ValueError: a number out of its range.
    """

    def __init__(
        self,
        file: str,
        batch_size: int = 64,
        seed: int = 0,
        val_size: int | float = 0.1,
        input_shape: list[int] | None = None,
    ) -> None:
        super().__init__(Path(file).stem, batch_size, seed)
        self.file, self.val_size, self.input_shape = file, val_size, input_shape
        self._read: InMemory | None = None

    def split(self, split: Split) -> TensorSet | ArraySet:
        """The inputs of a split; the file is read on first use.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: it has other content, or too few inputs.
        """
        if self._read is None:
            x, y = read_arrays(locate(self.file), self.input_shape)
            self._read = InMemory(x, y, self.batch_size, self.seed, False, self.val_size, self.name)
        return self._read.split(split)


def read_arrays(path: str | Path, shape: Sequence[int] | None = None) -> tuple[Tensor, Tensor | None]:
    """The inputs `(N, *input_shape)` in a file, and their labels `(N,)` if it has any.

    Args:
        path: `.npy`; `.npz` or `.safetensors` with `x`, and `y` for labels; or `.csv`, in which the first line may have
            names, and a column with the name `y` holds labels.
        shape: of one input; rows of as many numbers take it. None takes the inputs as they are.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: another kind of file, or other content than numbers.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file at '{path}' (from {Path.cwd()})")
    if path.suffix not in ENDINGS:
        raise ValueError(f"'{path}': expected a file that ends in {', '.join(ENDINGS)}")
    try:
        found = _csv(path) if path.suffix == ".csv" else _binary(path)
    except (ValueError, OSError, SafetensorError) as error:
        raise ValueError(f"'{path}': expected an array of numbers: {str(error).splitlines()[0]}") from error
    if "x" not in found:
        raise ValueError(f"'{path}': expected the inputs under the name x, got {sorted(found)}")
    x = found["x"] if found["x"].dtype == torch.uint8 else found["x"].float()
    if shape is not None and x.ndim == 2 and x.shape[1] == math.prod(shape):
        x = x.unflatten(1, tuple(shape))
    if shape is not None and tuple(x.shape[1:]) != tuple(shape):
        raise ValueError(f"'{path}': expected inputs of {list(shape)}, got {list(x.shape[1:])}")
    return x, found["y"].long() if "y" in found else None


def _binary(path: Path) -> dict[str, Tensor]:
    if path.suffix == ".safetensors":
        return open_tensors(path)[0]
    content = np.load(path, allow_pickle=False)
    arrays = {"x": content} if isinstance(content, np.ndarray) else dict(content)
    return {name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in arrays.items()}


def _csv(path: Path) -> dict[str, Tensor]:
    cells = read_cells(path)
    labelled = [i for i, name in enumerate(cells.names) if name == "y"]
    inputs = [i for i in range(len(cells.names)) if i not in labelled]
    if not inputs:
        raise ValueError("there is no column beside y")
    found = {"x": torch.from_numpy(np.stack([cells.numbers(i, f"; {CLASSES}") for i in inputs], 1))}
    if labelled:
        found["y"] = torch.from_numpy(cells.numbers(labelled[0], f"; {CLASSES}"))
    return found
