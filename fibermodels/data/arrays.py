"""Inputs in one file of numbers: points, a table, signals, maps, or images as bytes."""

from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from torch import Tensor

from fibermodels.config import Recorded, locate
from fibermodels.data.digits import Split
from fibermodels.data.in_memory import ArraySet, InMemory, TensorSet
from fibermodels.data.split_data import SplitData
from fibermodels.data.table import is_number
from fibermodels.files import open_tensors

ENDINGS = (".csv", ".npy", ".npz", ".safetensors")
"""How the names of files end that `read_arrays` reads."""


class Arrays(SplitData, metaclass=Recorded):
    """The inputs in a file, with training, validation and test inputs that the seed selects.

    Args:
        file: as in `read_arrays`, in the working directory or below the data root.
        batch_size: inputs per batch.
        seed: of the splits and the order.
        val_size: number or share of validation inputs, and of test inputs.

    Raises:
        ValueError: a number out of its range.
    """

    def __init__(self, file: str, batch_size: int = 64, seed: int = 0, val_size: int | float = 0.1) -> None:
        super().__init__(Path(file).stem, batch_size, seed)
        self.file, self.val_size = file, val_size
        self._read: InMemory | None = None

    def split(self, split: Split) -> TensorSet | ArraySet:
        """The inputs of a split; the file is read on first use.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: it has other content, or too few inputs.
        """
        if self._read is None:
            x, y = read_arrays(locate(self.file))
            self._read = InMemory(x, y, self.batch_size, self.seed, False, self.val_size, self.name)
        return self._read.split(split)


def read_arrays(path: str | Path) -> tuple[Tensor, Tensor | None]:
    """The inputs `(N, *input_shape)` in a file, and their labels `(N,)` if it has any.

    Args:
        path: `.npy`; `.npz` or `.safetensors` with `x`, and `y` for labels; or `.csv`, in which the first line may have
            names, and a column with the name `y` holds labels.

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
    return x, found["y"].long() if "y" in found else None


def _binary(path: Path) -> dict[str, Tensor]:
    if path.suffix == ".safetensors":
        return open_tensors(path)[0]
    content = np.load(path, allow_pickle=False)
    arrays = {"x": content} if isinstance(content, np.ndarray) else dict(content)
    return {name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in arrays.items()}


def _csv(path: Path) -> dict[str, Tensor]:
    with path.open(encoding="utf-8") as file:
        names = [name.strip() for name in file.readline().split(",")]
    named = not all(is_number(name) for name in names)
    table = torch.from_numpy(np.loadtxt(path, delimiter=",", skiprows=int(named), ndmin=2))
    labelled = [i for i, name in enumerate(names) if name == "y"]
    if not labelled:
        return {"x": table}
    inputs = [i for i in range(len(names)) if i not in labelled]
    return {"x": table[:, inputs], "y": table[:, labelled[0]]}
