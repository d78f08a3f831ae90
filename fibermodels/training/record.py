"""What a checkpoint says about its run, beside the weights, and whether another run may use it."""

from typing import Any

from torch import nn

from fibermodels.component import fingerprint, reading
from fibermodels.config import current, describe
from fibermodels.core import Subject
from fibermodels.former import modern
from fibermodels.trainable import Trainable, TrainableFiberModel

FORMAT = 1
"""Version of what a checkpoint holds under the key `fibermodels`."""

LAYER = "subject's layer"
"""What an error calls the arguments that the subject was built with."""


def own_part(checkpoint: Any, what: str) -> dict[str, Any]:
    """What this project adds to a checkpoint."""
    own = checkpoint.get("fibermodels") if isinstance(checkpoint, dict) else None
    if not isinstance(own, dict) or "state_dict" not in checkpoint:
        raise ValueError(f"{what} is not a checkpoint of fibermodels")
    if own.get("format") != FORMAT:
        raise ValueError(f"{what} has checkpoint format {own.get('format')}; this version reads {FORMAT}")
    return own


def modernise(checkpoint: dict[str, Any], what: str) -> dict[str, Any]:
    """Puts a checkpoint of an earlier version into today's terms, in place: descriptions, and names of weights.

    Returns:
        What this project adds to a checkpoint.
    """
    own = own_part(checkpoint, what)
    for state in ("current_model_state", "state_dict"):
        described = modern(own["training"], checkpoint.get(state))
    own["training"], own["data"] = described, modern(own["data"])
    return own


def given_parts(learner: Trainable) -> dict[str, nn.Module]:
    """What a learner is given and does not train, by the attribute's name."""
    return learner.frozen_parts() if isinstance(learner, TrainableFiberModel) else {}


def fingerprints(learner: Trainable, subject: Subject | None) -> dict[str, str]:
    """Fingerprints of the weights that a run depends on and does not train."""
    titles = {"latents": "latent space"}
    parts = {titles.get(name, name): part for name, part in given_parts(learner).items()}
    if subject is not None:
        parts["subject"] = subject
    return {name: fingerprint(part) for name, part in parts.items()}


def check_same(mine: dict[str, str], subject: Subject | None, checkpoint: dict[str, Any], but: str = "") -> None:
    """Compares what two runs depend on and do not train.

    Two layers of one network have the same weights, so the subject's arguments are compared, too. They are read from
    the checkpoint's description in today's names: a class that has moved since then is the same class.

    Args:
        mine: the fingerprints of this run.
        subject: of this run.
        checkpoint: of the other run.
        but: the name of a part that may differ.

    Raises:
        ValueError: the checkpoint was trained with another subject, latent space or prior.
    """
    own = own_part(checkpoint, "the checkpoint")
    described = own["training"]["init_args"].get("subject")
    theirs = own["frozen"] | ({LAYER: reading(current(described))} if described else {})
    if subject is not None:
        mine = mine | {LAYER: reading(describe(subject))}
    for name, value in mine.items():
        if theirs.get(name) != value and not (but and name.startswith(but)):
            raise ValueError(
                f"the checkpoint was trained with another {name} (fingerprint {theirs.get(name)}) than this "
                f"configuration names ({value}): use the configuration, and the files, it was started with"
            )
