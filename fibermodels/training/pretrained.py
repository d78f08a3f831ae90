"""Folders of pretrained models: saved, loaded, and sent to the hub of Hugging Face."""

import shutil
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from fibermodels.config import places
from fibermodels.files import replace_file, write_text
from fibermodels.training.checkpoint import Run, load
from fibermodels.training.exported import frozen_of
from fibermodels.training.exporting import check_free, publish
from fibermodels.training.hub import download, upload
from fibermodels.training.page import check_license, page

FIGURE = "samples.png"
"""The figure of a result, and of a page."""


def from_pretrained(
    source: str | Path,
    *,
    revision: str | None = None,
    subject: nn.Module | None = None,
    changed: dict[str, Any] | None = None,
    cache_dir: str | Path | None = None,
    token: str | None = None,
    local_files_only: bool = False,
) -> Run:
    """Loads a model that `save_pretrained` saved, from a folder or from the hub.

    Args:
        source: a local path, as for `fibermodels.load`, or the id `user/name` of a model on the hub.
        revision: a branch, a tag or a commit of the hub.
        subject, changed: as for `fibermodels.load`.
        cache_dir: the folder of fetched files; None takes that of `huggingface_hub`.
        token: for private models; None takes the stored one.
        local_files_only: use what was fetched before, without the network.

    Raises:
        FileNotFoundError: no such path, and the hub has no such model or cannot be reached.
        ValueError: as `fibermodels.load`; a revision of a local path.
    """
    if any(place.exists() for place in places(source)):
        if revision is not None:
            raise ValueError(f"revision: expected none for the local path '{source}', got '{revision}'")
        return load(source, changed, subject)
    options = {"revision": revision, "cache_dir": cache_dir, "token": token, "local_files_only": local_files_only}
    return load(download(str(source), **options), changed, subject)


def save_pretrained(
    run: Run,
    folder: str | Path,
    *,
    result: str | Path | None = None,
    license: str | None = None,
    repository: str | None = None,
    half: bool = False,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Saves a run as a folder for `from_pretrained` and for the hub.

    The folder gets `model.safetensors`, `model.frozen.safetensors` (the frozen parts, if they have weights),
    `config.json` (the card of `export.py`) and `README.md`. The scores on the test split are measured.

    Args:
        run: of `fibermodels.load`.
        folder: made if it is missing.
        result: the folder of a result of this run: its metrics and its figure `samples.png` are shown on the page.
        license: an identifier of the hub, such as `mit`.
        repository: the id `user/name` that the page names; None names the folder.
        half: as for `export`; the weights of `run` are rounded, too.
        overwrite: replace earlier files.

    Returns:
        The content of the card.

    Raises:
        FileExistsError: the folder holds a model and `overwrite` is not set.
        FileNotFoundError: no result, or the data of the run are not there.
        ValueError: the result is not one of this run, or the license is no identifier.
    """
    folder = Path(folder)
    weights, card, readme = (folder / name for name in ("model.safetensors", "config.json", "README.md"))
    check_license(license)
    figure = None if result is None else Path(result) / FIGURE
    figure = figure if figure is not None and figure.is_file() else None
    check_free(overwrite, weights, card, frozen_of(weights), readme, *([folder / FIGURE] if figure else []))
    content = publish(run, weights, card, half=half, result=result)
    if figure is not None:
        replace_file(folder / FIGURE, partial(shutil.copyfile, figure))
    title = repository.rpartition("/")[2] if repository else folder.resolve().name
    write_text(readme, page(content, title, repository or str(folder), license, FIGURE if figure else None))
    return content


def push_to_hub(
    run: Run,
    repository: str,
    *,
    private: bool | None = None,
    revision: str | None = None,
    token: str | None = None,
    **options: Any,
) -> str:
    """Saves a run to the hub, in one commit.

    Args:
        run: of `fibermodels.load`.
        repository: the id `user/name`; it is made if it is missing.
        private: whether a new repository is private; None takes the account's default.
        revision: the branch.
        token: None takes the stored one (`hf auth login`).
        options: `result`, `license` and `half` of `save_pretrained`.

    Returns:
        The address of the model.

    Raises:
        OSError: the hub refuses, or cannot be reached.
        ValueError: as `save_pretrained`.
    """
    with tempfile.TemporaryDirectory() as folder:
        save_pretrained(run, folder, repository=repository, **options)
        return upload(Path(folder), repository, private, revision, token)
