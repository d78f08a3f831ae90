"""Exports what a run trained: its weights, those of its frozen parts, and the card that describes all of them."""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from fibermodels.component import fingerprint
from fibermodels.config import Recorded, current, describe
from fibermodels.files import check_folder, save_tensors, sha256, write_text
from fibermodels.trainable import Supervised, Trainable, TrainableFiberModel
from fibermodels.training.checkpoint import Run, load
from fibermodels.training.exported import frozen_of
from fibermodels.training.objective import labels_of
from fibermodels.training.record import fingerprints, given_parts


def export(
    path: str | Path,
    out: str | Path,
    overwrite: bool = False,
    half: bool = False,
    frozen: bool = True,
    result: str | Path | None = None,
) -> dict[str, Any]:
    """Exports the trained object: `OUT.safetensors` has its weights, `OUT.frozen.safetensors` those of the frozen
    parts, and `OUT.json` is the card: the description, the sha256 of the weights' files, the scores on the test split,
    and the cost of the training.

    Args:
        path: the checkpoint.
        out: the files' path, without an ending.
        overwrite: replace earlier files.
        half: store the weights in 16 bits. Computations still use 32 bits; the scores are those of the rounded weights.
        frozen: store the frozen parts, too; if not, whoever loads the weights needs the files that the training used.
        result: the folder of a result of this run; its metrics go into the card.

    Raises:
        FileExistsError: the files are there and `overwrite` is not set.
        ValueError: the path names a folder, or the result is not one of this run.
    """
    weights = _published(out)
    check_free(overwrite, weights, weights.with_suffix(".json"), frozen_of(weights))
    return publish(load(path), weights, weights.with_suffix(".json"), half, frozen, result)


def _published(out: str | Path) -> Path:
    """The file of exported weights: `model-v1.5` is a name without an ending."""
    path = Path(str(out).removesuffix(".safetensors"))
    if not path.name or path.is_dir() or str(out).endswith("/"):
        raise ValueError(f"out: expected the files' path without an ending, got the folder '{out}'")
    return path.with_name(f"{path.name}.safetensors")


def check_free(overwrite: bool, *files: Path) -> None:
    """Checks that files can be written.

    Raises:
        FileExistsError: one is there and `overwrite` is not set.
        OSError: the folder cannot be made or written to.
    """
    for file in files:
        if file.exists() and not overwrite:
            raise FileExistsError(f"'{file}' exists; say --overwrite true to replace it")
    check_folder(files[0].parent)


def publish(
    run: Run, weights: Path, card: Path, half: bool = False, frozen: bool = True, result: str | Path | None = None
) -> dict[str, Any]:
    """Writes the weights of a run and their card, which is returned (see `export`); earlier files are replaced.

    `half` rounds the weights of `run`, too, so that the scores are those of the file.

    Raises:
        ValueError: the result is not one of this run, or the run needs its data and does not say which they are.
    """
    metrics = {} if result is None else {"result": read_result(result, run)}
    if half:
        _round(run.model)
    product = run.model.product(_batches(run, run.model.product_split))
    scores = {} if run.data is None else _test_scores(run)
    state, metadata = product.density() if isinstance(product, TrainableFiberModel) else (product.state_dict(), {})
    short = {name for name, _ in product.named_parameters()} if half else set()
    tensors = {name: value.to(torch.float16 if name in short else torch.float32) for name, value in state.items()}
    given = _frozen(run, product) if frozen else {}
    if given:
        save_tensors(given, frozen_of(weights))
    save_tensors(tensors, weights, metadata)
    content: dict[str, Any] = {
        "sha256": sha256(weights),
        **({"frozen_sha256": sha256(frozen_of(weights))} if given else {}),
        **({} if run.data is None else {"dataset": run.data.name}),
        "test_scores": {name: round(value, 6) for name, value in scores.items()},
        "training_seconds": round(run.training.seconds, 1),
        "training_steps": run.steps,
        "training_device": run.device,
        **metrics,
        "frozen": fingerprints(product, run.subject) if isinstance(product, Trainable) else {},
        "component": describe(product),
        "training": current(run.description),
        "data": describe(run.data) if isinstance(type(run.data), Recorded) else None,
    }
    write_text(card, json.dumps(content, indent=2) + "\n")
    if not given:
        frozen_of(weights).unlink(missing_ok=True)  # of an earlier export
    return content


def _frozen(run: Run, product: Any) -> dict[str, torch.Tensor]:
    """The weights of the frozen parts that a checkpoint of the run has, by their names there.

    A subject that is not described cannot be built from its weights, so they are left out.
    """
    if not isinstance(product, Trainable):
        return {}
    parts = tuple(f"{name}." for name in given_parts(product))
    own = {f"learner.{name}": value for name, value in product.state_dict().items() if name.startswith(parts)}
    if run.subject is not None and run.description["init_args"].get("subject") is not None:
        own |= {name: value for name, value in run.training.state_dict().items() if name.startswith("subject.")}
    return {name: value.detach().cpu().clone() for name, value in own.items()}  # two names may share their memory


def read_result(folder: str | Path, run: Run) -> dict[str, Any]:
    """The metrics of a result, which must be one of this run.

    Raises:
        FileNotFoundError: the folder has no `metrics.json`.
        ValueError: it cannot be read, or is that of another model.
    """
    file = Path(folder) / "metrics.json"
    if not file.is_file():
        raise FileNotFoundError(f"no result in '{folder}': expected a metrics.json there")
    try:
        metrics: Any = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"'{file}' is not a result: {error}") from error
    if not isinstance(metrics, dict) or not all(_sound(value) for value in metrics.values()):
        raise ValueError(f"'{file}' is not a result: expected text and finite numbers by name")
    own = {"family": type(run.model).__name__, "training_steps": run.steps}
    own |= {} if run.data is None else {"dataset": run.data.name}
    own |= {} if run.subject is None else {"subject": fingerprint(run.subject)}
    for name, value in own.items():
        if name not in metrics or metrics[name] != value:
            raise ValueError(
                f"'{file}' is a result of another model: expected {name} {value!r}, got {metrics.get(name)!r}"
            )
    return metrics


def _sound(value: object) -> bool:
    return isinstance(value, str) or (isinstance(value, (int, float)) and math.isfinite(value))


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
    if run.data is None:
        raise ValueError("this run does not say on which data it was trained")
    size = run.data.batch_size if isinstance(run.model, Supervised) else 1000  # of large images for large networks
    for batch in run.data.split(split).batches(size):
        if run.subject is not None:
            with torch.no_grad():
                batch["h"] = run.subject(batch["x"])
        yield batch
