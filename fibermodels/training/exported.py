"""Exported weights, read as if they were the checkpoint that they were made from.

`NAME.safetensors` holds what was trained. The card `NAME.json` describes it, its subject and its data.
`NAME.frozen.safetensors` holds the weights of the frozen parts, such as the subject and the latent space. Without this
file, the frozen parts are those of the files that the description names, or those that the caller gives; fingerprints
tell whether they are the same.
"""

import json
from pathlib import Path
from typing import Any

from torch import Tensor

from fibermodels.component import FROZEN, card_of, fingerprint, read_weights
from fibermodels.config import current, describe, public_path
from fibermodels.core import Subject
from fibermodels.files import sha256
from fibermodels.former import modern
from fibermodels.training.module import Training
from fibermodels.training.record import FORMAT, TITLES, fingerprints, given_parts, modernise
from fibermodels.training.resuming import differences

NEEDED = ("component", "training")
"""Entries that a card must have."""


def read_exported(weights: Path) -> dict[str, Any]:
    """Exported weights with their card, in the form and the names of a checkpoint of today.

    Raises:
        FileNotFoundError: there is no card.
        ValueError: a file is damaged, or is not the one of the card; the card does not describe a trained model.
    """
    card = _card(weights)
    trained, metadata = read_weights("exported weights", weights)
    component, training = card["component"], card["training"]
    learner = training["init_args"].get("learner")
    if modern(component)["class_path"] != modern(learner)["class_path"]:
        name = current(component)["class_path"]
        raise ValueError(f"'{weights}' holds no fiber model, but a part: give it as `weights` of {name} in YAML")
    frozen = _frozen(weights, card)
    trained_as = {key: _with_files(item, learner["init_args"].get(key)) for key, item in component["init_args"].items()}
    described = training["init_args"] | {"learner": component | {"init_args": trained_as}}
    if isinstance(fiber := described.get("fiber"), dict):  # the networks of the loss are not exported
        described["fiber"] = fiber | {"init_args": fiber["init_args"] | {"later": None}}
    parts = {TITLES.get(name, name): value for name, value in metadata.items() if name in trained_as}
    checkpoint = {
        "fibermodels": {
            "format": FORMAT,
            "training": training | {"init_args": described},
            "data": card.get("data"),
            "frozen": card.get("frozen", parts),
            "seconds": card.get("training_seconds", 0.0),
            "device": card.get("training_device", "unknown"),
            "whole": frozen is not None,
        },
        "state_dict": {**{f"learner.{name}": value for name, value in trained.items()}, **(frozen or {})},
        "global_step": card.get("training_steps", 0),
    }
    modernise(checkpoint, f"'{weights}'")
    return checkpoint


def _card(weights: Path) -> dict[str, Any]:
    path = card_of(weights)
    if not path.is_file():
        raise FileNotFoundError(f"'{weights}' has no card: expected '{path}', which export.py writes beside it")
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
        missing = [name for name in NEEDED if not {"class_path", "init_args"} <= card[name].keys()]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"'{path}' is not a card of export.py: it has no usable {' and '.join(NEEDED)}") from error
    if missing:
        raise ValueError(f"'{path}' is not a card of export.py: it has no usable {' and '.join(missing)}")
    return dict(card)


def _frozen(weights: Path, card: dict[str, Any]) -> dict[str, Tensor] | None:
    """The weights of the frozen parts by their names in a checkpoint; None if they are not beside the weights."""
    path, expected = frozen_of(weights), card.get("frozen_sha256")
    if expected is None or not path.is_file():
        return None
    if sha256(path) != expected:
        raise ValueError(f"'{path}' is not the file that the card '{card_of(weights).name}' describes")
    return read_weights("exported weights", path)[0]


def frozen_of(weights: Path) -> Path:
    """The file of the frozen parts beside exported weights."""
    return weights.with_name(weights.name.removesuffix(".safetensors") + FROZEN)


