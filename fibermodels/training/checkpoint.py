"""Rebuilds a run from its checkpoint or from exported weights, and starts another run from it."""

from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from fibermodels.component import NOT_TENSORS, check_state, exported_at, read_weights
from fibermodels.config import build, change, given_again, lacks
from fibermodels.core import Subject
from fibermodels.trainable import Trainable, TrainableFiberModel
from fibermodels.training.exported import check_subject, complete, read_exported
from fibermodels.training.hub import download, hub_id
from fibermodels.training.module import Training
from fibermodels.training.record import given_parts, modernise
from fibermodels.training.saving import check_archive
from fibermodels.training.statistics import unsettled


class Run(NamedTuple):
    """A trained run, rebuilt from its checkpoint or from exported weights."""

    training: Training
    data: Any
    """The data module of the training, not yet loaded; None if it was not a class of this project."""
    steps: int
    """Optimiser steps of the training, with those of the run that it started from."""
    device: str
    """The name of the device of the training."""
    description: dict[str, Any]
    """Of the training as it was started, with the files of the weights that it used."""

    @property
    def model(self) -> Trainable:
        """The trained object, in evaluation mode."""
        return self.training.learner

    @property
    def subject(self) -> Subject | None:
        """The subject of the training; None if there was none."""
        return self.training.subject


def read(path: str | Path) -> dict[str, Any]:
    """The content of a checkpoint, or of exported weights in the form of one.

    Args:
        path: as for `load`.

    Raises:
        FileNotFoundError: no such file, or no such model on the hub.
        ValueError: as `read_checkpoint` and `exported.read_exported`.
    """
    if repository := hub_id(path):
        path = download(repository)
    weights = exported_at(path) if str(path) else None
    return read_checkpoint(path) if weights is None else read_exported(weights)


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """The content of a checkpoint in today's names: plain types and tensors only (`weights_only=True`).

    Raises:
        FileNotFoundError: no such file.
        ValueError: truncated, not a checkpoint of this project, or weights that are NaN or infinite.
    """
    path = Path(path)
    if not path.is_file():
        others = sorted(str(each) for each in (path / "checkpoints" if path.is_dir() else path.parent).glob("*.ckpt"))
        beside = f"; there is {', '.join(others)}" if others else ""
        raise FileNotFoundError(f"no checkpoint at '{path}' (from {Path.cwd()}){beside}")
    check_archive(path)
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch reports damage and foreign content by many types
        cause = NOT_TENSORS if "weights_only" in str(error) else str(error).splitlines()[0]
        raise ValueError(f"'{path}' is damaged or not a checkpoint: {cause}") from error
    modernise(checkpoint, f"'{path}'")
    check_state("the checkpoint", checkpoint["state_dict"], str(path))
    return checkpoint


def load(path: str | Path, changed: dict[str, Any] | None = None, subject: nn.Module | None = None) -> Run:
    """Rebuilds a run from a checkpoint or from exported weights: classes, arguments and weights, including the frozen
    parts.

    Parts that are read from files of their own (`component.FromFiles`) must find the same files. Only classes of the
    allowed import paths are built (see `fibermodels.config`).

    Args:
        path: a checkpoint; exported weights: `NAME.safetensors`, its card `NAME.json`, or their folder; or the id
            `user/name` of a model on the hub, if no local path has this name.
        changed: new values of the trained object's arguments by name, such as a guidance scale. The weights must still
            fit.
        subject: the subject of the training, for files that do not describe it; or the network of a subject that was in
            memory (`subjects.Live`), whose weights the files hold.

    Raises:
        FileNotFoundError: no such file, or no such model on the hub.
        ValueError: truncated, or not a checkpoint of this project; an unknown argument; other files; the subject is
            missing, or another one than that of the training.
    """
    checkpoint = read(path)
    own = checkpoint["fibermodels"]
    for name, value in (changed or {}).items():
        try:
            change(own["training"]["init_args"]["learner"], name, value)
        except ValueError as error:
            raise ValueError(f"'{path}': {error}") from error
    described = own["training"]
    if subject is not None and not isinstance(subject, Subject) and lacks(described):  # it is the network of one
        described, subject = given_again(described, subject), None
    check_subject(subject, own, f"'{path}'")
    given = {} if subject is None else {"subject": subject}
    described = described | {"init_args": described["init_args"] | given}
    training: Training = build(described, weights=not own.get("whole", True))
    complete(training, checkpoint, f"'{path}'", subject is not None)
    try:
        training.load_state_dict(checkpoint["state_dict"])
    except RuntimeError as error:
        raise ValueError(f"the weights in '{path}' do not fit the classes it names: {error}") from error
    training.check_frozen(checkpoint, but="subject" if given else "")
    training.seconds, steps = own.get("seconds", 0.0), own.get("earlier_steps", 0) + checkpoint["global_step"]
    training.eval().requires_grad_(False)
    return Run(training, build(own["data"]), steps, own.get("device", "unknown"), own["training"])


