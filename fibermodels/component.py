"""Modules that remember how they were built, load weights from files, and have a fingerprint of their weights."""

import hashlib
import json
from pathlib import Path
from typing import Any, Self

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from fibermodels.checks import check_finite
from fibermodels.config import Recorded, places
from fibermodels.files import intact, open_tensors, sha256

NOT_TENSORS = "it holds more than tensors and plain types, so loading it could run a stranger's code"
"""Why a file of `torch.save` is refused."""


class Component(nn.Module, metaclass=Recorded):
    """An `nn.Module` that remembers its constructor's arguments (see `fibermodels.config`)."""

    arguments: dict[str, Any]

    def load_weights(self, path: str | Path | None, given: str | tuple[str, ...] | None = None) -> dict[str, str]:
        """Loads a safetensors file into the module's state; None leaves it as it is.

        Args:
            path: the file.
            given: prefixes of the names in the state that the file does not hold.

        Returns:
            The file's metadata.

        Raises:
            FileNotFoundError: no such file.
            ValueError: not a safetensors file, NaN or infinity in it, or the weights of another architecture.
        """
        if path is None:
            return {}
        state, metadata = read_weights(type(self).__name__, path)
        if given:
            state |= {name: value for name, value in self.state_dict().items() if name.startswith(given)}
        try:
            self.load_state_dict(state)
        except RuntimeError as error:
            first = " ".join(line.strip()[:200] for line in str(error).splitlines()[1:3])  # of what may be hundreds
            raise ValueError(f"{type(self).__name__}: the weights in '{path}' do not fit: {first}") from error
        return metadata


class FromFiles(Component):
    """A frozen component whose arguments name the files that it reads its weights from.

    A module that contains it leaves these weights out of its own state and loads without them. So a checkpoint does
    not repeat a large network that never changes. The `state_dict` of the component itself is complete, and so is its
    fingerprint.
    """

    def __init__(self) -> None:
        super().__init__()
        self.register_state_dict_post_hook(_leave_out)
        self.register_load_state_dict_pre_hook(_fill_in)

    def train(self, mode: bool = True) -> Self:
        """It always stays in evaluation mode, because it is frozen."""
        return super().train(False)


def _leave_out(module: nn.Module, state: dict[str, Any], prefix: str, _: Any) -> None:
    if prefix:
        for name in [name for name in state if name.startswith(prefix)]:
            del state[name]


def _fill_in(module: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    if prefix:
        state |= {prefix + name: value for name, value in module.state_dict().items()}


FROZEN = ".frozen.safetensors"
"""The ending of the file beside exported weights that holds the frozen parts, such as the subject."""


def card_of(weights: Path) -> Path:
    """The card of exported weights: `NAME.json`, or `config.json`, which a hub expects beside `model.safetensors`."""
    own = weights.with_suffix(".json")
    return weights.with_name("config.json") if weights.name == "model.safetensors" and not own.is_file() else own


def exported_at(path: str | Path) -> Path | None:
    """The file of exported weights that a path names, where `config.locate` looks for it; None if there is none.

    Args:
        path: `NAME.safetensors`, its card `NAME.json`, or a folder with `model.safetensors` or one such file.

    Raises:
        ValueError: a folder holds several files of weights.
    """
    return next((found for place in places(path) if (found := _exported(place)) is not None), None)


def _exported(path: Path) -> Path | None:
    if path.is_dir():
        found = sorted(each for each in path.glob("*.safetensors") if not each.name.endswith(FROZEN))
        found = [each for each in found if each.name == "model.safetensors"] or found
        if len(found) > 1:
            names = ", ".join(each.name for each in found)
            raise ValueError(f"'{path}': expected one file of weights in this folder, got {names}: name one of them")
        return found[0] if found else None
    if path.suffix == ".json":
        path = path.with_name("model.safetensors") if path.name == "config.json" else path.with_suffix(".safetensors")
    return path if path.suffix == ".safetensors" and path.is_file() else None


def read_weights(owner: str, path: str | Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors and the metadata of a safetensors file, where `config.locate` finds it.

    Args:
        owner: what needs them, for errors.
        path: the file, or another name of exported weights (see `exported_at`).

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a safetensors file, a damaged one, NaN or infinity in it, or not the file that its card
            describes.
    """
    found = exported_at(path) or next((place for place in places(path) if place.is_file()), None)
    if found is None:
        raise FileNotFoundError(f"{owner}: no weights at '{path}' (from {Path.cwd()})")
    check_card(found)
    try:
        state, metadata = open_tensors(found)
    except SafetensorError as error:
        raise ValueError(f"{owner}: '{path}' is not a safetensors file ({error})") from error
    if not intact(state, metadata):
        raise ValueError(f"{owner}: '{path}' is damaged: its tensors do not have their digest")
    check_state(owner, state, str(path))
    return state, metadata


def check_card(path: str | Path) -> None:
    """Compares a file of weights with the sha256 in its card (see `card_of`), if there is one.

    Raises:
        ValueError: they differ.
    """
    card = card_of(Path(path))
    try:
        content = json.loads(card.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return
    expected = content.get("sha256") if isinstance(content, dict) else None
    if isinstance(expected, str) and sha256(Path(path)) != expected:
        raise ValueError(f"'{path}' is not the file that its card '{card.name}' describes: their sha256 differ")


def check_state(owner: str, state: dict[str, Tensor], where: str) -> None:
    """Refuses weights that are NaN or infinite."""
    for name, value in state.items():
        if value.is_floating_point():
            check_finite(value if value.ndim else value[None], f"{owner}: the weights '{name}' in '{where}'")


def fingerprint(module: nn.Module) -> str:
    """Sixteen hexadecimal digits that identify a module's weights and buffers."""
    digest = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        digest.update(f"{name}{tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


def reading(described: dict[str, Any]) -> str:
    """Sixteen hexadecimal digits for how a subject was built, without the file of its weights.

    Two layers of one network have the same weights, and so the same `fingerprint`; they differ in this. An argument
    that is None counts as absent, so that a class may get another one.

    Args:
        described: the subject's description (see `fibermodels.config`).
    """
    given = described["init_args"].items()
    arguments = {name: _unweighted(value) for name, value in given if name != "weights" and value is not None}
    return hashlib.sha256(json.dumps([described["class_path"], arguments], sort_keys=True).encode()).hexdigest()[:16]


def _unweighted(described: Any) -> Any:
    """A description, with the `weights` of all objects inside set to None, as `config.build` may do."""
    if isinstance(described, list):
        return [_unweighted(item) for item in described]
    if not isinstance(described, dict):
        return described
    if set(described) != {"class_path", "init_args"}:
        return {name: _unweighted(value) for name, value in described.items()}
    own = {name: None if name == "weights" else _unweighted(value) for name, value in described["init_args"].items()}
    return described | {"init_args": own}


def device_name(device: str | torch.device) -> str:
    """The name of a device: the GPU's, or the number of threads of the CPU."""
    if torch.device(device).type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"cpu ({torch.get_num_threads()} threads)"
