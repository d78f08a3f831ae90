"""The description of a run in its checkpoint, and the check whether another run may use the checkpoint."""

from typing import Any

from torch import nn

from fibermodels.component import fingerprint, reading
from fibermodels.config import current, describe
from fibermodels.core import Subject
from fibermodels.former import modern
from fibermodels.trainable import Trainable, TrainableFiberModel

FORMAT = 1
"""Version of a checkpoint's entry `fibermodels`."""

TITLES = {"latents": "latent space"}
"""What frozen parts are called in checkpoints and errors, by the attribute's name, where that differs."""

LAYER = "subject's layer"
"""The name of the subject's arguments in errors."""


def modernise(checkpoint: Any, what: str) -> dict[str, Any]:
    """Converts descriptions and names of weights of an earlier version, in place; returns the entry `fibermodels`.

    Raises:
        ValueError: the checkpoint has no such entry, or another format.
    """
    own = checkpoint.get("fibermodels") if isinstance(checkpoint, dict) else None
    if not isinstance(own, dict) or "state_dict" not in checkpoint:
        raise ValueError(f"{what} is not a checkpoint of fibermodels")
    if own.get("format") != FORMAT:
        raise ValueError(f"{what} has checkpoint format {own.get('format')}; this version reads {FORMAT}")
    for state in ("current_model_state", "state_dict"):
        described = modern(own["training"], checkpoint.get(state))
    own["training"], own["data"] = described, modern(own["data"])
    return own


def given_parts(learner: Trainable) -> dict[str, nn.Module]:
    """The frozen parts of a learner, by the attribute's name."""
    return learner.frozen_parts() if isinstance(learner, TrainableFiberModel) else {}


def fingerprints(learner: Trainable, subject: Subject | None) -> dict[str, str]:
    """Fingerprints of the weights of a run's frozen parts."""
    parts = {TITLES.get(name, name): part for name, part in given_parts(learner).items()}
    if subject is not None:
        parts["subject"] = subject
    return {name: fingerprint(part) for name, part in parts.items()}


def check_same(mine: dict[str, str], subject: Subject | None, checkpoint: dict[str, Any], but: str = "") -> None:
    """Compares the frozen parts of two runs.

    Two layers of one network have the same weights, so the subject's arguments are compared too, with today's names of
    classes.

    Args:
        mine: the fingerprints of this run.
        subject: the subject of this run.
        checkpoint: the checkpoint of the other run, after `modernise`.
        but: the name of a part that may differ.

    Raises:
        ValueError: the checkpoint was trained with another subject, latent space or prior.
    """
    own = checkpoint["fibermodels"]
    described = own["training"]["init_args"].get("subject")
    theirs = own["frozen"] | ({LAYER: reading(current(described))} if described else {})
    if subject is not None:
        mine = mine | {LAYER: reading(describe(subject))}
    for name, value in mine.items():
        if but and name.startswith(but):
            continue
        if name not in theirs:
            raise ValueError(f"these weights do not say with which {name} they were trained: give their checkpoint")
        if theirs[name] != value:
            raise ValueError(
                f"the checkpoint was trained with another {name} (fingerprint {theirs[name]}) than this "
                f"configuration names ({value}): use the configuration, and the files, it was started with"
            )
