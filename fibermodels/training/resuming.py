"""What a run that resumes may differ in from the run that wrote its checkpoint."""

from collections.abc import Iterator
from typing import Any

from torch import nn

PLACES = {"root", "weights", "path", "workers", "cache", "preview"}
"""Arguments that say where things lie, how fast they are read or what is shown; they do not change a training. Frozen
weights have fingerprints of their own."""

SHOWN = 6
"""So many differences are listed."""


def differences(stored: Any, now: Any, name: str) -> Iterator[str]:
    """Where two descriptions differ, as `NAME: OLD -> NEW`.

    Arguments that only one of them has are left out, because a later version may have new ones.

    Args:
        stored, now: in plain types (see `fibermodels.config.describe`).
        name: of what they describe.
    """
    if isinstance(stored, dict) and isinstance(now, dict):
        if stored.get("class_path") != now.get("class_path"):
            yield f"{name}: {_word(stored)} -> {_word(now)}"
            return
        for key in stored.keys() & now.keys() - PLACES:
            inner = name if key == "init_args" else f"{name}.{key}"
            yield from differences(stored[key], now[key], inner)
    elif isinstance(stored, list) and isinstance(now, list) and len(stored) == len(now):
        for place, pair in enumerate(zip(stored, now, strict=True)):
            yield from differences(*pair, f"{name}[{place}]")
    elif stored != now and not (isinstance(stored, float | int) and _same(stored, now)):
        yield f"{name}: {_word(stored)} -> {_word(now)}"


def _same(stored: float, now: Any) -> bool:
    return isinstance(now, float | int) and float(stored) == float(now)


def _word(value: Any) -> str:
    if isinstance(value, dict) and "class_path" in value:
        return str(value["class_path"]).rpartition(".")[2]
    return str(value)[:60]


def check_resumed(
    checkpoint: dict[str, Any], training: Any, data: Any, module: nn.Module, averaged: bool, allowed: bool
) -> None:
    """Compares a run with the checkpoint that it resumes from.

    Args:
        checkpoint: after `record.modernise`.
        training, data: descriptions of the run and of its data; None if the data cannot be described.
        module: the run's module, into which the weights must fit.
        averaged: whether the run averages weights.
        allowed: whether differences are allowed in what has no weights.

    Raises:
        ValueError: there are differences; the message lists them, and says whether and how they can be allowed.
    """
    own = checkpoint["fibermodels"]
    found = sorted(differences(own["training"], training, "model"))
    if own["data"] is not None and data is not None:
        found += sorted(differences(own["data"], data, "data"))
    if (had := "current_model_state" in checkpoint) != averaged:
        found.append(f"averaged weights: {had} -> {averaged}")
    stored, state = checkpoint["state_dict"], module.state_dict()
    unfit = sorted(name for name in stored.keys() & state.keys() if stored[name].shape != state[name].shape)
    unfit = unfit or sorted(stored.keys() ^ state.keys())
    unfit = [name for name in unfit if "standardise" not in name]  # its statistics are measured at the start
    if not found and not unfit:
        return
    listed = "; ".join(found[:SHOWN]) + (f"; and {len(found) - SHOWN} more" if len(found) > SHOWN else "")
    said = f"--ckpt_path: this run differs from the one that wrote the checkpoint: {listed or 'other weights'}"
    if unfit:
        raise ValueError(f"{said}. Its weights do not fit ({unfit[0]}): start a new run with another --name")
    if not allowed:
        raise ValueError(f"{said}. Give the former settings, or allow the change by --resume_changed true")
