"""What an evaluation draws, and where."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Work = Callable[[int], None]
"""What the process of a rank does; it is sent there, so it is a function of a module, or a `partial` of one."""


@dataclass(frozen=True)
class Choice:
    """What is drawn.

    Raises:
        ValueError: numbers below 1.
    """

    num_targets: int
    """Images whose fibers are sampled: the first ones of the split."""
    samples_per_target: int
    seed: int = 0
    """Of the samples."""
    split: Literal["test", "val"] = "test"
    batch_size: int | None = None
    """Targets at a time; None takes 100 for a model of many network calls, whose progress bar should move, else 500."""

    def __post_init__(self) -> None:
        for name in ("num_targets", "samples_per_target", "batch_size"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name}: expected at least 1, got {value}")


@dataclass(frozen=True)
class Where:
    """Where it is drawn."""

    device: str = "cpu"
    unfinished: Path | None = None
    """Folder for the batches of a long evaluation until all are drawn; an interrupted one goes on from there."""
    processes: int = 1
    """How many share the batches."""
    work: Work | None = None
    """Draws the share of a process of another rank into `unfinished`."""
