"""What a run writes beside its checkpoints."""

import csv
import sys
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only
from torchvision.utils import make_grid, save_image


def epoch_metrics(trainer: Trainer) -> dict[str, float]:
    """What was logged for the epoch that ends, by name.

    Lightning's extra names per step are left out, and what it keeps of an earlier epoch's validation.
    """
    every = trainer.check_val_every_n_epoch
    validated = every is None or (trainer.current_epoch + 1) % every == 0
    left_out = ("_step", "_epoch")
    return {
        name: round(float(value), 6)
        for name, value in sorted(trainer.callback_metrics.items())
        if not name.endswith(left_out) and (validated or not name.startswith("val/"))
    }


class MetricsCSV(Callback):
    """`metrics.csv`: one row per epoch. A resumed run keeps the rows of the epochs before it.

    Args:
        path: the file.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    @rank_zero_only
    def on_train_epoch_end(self, trainer: Trainer, module: LightningModule) -> None:
        """Writes the epoch's row; rows of this epoch and later, from a run that died, are replaced."""
        row: dict[str, Any] = {"epoch": trainer.current_epoch, "step": trainer.global_step}
        row |= epoch_metrics(trainer)
        rows = [old for old in self._rows() if int(old["epoch"]) < trainer.current_epoch] + [row]
        names = list(dict.fromkeys(name for each in rows for name in each))
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("w", newline="") as file:
            writer = csv.DictWriter(file, names, restval="")
            writer.writeheader()
            writer.writerows(rows)

    def _rows(self) -> list[dict[str, Any]]:
        if not self.path.is_file():
            return []
        with self.path.open(newline="") as file:
            return list(csv.DictReader(file))


class InterruptNote(Callback):
    """Says how to go on when the user presses Ctrl-C."""

    @rank_zero_only
    def on_exception(self, trainer: Trainer, module: LightningModule, exception: BaseException) -> None:
        if isinstance(exception, KeyboardInterrupt):
            print(f"\ninterrupted in epoch {trainer.current_epoch + 1}; resume with --ckpt_path last", file=sys.stderr)


class EpochLine(Callback):
    """A line on standard error after an epoch, for logs where a progress bar is of no use: of thirty
    epochs at most, evenly spread."""

    @rank_zero_only
    def on_train_epoch_end(self, trainer: Trainer, module: LightningModule) -> None:
        if (trainer.current_epoch + 1) % max(1, (trainer.max_epochs or 1) // 30):
            return
        values = "  ".join(f"{name} {value:.4g}" for name, value in epoch_metrics(trainer).items())
        print(f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}  {values}", file=sys.stderr, flush=True)


class SampleGrid(Callback):
    """After each epoch, validation targets (top of each pair of rows) above their samples: to
    TensorBoard, and to `samples.png` in the run's folder.

    Args:
        path: the picture.
        columns: targets shown.
    """

    def __init__(self, path: str | Path, columns: int = 16) -> None:
        self.path, self.columns = Path(path), columns

    @rank_zero_only
    def on_validation_end(self, trainer: Trainer, module: LightningModule) -> None:
        previewed = getattr(module, "previewed", None)
        if previewed is None or trainer.sanity_checking:
            return
        shown = previewed[:, : 4 * self.columns].cpu()
        rows = [pair for part in shown.split(self.columns, 1) for pair in part]
        grid = make_grid(torch.cat(rows), nrow=min(self.columns, shown.shape[1]), padding=1)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        save_image(grid, self.path)
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                logger.experiment.add_image("targets_and_samples", grid, trainer.current_epoch)
