"""Callbacks: metrics, sample grids, and checkpoints within an epoch."""

import csv
import signal
import sys
import time
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import torch
import torch.distributed as dist
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only
from lightning.pytorch.utilities.exceptions import SIGTERMException
from torch import Tensor
from torchvision.utils import make_grid, save_image

from fibermodels.files import replace_file, write_csv
from fibermodels.pictures import Plot, as_tensor, coloured, has_places

SIGNALS = (signal.SIGTERM, signal.SIGUSR1)
"""The signals that a cluster sends before it stops a job; SLURM sends SIGUSR1 with `--signal=USR1@120`."""

EXIT_STATUS = 128 + signal.SIGTERM
"""The exit status of a run that a signal ended."""

AGREE_EVERY = 10
"""Several processes ask each other in every tenth step only, because that takes time."""


def epoch_metrics(trainer: Trainer) -> dict[str, float]:
    """The metrics of the epoch that ends, by name, without Lightning's names per step and without the validation of an
    earlier epoch."""
    every = trainer.check_val_every_n_epoch
    validated = every is None or (trainer.current_epoch + 1) % every == 0
    left_out = ("_step", "_epoch")
    return {
        name: round(float(value), 6)
        for name, value in sorted(trainer.callback_metrics.items())
        if not name.endswith(left_out) and (validated or not name.startswith("val/"))
    }


class MetricsCSV(Callback):
    """Writes `metrics.csv` with one row per epoch. A resumed run keeps the rows of earlier epochs.

    Args:
        path: the file.
        lines: whether to print at most thirty epochs, evenly spread, to standard error, for logs without a progress
            bar.
    """

    def __init__(self, path: str | Path, lines: bool = False) -> None:
        self.path, self.lines = Path(path), lines

    @rank_zero_only
    def on_train_epoch_end(self, trainer: Trainer, module: LightningModule) -> None:
        """Writes the row of the epoch; it replaces rows of this and later epochs, which an interrupted run wrote."""
        metrics = epoch_metrics(trainer)
        rows: list[dict[str, Any]] = []
        if self.path.is_file():
            with self.path.open(newline="") as file:
                rows = [old for old in csv.DictReader(file) if int(old["epoch"]) < trainer.current_epoch]
        rows.append({"epoch": trainer.current_epoch, "step": trainer.global_step, **metrics})
        names = list(dict.fromkeys(name for each in rows for name in each))
        write_csv(self.path, names, rows)
        if self.lines and not (trainer.current_epoch + 1) % max(1, (trainer.max_epochs or 1) // 30):
            values = "  ".join(f"{name} {value:.4g}" for name, value in metrics.items())
            print(f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}  {values}", file=sys.stderr, flush=True)


class SampleGrid(Callback):
    """Writes a picture of validation targets and a sample of each to a file and to TensorBoard after each epoch.

    Images and maps are above their samples; other inputs are plotted (`pictures.Plot`).

    Args:
        path: the file.
        columns: targets per row.
    """

    def __init__(self, path: str | Path, columns: int = 16) -> None:
        self.path, self.columns = Path(path), columns

    @rank_zero_only
    def on_validation_end(self, trainer: Trainer, module: LightningModule) -> None:
        previewed = getattr(module, "previewed", None)
        if previewed is None or trainer.sanity_checking:
            return
        grid = self._drawn(*previewed.cpu())
        replace_file(self.path, partial(save_image, grid))
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                logger.experiment.add_image("targets_and_samples", grid, trainer.current_epoch)

    def _drawn(self, x: Tensor, x_hat: Tensor) -> Tensor:
        if not has_places(x):
            return as_tensor(Plot(x, x_hat[None]).figure(self.columns))
        shown = torch.stack(coloured(x, x_hat))[:, : 4 * self.columns]
        rows = [pair for part in shown.split(self.columns, 1) for pair in part]
        return make_grid(torch.cat(rows), nrow=min(self.columns, shown.shape[1]), padding=1)


class Preemption(Callback):
    """Writes checkpoints between two optimizer steps within an epoch; a resumed run continues exactly from there.

    After SIGTERM or SIGUSR1 to any process, the run writes a checkpoint at the end of the step (of every tenth step,
    with several processes) and ends with status 143. A new checkpoint replaces the last one only when it is complete.

    Args:
        path: the checkpoint.
        minutes: time between two checkpoints; 0 for none by time.
        steps: optimizer steps between two checkpoints; 0 for none by steps.
        resume: how the user resumes an interrupted run, for the message.

    Raises:
        ValueError: a number is negative.
    """

    def __init__(self, path: str | Path, minutes: float = 0, steps: int = 0, resume: str = "--ckpt_path last") -> None:
        if minutes < 0 or steps < 0:
            raise ValueError(f"checkpoint_minutes, checkpoint_steps: expected 0 or more, got {minutes} and {steps}")
        self.path, self.minutes, self.steps, self.resume = Path(path), minutes, steps, resume
        self.taken = False
        self.earlier: dict[signal.Signals, Any] = {}

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        """Replaces Lightning's handlers, which save in the middle of a step: such a run cannot be resumed exactly."""
        self.saved, self.step = time.monotonic(), trainer.global_step
        self.earlier = {number: signal.signal(number, self._note) for number in SIGNALS}

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.taken = True

    def on_train_batch_end(self, trainer: Trainer, module: LightningModule, *_: Any) -> None:
        """Saves if it is time. After the last step of an epoch, the checkpoint of the epoch is written anyway."""
        stepped, self.step = trainer.global_step != self.step, trainer.global_step
        if not stepped or trainer.is_last_batch:  # in the middle of an accumulated gradient
            return
        late, taken = self._agreed(trainer, module)
        if late or taken or (self.steps and self.step % self.steps == 0):
            trainer.save_checkpoint(self.path, weights_only=False)
            self.saved = time.monotonic()
        if taken:
            _say(f"taken away at step {trainer.global_step}; resume with {self.resume}")
            raise SIGTERMException(EXIT_STATUS)

    def _agreed(self, trainer: Trainer, module: LightningModule) -> tuple[bool, bool]:
        """Whether it is time for a checkpoint, and whether a signal came: true for all processes if true for one."""
        late = bool(self.minutes) and time.monotonic() - self.saved >= 60 * self.minutes
        if trainer.world_size == 1:
            return late, self.taken
        if self.step % AGREE_EVERY:
            return False, False
        flags = torch.tensor([late, self.taken], dtype=torch.int32, device=module.device)
        dist.all_reduce(flags, dist.ReduceOp.MAX)
        late, taken = (bool(flag) for flag in flags.tolist())
        return late, taken

    def on_exception(self, trainer: Trainer, module: LightningModule, exception: BaseException) -> None:
        self._restore_handlers()
        if isinstance(exception, KeyboardInterrupt):
            _say(f"\ninterrupted in epoch {trainer.current_epoch + 1}; resume with {self.resume}")

    def teardown(self, trainer: Trainer, module: LightningModule, stage: str) -> None:
        self._restore_handlers()

    def _restore_handlers(self) -> None:
        for number, handler in self.earlier.items():
            signal.signal(number, handler)
        self.earlier = {}


@rank_zero_only
def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