def start_from(training: Training, path: str | Path) -> None:
    """Gives a learner the weights of another run, with the statistics of its condition.

    Args:
        training: the module with the learner.
        path: as in `load`.

    Raises:
        ValueError: the checkpoint holds another architecture, or belongs to another subject or latent space.
    """
    checkpoint = read(path)
    training.check_frozen(checkpoint)
    frozen = tuple(f"{part}." for part in given_parts(training.learner))  # which exported weights may leave out
    weights = {name: value for name, value in training.learner.state_dict().items() if name.startswith(frozen)}
    weights |= {
        name.removeprefix("learner."): value
        for name, value in checkpoint["state_dict"].items()
        if name.startswith("learner.")
    }
    try:
        training.learner.load_state_dict(weights)
        own = checkpoint["fibermodels"]
        training.seconds = own.get("seconds", 0.0)  # the time to train these weights
        training.earlier_steps = own.get("earlier_steps", 0) + checkpoint["global_step"]
    except RuntimeError as error:
        raise ValueError(f"start_from: the weights in '{path}' do not fit this learner: {error}") from error


def adapt_from(training: Training, path: str | Path) -> list[str]:
    """Gives a learner the weights that fit by name and shape, from a run with another subject or layer.

    The weights come from a checkpoint or from exported weights (see `load`). Statistics of representations belong to
    the other subject; they are not copied, and training measures them anew.

    Returns:
        The names of the parameters and buffers that start anew, such as those of the condition encoder.

    Raises:
        ValueError: nothing fits, a parameter that starts anew is not trained, or the checkpoint belongs to another
            latent space or prior.
    """
    learner, theirs = training.learner, _weights_of_another(training, path)
    subjects = [name for name, module in learner.named_modules() if isinstance(module, Subject)]  # of its loss
    frozen = tuple(f"{part}." for part in (*given_parts(learner), *subjects))
    own = {f"learner.{name}": value for name, value in learner.state_dict().items() if not name.startswith(frozen)}
    fresh = unsettled(learner)
    fitting = {name: theirs[name] for name in own if name in theirs and theirs[name].shape == own[name].shape}
    if not fitting:
        raise ValueError(f"adapt_from: nothing of '{path}' fits a {type(learner).__name__} of these sizes")
    training.load_state_dict(fitting, strict=False)
    for module in fresh:
        module.settled = False
    anew = [name.removeprefix("learner.") for name in own if name not in fitting]
    trained = {name: p.requires_grad for name, p in learner.named_parameters()}
    if left := [name for name in anew if not trained.get(name, True)]:
        raise ValueError(f"adapt_from: these parameters start anew, and train_only leaves them untrained: {left}")
    return anew


def _weights_of_another(training: Training, path: str | Path) -> dict[str, torch.Tensor]:
    """The weights in a checkpoint or in exported weights, by their names in a checkpoint."""
    if (found := exported_at(path)) is not None or Path(path).suffix == ".safetensors":
        weights, parts = read_weights("adapt_from", found or path)
        if isinstance(training.learner, TrainableFiberModel):
            training.learner.check_parts(parts, str(path))
        return {f"learner.{name}": value for name, value in weights.items()}
    checkpoint = read(path)
    training.check_frozen(checkpoint, but="subject")
    weights = checkpoint["state_dict"]
    return weights
