"""How a run writes its checkpoints, and which of them it resumes from."""

import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.cli import SaveConfigCallback

from fibermodels.files import replace_file, write_text


class Saving(TorchCheckpointIO):
    """Checkpoints that are written beside their place and then renamed, and whose bytes are checked when they are read.

    Lightning writes them into the folder of temporary files first. From there a file that is on another disk can only
    be copied, so an interruption would leave a part of it.

    Args:
        then: what happens once, after the first checkpoint is complete.
    """

    def __init__(self, then: Callable[[], None] | None = None) -> None:
        super().__init__()
        self.then = then

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Writes a checkpoint.

        Raises:
            OSError: it cannot be written; the earlier one is still there.
        """
        try:
            replace_file(Path(path), partial(torch.save, checkpoint))
        except RuntimeError as error:  # torch's word for a full disk
            raise OSError(f"cannot write '{path}': {str(error).splitlines()[0]}") from error
        if self.then is not None:
            self.then()
            self.then = None

    def load_checkpoint(self, path: str | Path, *own: Any, **options: Any) -> dict[str, Any]:
        """Reads a checkpoint.

        Raises:
            ValueError: it is damaged.
        """
        check_archive(path)
        content: dict[str, Any] = super().load_checkpoint(path, *own, **options)
        return content


def check_archive(path: str | Path) -> None:
    """Compares the checksums in a file of `torch.save` with its content; torch itself does not.

    Raises:
        PermissionError: the file may not be read.
        ValueError: the file is damaged, or not such a file.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except PermissionError:  # which says nothing about the content
        raise
    except (zipfile.BadZipFile, EOFError, OSError, NotImplementedError) as error:
        raise ValueError(f"'{path}' is damaged or not a checkpoint: {error}") from error
    if damaged is not None:
        raise ValueError(f"'{path}' is damaged: '{damaged}' does not have its checksum")


def newest(folder: Path, say: Callable[[str], None]) -> Path | None:
    """The newest checkpoint of a folder that can be read; None if there is none.

    Args:
        folder: of the checkpoints.
        say: is told about each newer one that is damaged.
    """
    found = [path for path in folder.glob("*.ckpt") if not path.name.startswith(".")]
    for path in sorted(found, key=lambda path: (path.stat().st_mtime, path.name == "last.ckpt"), reverse=True):
        try:
            check_archive(path)
        except ValueError as error:
            say(f"{error}; it is left out")
        else:
            return path
    return None


class SavedConfig(SaveConfigCallback):
    """Writes `config.yaml` when the training starts: a run that could not start changes nothing in its folder."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Lightning would write here, before data and networks are known to be there."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes the file."""
        folder = trainer.log_dir  # all processes ask, because the first one tells the others
        if folder is not None and trainer.is_global_zero:
            write_text(Path(folder) / self.config_filename, self.parser.dump(self.config, skip_none=False))