def _with_files(part: Any, started: Any) -> Any:
    """The description of a part, with the files of the weights that it had when the training started."""
    if isinstance(part, list) and isinstance(started, list) and len(part) == len(started):
        return [_with_files(*pair) for pair in zip(part, started, strict=True)]
    if not (isinstance(part, dict) and isinstance(started, dict)):
        return part
    return {
        key: started.get(key) if key == "weights" and item is None else _with_files(item, started.get(key))
        for key, item in part.items()
    }


def check_subject(subject: Any, own: dict[str, Any], where: str) -> None:
    """Checks the subject that a caller gives for a run.

    Args:
        subject: None if the caller gives none.
        own: the description of the run in its checkpoint.
        where: the checkpoint, for errors.

    Raises:
        ValueError: the subject is missing, or is not that of the training.
    """
    arguments, expected = own["training"]["init_args"], own["frozen"].get("subject")
    described = arguments.get("subject")
    if subject is None:
        if described is None and expected is not None:
            raise ValueError(f"{where} does not describe its subject: {_remedy('subject')}")
        return
    if not isinstance(subject, Subject):
        raise ValueError(f"subject: expected a Subject, got a {type(subject).__name__}")
    if described is None and expected is None:
        raise ValueError(f"subject: expected none, because {where} was trained without one")
    shape = arguments["learner"]["init_args"].get("feature_shape")
    if shape and list(shape) != list(subject.feature_shape):
        raise ValueError(
            f"subject: expected representations of shape {list(shape)}, on which {where} was trained, "
            f"got {list(subject.feature_shape)}"
        )
    if expected is not None and (mine := fingerprint(subject)) != expected:
        raise ValueError(f"subject: expected that of {where}, with fingerprint {expected}, got one with {mine}")
    if described is not None:
        _check_layer(subject, current(described), where)


def _check_layer(subject: Subject, described: dict[str, Any], where: str) -> None:
    """Refuses another layer of the same network, which has the same weights."""
    same = described["class_path"] == public_path(type(subject))
    if same and (changed := "; ".join(differences(described, describe(subject), "subject"))):
        raise ValueError(f"subject: expected that of {where}, got another one: {changed}")


def complete(training: Training, checkpoint: dict[str, Any], where: str, given: bool) -> None:
    """Adds the weights of frozen parts that the files of a run do not hold.

    Args:
        training: the run, whose frozen parts have their weights already.
        checkpoint: of the run; its state is completed in place.
        where: the checkpoint, for errors.
        given: whether the caller gave the subject.

    Raises:
        ValueError: a part does not have the weights of the training.
    """
    own, state, mine = checkpoint["fibermodels"], checkpoint["state_dict"], training.state_dict()
    parts: tuple[str, ...] = ()
    if given:
        for name in [name for name in state if name.startswith("subject.")]:
            del state[name]  # they are the given ones, by their fingerprint
        parts = ("subject.",)
    if not own.get("whole", True):
        _check_parts(training, own["frozen"], where, given)
        parts = ("subject.", *(f"learner.{name}." for name in given_parts(training.learner)))
    state |= {name: value for name, value in mine.items() if name.startswith(parts) and name not in state}


def _check_parts(training: Training, theirs: dict[str, str], where: str, given: bool) -> None:
    found, subject = fingerprints(training.learner, training.subject), training.subject
    if subject is not None and "subject" not in theirs and (given or _computed(subject)):
        theirs["subject"] = found["subject"]  # cards of earlier versions do not have it
    if missing := [name for name, value in found.items() if theirs.get(name) != value]:
        remedies = "; ".join(_remedy(name) for name in missing)
        raise ValueError(
            f"{where} does not hold the weights of its {' and of its '.join(missing)}: {remedies}; or export it again"
        )


def _computed(subject: Subject) -> bool:
    """Whether the arguments of a subject determine all its numbers."""
    return "weights" not in subject.arguments and not list(subject.parameters())


def _remedy(title: str) -> str:
    """What a user can do about a missing part."""
    if title == "subject":
        return "give its subject by subject=phi in fibermodels.load, or by --subject FILE.yaml in evaluate.py"
    name = next((name for name, other in TITLES.items() if other == title), title)
    return (
        f'name the file of its {title} by changed={{"{name}.weights": FILE}} in fibermodels.load, '
        f"or by --model.{name}.weights FILE in evaluate.py"
    )
