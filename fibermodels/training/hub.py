"""Models on the hub of Hugging Face. Only safetensors, cards and pictures are fetched, so no file runs code."""

import re
from pathlib import Path
from typing import Any

from fibermodels.component import exported_at
from fibermodels.config import places

PATTERNS = ["*.safetensors", "*.json", "*.md", "*.png"]
"""The files that are fetched."""

FILES = (".ckpt", ".safetensors", ".json", ".yaml", ".yml")
"""Endings of paths, which no id has."""


def hub_id(path: str | Path) -> str | None:
    """The id `user/name` that a text is, if no local path has this name; else None."""
    text = str(path)
    word = r"\w[\w.-]*"
    if not re.fullmatch(f"{word}/{word}", text) or Path(text).suffix in FILES:
        return None
    return None if any(place.exists() for place in places(text)) else text


def download(repository: str, **options: Any) -> Path:
    """The local folder of a model on the hub; what was fetched before is not fetched again.

    Args:
        repository: the id, `user/name`.
        options: of `huggingface_hub.snapshot_download`: `revision`, `token`, `cache_dir`, `local_files_only`.

    Raises:
        FileNotFoundError: there is no such model, it is private, or the hub cannot be reached.
    """
    from huggingface_hub import snapshot_download

    try:
        folder = Path(snapshot_download(repository, allow_patterns=PATTERNS, **options))
    except (OSError, ValueError) as error:
        raise FileNotFoundError(f"no local path '{repository}', and none on the hub: {_reason(error)}") from error
    if exported_at(folder) is None:
        raise FileNotFoundError(f"'{repository}' on the hub holds no exported weights of fibermodels")
    return folder


def upload(folder: Path, repository: str, private: bool | None, revision: str | None, token: str | None) -> str:
    """Uploads a folder as one commit, and makes the repository if it is missing.

    Returns:
        The address of the model.

    Raises:
        OSError: no id `user/name`, or the hub refuses or cannot be reached.
    """
    from huggingface_hub import HfApi

    hub = HfApi(token=token, library_name="fibermodels")
    try:
        address = hub.create_repo(repository, private=private, exist_ok=True)
        hub.upload_folder(repo_id=repository, folder_path=folder, revision=revision, commit_message="Upload a model")
    except (OSError, ValueError) as error:
        raise OSError(f"'{repository}' cannot be uploaded: {_reason(error)}") from error
    return str(address)


def _reason(error: Exception) -> str:
    """What went wrong on the hub, in one line."""
    from huggingface_hub.errors import LocalEntryNotFoundError, RepositoryNotFoundError

    first = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    if isinstance(error, LocalEntryNotFoundError):
        return f"the hub cannot be reached, and this model was not fetched before ({first})"
    if isinstance(error, RepositoryNotFoundError):
        return f"no such model, or a private one, for which `hf auth login` stores a token ({first})"
    return first
