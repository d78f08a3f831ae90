"""Grey digits from five data sets, with an empty first pixel column."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from fibermodels.config import data_root
from fibermodels.noise import seeded

BaseName = Literal["digits", "mnist", "emnist", "kmnist", "fashion_mnist"]
Split = Literal["train", "val", "test"]

VAL_SIZE = 5000
"""The number of validation images, from the end of the shuffled training part of the larger sets."""

_FILES = {
    "mnist": ("MNIST", "{train,t10k}-{images-idx3,labels-idx1}-ubyte"),
    "emnist": ("EMNIST", "emnist-digits-{train,test}-{images-idx3,labels-idx1}-ubyte"),
    "kmnist": ("KMNIST", "{train,t10k}-{images-idx3,labels-idx1}-ubyte"),
    "fashion_mnist": ("FashionMNIST", "{train,t10k}-{images-idx3,labels-idx1}-ubyte"),
}

MNIST = {
    "train-images-idx3-ubyte": (47040016, "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db"),
    "t10k-images-idx3-ubyte": (7840016, "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7"),
}
"""Bytes and sha256 of the published files."""


def load_digits(base: BaseName, split: Split, root: str | None = None) -> Tensor:
    """The grey digits alone; see `load_labelled`."""
    return load_labelled(base, split, root)[0]


def load_labelled(base: BaseName, split: Split, root: str | None = None) -> tuple[Tensor, Tensor]:
    """The grey images `(N, 1, H, W)`, float in [0, 1], with background in the first column, and their digits `(N,)`.

    `digits` and `mnist` are 28 x 28; the others have strokes at the border and are padded to 32 x 32. The split of the
    training part into train and validation is fixed.

    Args:
        base: the data set.
        split: train, val or test.
        root: the data folder; None takes `$FIBERMODELS_DATA`, else `data`.

    Raises:
        FileNotFoundError: the files do not exist and cannot be downloaded; the message names them.
        ValueError: an unknown name, or damaged files.
    """
    if base == "digits":
        return _sklearn_digits(split)
    if base not in _FILES:
        raise ValueError(f"base: expected one of {['digits', *_FILES]}, got '{base}'")
    root = str(data_root(root))
    images, labels = _torchvision(base, train=split != "test", root=Path(root))
    if split != "test":
        order = torch.randperm(len(images), generator=seeded("split", base))
        own = order[:-VAL_SIZE] if split == "train" else order[-VAL_SIZE:]
        images, labels = images[own], labels[own]
    if tuple(images.shape[1:]) != (28, 28):
        raise ValueError(f"{base}: expected images of 28 x 28 pixels under '{root}', got {tuple(images.shape[1:])}")
    digits = images[:, None].float() / 255
    clear = _clear_first_column(digits) if base == "mnist" else torch.nn.functional.pad(digits, (2, 2, 2, 2))
    return clear, labels


def _sklearn_digits(split: Split) -> tuple[Tensor, Tensor]:
    from sklearn.datasets import load_digits as load_bundled

    bundled = load_bundled()
    small = torch.from_numpy(bundled.images).float()[:, None] / 16  # (1797, 1, 8, 8)
    large = torch.nn.functional.interpolate(small, size=(20, 20), mode="bicubic", align_corners=False)
    digits = torch.nn.functional.pad(large.clamp(0, 1), (4, 4, 4, 4))
    order = torch.randperm(len(digits), generator=seeded("split", "digits"))
    parts = {"train": order[:1297], "val": order[1297:1547], "test": order[1547:]}
    return digits[parts[split]], torch.from_numpy(bundled.target).long()[parts[split]]


def _torchvision(base: str, train: bool, root: Path) -> tuple[Tensor, Tensor]:
    from torchvision import datasets

    name, files = _FILES[base]
    kind: Callable[..., Any] = getattr(datasets, name)
    extra: dict[str, Any] = {"split": "digits"} if base == "emnist" else {}
    try:
        found = kind(str(root), train=train, download=False, **extra)
    except Exception as missing:  # torchvision reports damaged files by many types
        if not (isinstance(missing, RuntimeError) and "not found" in str(missing)):
            raise ValueError(
                f"{base}: a file under '{root / name / 'raw'}' is truncated or damaged: {missing}"
            ) from missing
        try:
            found = kind(str(root), train=train, download=True, **extra)
        except (RuntimeError, OSError) as error:
            raise FileNotFoundError(
                f"{base}: not found under '{root.resolve()}', and the download failed.\n"
                f"Expected there, uncompressed: {name}/raw/{files}\n"
                "Set FIBERMODELS_DATA (or --data.root) to the folder that holds them."
            ) from error
    if base == "mnist":
        _check_published(root / name / "raw" / f"{'train' if train else 't10k'}-images-idx3-ubyte")
    images: Tensor = found.data.transpose(1, 2) if base == "emnist" else found.data  # EMNIST is stored transposed
    return images, found.targets.long()


def _check_published(path: Path) -> None:
    """Compares a file with the published one; a file of another size is somebody's own.

    Raises:
        ValueError: it is damaged.
    """
    size, digest = MNIST[path.name]
    if path.stat().st_size == size and hashlib.sha256(path.read_bytes()).hexdigest() != digest:
        raise ValueError(f"mnist: '{path}' is damaged: it does not have the sha256 of the published file")


def _clear_first_column(digits: Tensor) -> Tensor:
    """Moves digits that touch the first column (16 of MNIST's 70,000) to the right by one pixel."""
    touching = digits[..., 0].flatten(1).amax(1) > 0
    digits[touching] = digits[touching].roll(1, dims=-1)
    return digits
