"""Pretrained networks in local folders, as diffusers and transformers save them."""

import json
from pathlib import Path
from typing import Any

import torch

from fibermodels.config import locate

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
"""The number types in which a network may compute, by name."""


def local_folder(owner: str, path: str) -> Path:
    """The folder at `path`, in the working directory or below the data root.

    Raises:
        FileNotFoundError: the folder does not exist; names on a hub are not accepted.
    """
    try:
        found = locate(path)
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"{owner}: {error}; nothing is downloaded from a hub: download '{path}' and give the local folder"
        ) from error
    if not found.is_dir():
        raise FileNotFoundError(f"{owner}: path: expected a folder of save_pretrained, got the file '{found}'")
    return found


def read_json(owner: str, path: Path) -> dict[str, Any]:
    """The content of a configuration file.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: the file is not JSON, or not an object.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{owner}: there is no file '{path}'")
    try:
        content = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{owner}: '{path}' is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{owner}: '{path}': expected a JSON object, got {type(content).__name__}")
    return content


def load_part(owner: str, cls: Any, folder: Path, **options: Any) -> Any:
    """A network `cls` of diffusers or transformers with the weights in its folder, frozen and in evaluation mode.

    It reads safetensors files only, because other formats can run code, and requires all weights.

    Args:
        owner: the first word of error messages.
        cls, folder, options: for `cls.from_pretrained`; the folder has `config.json` and the weights.

    Raises:
        ValueError: the weights are missing, damaged, or those of another network.
    """
    own = {"local_files_only": True, "use_safetensors": True, "output_loading_info": True}
    try:
        network, found = cls.from_pretrained(folder, **own, **options)
    except (OSError, RuntimeError, ValueError) as error:
        first = " ".join(line.strip()[:200] for line in str(error).splitlines()[:2])
        raise ValueError(f"{owner}: cannot load a {cls.__name__} (safetensors) from '{folder}': {first}") from error
    if found["missing_keys"]:
        missing = sorted(found["missing_keys"])
        raise ValueError(f"{owner}: the weights in '{folder}' lack {len(missing)} tensors, the first '{missing[0]}'")
    return network.requires_grad_(False).eval()
