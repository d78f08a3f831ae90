"""Pretrained networks in local folders, as diffusers and transformers save them."""

import json
from pathlib import Path
from typing import Any

import torch

from fibermodels.config import locate

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
"""The types of number in which a network may compute, by name."""


def local_folder(owner: str, path: str) -> Path:
    """The folder at `path`, from here or below the data root.

    Raises:
        FileNotFoundError: no such folder. The name of a repository on a hub is not a folder.
    """
    try:
        found = locate(path)
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"{owner}: {error}; nothing is fetched from a hub: download '{path}' and give the local folder"
        ) from error
    if not found.is_dir():
        raise FileNotFoundError(f"{owner}: '{found}' is a file: expected a folder as save_pretrained writes it")
    return found


def read_json(owner: str, path: Path) -> dict[str, Any]:
    """A configuration file.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not JSON, or not an object.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{owner}: no file '{path}'")
    try:
        content = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{owner}: '{path}' is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{owner}: '{path}': expected a JSON object, got {type(content).__name__}")
    return content


def load_part(owner: str, cls: Any, folder: Path, **options: Any) -> Any:
    """A network `cls` with the weights in its folder, frozen and in evaluation mode.

    It reads safetensors files only, because other formats can run code, and refuses a file that lacks a weight.

    Args:
        owner: the name with which errors begin.
        cls: a class of diffusers or transformers.
        folder: it contains `config.json` and the weights.
        options: further arguments of `from_pretrained`.

    Raises:
        ValueError: missing or damaged weights, or those of another network.
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
