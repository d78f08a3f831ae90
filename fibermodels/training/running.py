"""What every training gets, whoever starts it: averages, checkpoints, metrics, pictures, and an orderly end."""

import logging
import sys
import warnings
from functools import partial
from pathlib import Path
from typing import Any

from lightning.pytorch.callbacks import Callback, ModelCheckpoint

from fibermodels.training.averaging import AveragedWeights
from fibermodels.training.callbacks import MetricsCSV, Preemption, SampleGrid
from fibermodels.training.saving import Saving

OWN_FILES = ("checkpoints/last.ckpt", "checkpoints/best.ckpt", "events.out.tfevents*", "metrics.csv", "samples.png")
"""What a run writes into its folder, besides its config."""

TRAINER: dict[str, Any] = {"gradient_clip_val": 1.0, "num_sanity_val_steps": 0, "enable_model_summary": False}
"""Options of the trainer, unless the user gives others."""

INTENDED = (
    "does not have many workers",
    "isinstance.treespec",
    "log_every_n_steps",
    "in eval mode at the start of training",
    "exists and is not empty",
    "args parameter is intended to run from within Python",
)
"""Parts of warnings about what is intended."""


def quiet() -> None:
    """Leaves out warnings about what is intended, and Lightning's remarks on its devices."""
    warnings.filterwarnings("ignore", "|".join(f".*{text}.*" for text in INTENDED))
    logging.getLogger("lightning.pytorch.utilities.rank_zero").setLevel(logging.WARNING)


def callbacks(
    folder: Path,
    ema_decay: float,
    minutes: float = 30.0,
    steps: int = 0,
    lines: bool = True,
    resume: str = "--ckpt_path last",
) -> list[Callback]:
    """The callbacks of a run.

    Args:
        folder: of the run.
        ema_decay: of the averaged weights; 0 for none.
        minutes, steps: between checkpoints within an epoch; 0 for none.
        lines: whether to print a line for each epoch where there is no progress bar.
        resume: how the user resumes an interrupted run, for the message.
    """
    checkpoints = str(folder / "checkpoints")
    own: list[Callback] = [AveragedWeights(ema_decay)] if ema_decay else []
    return [
        *own,
        ModelCheckpoint(checkpoints, "last", enable_version_counter=False, save_on_train_epoch_end=True),
        ModelCheckpoint(checkpoints, "best", monitor="val/loss", enable_version_counter=False),
        MetricsCSV(folder / "metrics.csv", lines=lines and not sys.stderr.isatty()),
        SampleGrid(folder / "samples.png"),
        Preemption(f"{checkpoints}/last.ckpt", minutes, steps, resume),
    ]


def saving(folder: Path, anew: bool) -> Saving:
    """What writes the checkpoints of a run.

    Args:
        folder: of the run.
        anew: whether it replaces an earlier run, whose files stay until the first checkpoint is complete. Then those
            that were not replaced yet are removed.
    """
    old = [file for pattern in OWN_FILES if anew for file in folder.glob(pattern)]
    return Saving(partial(_remove, {file: file.stat().st_ino for file in old}))


def _remove(files: dict[Path, int]) -> None:
    """Removes files that still have their former inode, so those that were not replaced."""
    for file, inode in files.items():
        if file.exists() and file.stat().st_ino == inode:
            file.unlink()
