"""A fiber model from its files, in one call."""

from pathlib import Path
from typing import Any

from torch import nn

from fibermodels.api.fitted import Fitted
from fibermodels.training import checkpoint, pretrained


def load(
    path: str | Path, changed: dict[str, Any] | None = None, subject: nn.Module | None = None, data: Any = None
) -> Fitted:
    """A fiber model with its subject and data, from a checkpoint, from exported weights, or from the hub.

    Args:
        path: a checkpoint; exported weights: `NAME.safetensors`, its card `NAME.json`, or their folder; or the id
            `user/name` of a model on the hub, if no local path has this name.
        changed: new values of the model's arguments by name, such as a guidance scale. The weights must still fit.
        subject: of the training, for files that do not describe it; or the network of a subject that was in memory.
        data: for `score`, where the files do not describe the data (see `data.given.as_data`).

    Raises:
        FileNotFoundError: no such file, or no such model on the hub.
        ValueError: truncated, or not a checkpoint of this project; another object than a fiber model; the subject is
            missing, or another one than that of the training.
    """
    return _fitted(checkpoint.load(path, changed, subject), data)


def from_pretrained(source: str | Path, data: Any = None, **options: Any) -> Fitted:
    """As `load`, with the options of the hub: `revision`, `cache_dir`, `token` and `local_files_only`."""
    return _fitted(pretrained.from_pretrained(source, **options), data)


def _fitted(run: checkpoint.Run, data: Any) -> Fitted:
    return Fitted.of(run if data is None else run._replace(data=data))
