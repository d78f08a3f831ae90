"""The samples that an evaluation draws, and the place where it draws them."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Work = Callable[[int], None]
"""The work of the process with a given rank. It is pickled, so it is a module's function or a `partial` of one."""


@dataclass(frozen=True)
class Choice:
    """The samples to draw.

    Raises:
        ValueError: a number is below 1.
    """

    num_targets: int
    """The number of targets: the first images of the split."""
    samples_per_target: int
    seed: int = 0
    """The seed of the samples."""
    split: Literal["test", "val"] = "test"
    batch_size: int | None = None
    """Targets per batch; None takes 100 for models with many network calls, else 500."""

    def __post_init__(self) -> None:
        for name in ("num_targets", "samples_per_target", "batch_size"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name}: expected at least 1, got {value}")


@dataclass(frozen=True)
class Where:
    """The device and the processes that draw the samples."""

    device: str = "cpu"
    unfinished: Path | None = None
    """Folder for finished batches, from which an interrupted evaluation continues."""
    processes: int = 1
    """The number of processes that share the batches."""
    work: Work | None = None
    """Draws another process's batches into `unfinished`."""
