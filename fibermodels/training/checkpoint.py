"""Rebuilds a run from its checkpoint, starts another run from it, and exports the trained object."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch

from fibermodels.component import NOT_TENSORS, check_state, read_weights
from fibermodels.config import build, change, describe
from fibermodels.core import Subject
from fibermodels.files import check_folder, save_tensors, write_text
from fibermodels.trainable import Supervised, Trainable, TrainableFiberModel
from fibermodels.training.module import Training
from fibermodels.training.objective import labels_of
from fibermodels.training.record import given_parts, modernise
from fibermodels.training.saving import check_archive
from fibermodels.training.statistics import unsettled


class Run(NamedTuple):
    """A trained run, rebuilt from its checkpoint."""

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
    """The content of a checkpoint in today's names: plain types and tensors only (`weights_only=True`).

    Raises:
        FileNotFoundError: no such file.
        ValueError: truncated, not a checkpoint of this project, or weights that are NaN or infinite.
    """
    path = Path(path)
    if not path.is_file():
        others = sorted(str(each) for each in path.parent.glob("*.ckpt"))
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


def load(path: str | Path, changed: dict[str, Any] | None = None) -> Run:
    """Rebuilds a run from a checkpoint: classes, arguments and weights, including the frozen parts.

    Parts that are read from files of their own (`component.FromFiles`) must find the same files. Only classes of the
    allowed import paths are built (see `fibermodels.config`).

    Args:
        path: the checkpoint.
        changed: new values of the trained object's arguments by name, such as a guidance scale. The weights must still
            fit.

    Raises:
        FileNotFoundError: no such file.
        ValueError: truncated, or not a checkpoint of this project; an unknown argument; other files.
    """
    checkpoint = read(path)
    own = checkpoint["fibermodels"]
    for name, value in (changed or {}).items():
        try:
            change(own["training"]["init_args"]["learner"], name, value)
        except ValueError as error:
            raise ValueError(f"'{path}': {error}") from error
    training: Training = build(own["training"], weights=False)
    try:
        training.load_state_dict(checkpoint["state_dict"])
    except RuntimeError as error:
        raise ValueError(f"the weights in '{path}' do not fit the classes it names: {error}") from error
    training.check_frozen(checkpoint)
    training.seconds, steps = own.get("seconds", 0.0), own.get("earlier_steps", 0) + checkpoint["global_step"]
    training.eval().requires_grad_(False)
    return Run(training, build(own["data"]), steps, own.get("device", "unknown"), own["training"])


def start_from(training: Training, path: str | Path) -> None:
    """Gives a learner the weights of another run, with the statistics of its condition.

    Raises:
        ValueError: the checkpoint holds another architecture, or belongs to another subject or latent space.
    """
    checkpoint = read(path)
    training.check_frozen(checkpoint)
    weights = {
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

    The weights come from a checkpoint or an exported safetensors file. Statistics of representations belong to the
    other subject; they are not copied, and training measures them anew.

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
    """The weights in a checkpoint or an exported safetensors file, by their names in a checkpoint."""
    if Path(path).suffix == ".safetensors":
        weights, parts = read_weights("adapt_from", path)
        if isinstance(training.learner, TrainableFiberModel):
            training.learner.check_parts(parts, str(path))
        return {f"learner.{name}": value for name, value in weights.items()}
    checkpoint = read(path)
    training.check_frozen(checkpoint, but="subject")
    weights = checkpoint["state_dict"]
    return weights


def export(path: str | Path, out: str | Path, overwrite: bool = False, half: bool = False) -> dict[str, object]:
    """Exports the trained object: `OUT.safetensors` has its weights; `OUT.json` has its description, the sha256 of the
    weights' file, the scores on the test split, and the cost of the training.

    Args:
        path: the checkpoint.
        out: the files' path, without an ending.
        overwrite: replace earlier files.
        half: store the weights in 16 bits. Computations still use 32 bits; the scores are those of the rounded weights.

    Raises:
        FileExistsError: the files are there and `overwrite` is not set.
        ValueError: the path names a folder.
    """
    weights, card = _published(out)
    for file in (weights, card):
        if file.exists() and not overwrite:
            raise FileExistsError(f"'{file}' exists; say --overwrite true to replace it")
    check_folder(weights.parent)
    run = load(path)
    if run.data is None:
        raise ValueError(f"'{path}' does not say on which data it was trained")
    if half:
        _round(run.model)
    product = run.model.product(_batches(run, run.model.product_split))
    scores = _test_scores(run)
    state, metadata = product.density() if isinstance(product, TrainableFiberModel) else (product.state_dict(), {})
    short = {name for name, _ in product.named_parameters()} if half else set()
    tensors = {name: value.to(torch.float16 if name in short else torch.float32) for name, value in state.items()}
    save_tensors(tensors, weights, metadata)
    content: dict[str, object] = {
        "sha256": hashlib.sha256(weights.read_bytes()).hexdigest(),
        "dataset": run.data.name,
        "test_scores": {name: round(value, 6) for name, value in scores.items()},
        "training_seconds": round(run.training.seconds, 1),
        "training_steps": run.steps,
        "training_device": run.device,
        "component": describe(product),
        "training": describe(run.training),
        "data": describe(run.data),
    }
    write_text(card, json.dumps(content, indent=2) + "\n")
    return content


def _published(out: str | Path) -> tuple[Path, Path]:
    """The files of exported weights and of their card: `model-v1.5` is a name without an ending."""
    path = Path(str(out).removesuffix(".safetensors"))
    if not path.name or path.is_dir() or str(out).endswith("/"):
        raise ValueError(f"out: expected the files' path without an ending, got the folder '{out}'")
    return path.with_name(f"{path.name}.safetensors"), path.with_name(f"{path.name}.json")


@torch.no_grad()
def _test_scores(run: Run) -> dict[str, float]:
    """Scores of the test split: means over images, and a supervised learner's scores of the whole split."""
    model = run.model
    supervised = isinstance(model, Supervised)
    scores: dict[str, list[torch.Tensor]] = {}
    found: list[tuple[torch.Tensor, torch.Tensor]] = []
    for batch in _batches(run, "test"):
        given = labels_of(batch, model) if supervised else batch.get("h")
        for name, value in model.scores(batch["x"], given).items():
            scores.setdefault(name, []).append(value)
        if isinstance(model, Supervised):
            found.append((model.predict(batch["x"]), labels_of(batch, model)))
    means = {name: float(torch.cat(parts).mean()) for name, parts in scores.items()}
    if isinstance(model, Supervised) and found:
        predictions, y = (torch.cat(parts) for parts in zip(*found, strict=True))
        means |= model.split_scores(predictions, y)
    return means


def _round(model: Trainable) -> None:
    """Rounds the trained weights to 16 bits, but no buffers, because statistics may be too large for 16 bits."""
    own = model.density()[0] if isinstance(model, TrainableFiberModel) else model.state_dict()
    for name, value in model.named_parameters():
        if name in own:
            value.data.copy_(value.half())


def _batches(run: Run, split: str) -> Iterator[dict[str, torch.Tensor]]:
    """A split's images, with their representations if there is a subject."""
    size = run.data.batch_size if isinstance(run.model, Supervised) else 1000  # of large images for large networks
    for batch in run.data.split(split).batches(size):
        if run.subject is not None:
            with torch.no_grad():
                batch["h"] = run.subject(batch["x"])
        yield batch
