"""Weights of third-party networks, from safetensors or torch files."""

import pickle
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from fibermodels.component import NOT_TENSORS, check_card, exported_at
from fibermodels.config import locate

EXPORTED = "encoder.network."
"""The prefix of a network's weights in the file of a fine-tuned classifier (`export.py`)."""


def read_state(path: str | Path) -> dict[str, Tensor]:
    """The state in a `.safetensors` file or in a torch file, which is read with `weights_only=True`.

    `locate` finds the path, which may also name a card or a folder (see `component.exported_at`). The state may be
    under the key `state_dict` or `model`, or be that of the network inside an exported `Classifier`.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: the file has another format, does not contain tensors by name, or is not what its card describes.
    """
    found = exported_at(path) or locate(path)
    check_card(found)
    try:
        state: Any = (
            load_file(found)
            if found.suffix == ".safetensors"
            else torch.load(found, map_location="cpu", weights_only=True)
        )
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, OSError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        reason = NOT_TENSORS if "weights_only" in str(error) else reason
        raise ValueError(f"weights: '{found}' is neither a safetensors file nor one of tensors: {reason}") from error
    for key in ("state_dict", "model"):
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ValueError(f"weights: '{found}' holds no state of a network, that is tensors by name")
    inner = {name.removeprefix(EXPORTED): value for name, value in state.items() if name.startswith(EXPORTED)}
    return inner or state


def fit_state(network: nn.Module, state: dict[str, Tensor], path: str | Path, hint: str = "") -> None:
    """Loads a state with exactly the network's names and shapes; only `num_batches_tracked`, which inference does not
    need, may be missing.

    Raises:
        ValueError: the state does not fit; the message lists up to three names of each kind, and ends with `hint`.
    """
    own = network.state_dict()
    state = {name: value for name, value in own.items() if name.endswith("num_batches_tracked")} | state
    wrong = [
        f"'{name}' is {list(state[name].shape)}, not {list(value.shape)}"
        for name, value in own.items()
        if name in state and state[name].shape != value.shape
    ]
    parts = {
        "missing": sorted(own.keys() - state.keys()),
        "too much": sorted(state.keys() - own.keys()),
        "of another shape": wrong,
    }
    found = [f"{len(names)} {what} ({', '.join(names[:3])})" for what, names in parts.items() if names]
    if found:
        raise ValueError(f"weights: '{path}' does not fit a {type(network).__name__}: {'; '.join(found)}{hint}")
    network.load_state_dict(state)
