"""Draws samples once, and scores them."""

import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from rich.progress import track
from torch import Tensor, nn

from fibermodels import metrics
from fibermodels.component import device_name, fingerprint
from fibermodels.config import describe
from fibermodels.core import (
    Data,
    FiberModel,
    FiberSamples,
    HasCategories,
    HasLaw,
    HasLogProb,
    Metric,
    Remembers,
    Subject,
)
from fibermodels.evaluation.calibration import calibration, subset
from fibermodels.evaluation.drawing import Choice, Drawing, Partial, check_memory
from fibermodels.evaluation.judging import Judges
from fibermodels.evaluation.processes import Work, helped
from fibermodels.evaluation.results import Metrics, commit
from fibermodels.noise import seeded
from fibermodels.trainable import TrainableFiberModel

FIDELITY: tuple[Metric, ...] = (
    metrics.fiber_rms,
    metrics.fiber_rms_std,
    metrics.fiber_l2_squared,
    metrics.fiber_rms_shuffled,
    metrics.cosine,
    metrics.cosine_per_location,
    metrics.mean_reciprocal_rank,
    metrics.pairwise_distance,
    metrics.column_w1,
)
"""Metrics that apply to any model on any data."""

LONG = 100
"""From this number of network calls per sample on, an evaluation draws small batches and stores each of them."""


def evaluate(
    model: FiberModel,
    subject: Subject,
    data: Data,
    choice: Choice,
    device: str = "cpu",
    unfinished: Path | None = None,
    processes: int = 1,
    work: Work | None = None,
    judges: Judges | None = None,
    about: Metrics | None = None,
) -> tuple[FiberSamples, Metrics]:
    """Samples a model on images of a data set, and scores the samples.

    Args:
        model: any FiberModel.
        subject: the network whose fibers are sampled.
        data: where the targets come from.
        choice: the samples to draw.
        device: the device of the computation.
        unfinished: folder for finished batches, from which an interrupted evaluation continues.
        processes: the number of processes that share the batches.
        work: draws another process's batches into `unfinished`.
        judges: networks other than the subject that score the samples.
        about: further entries of the metrics (`name`, `fiber_weight`).

    Raises:
        ValueError: there are more targets than images, more processes than batches, or samples that the subject
            does not take.
    """
    kept = unfinished if model.network_calls >= LONG or processes > 1 else None
    drawing = plan(model, subject, data, choice, device, kept)
    if processes > 1 and work:
        _share(drawing, processes, work)
    samples, seconds, report = drawing.gather()
    seen = judges.vectors(subset(samples), device) if judges else None
    values: Metrics = {
        "name": type(model).__name__,
        "family": type(model).__name__,
        "fiber_weight": 0.0,
        "dataset": data.name,
        "subject": fingerprint(subject),
        "subject_name": subject_name(subject),
        "num_targets": choice.num_targets,
        "samples_per_target": choice.samples_per_target,
        "seed": choice.seed,
        "device": device_name(device),
        **({"processes": processes} if processes > 1 else {}),
        "commit": commit(),
        "num_parameters": parameters(model),
        "network_calls_per_sample": model.network_calls,
        "seconds_per_sample": round(seconds / (choice.num_targets * choice.samples_per_target), 9),
        **(about or {}),
        **score(samples, data, choice.seed, seen),
        **rounded(report),
    }
    if isinstance(model, TrainableFiberModel) and isinstance(model, HasLogProb):
        x, h = samples.x.to(device), samples.h.to(device)
        values["nll_bits_per_dim"] = round(metrics.nll_bits_per_dim(model, model.latents, x, h), 6)
    if judges:
        categories = data.categories() if isinstance(data, HasCategories) else None
        found = judges.scores(samples, data.split(choice.split), device, categories=categories)
        values |= rounded(found)
    if drawing.partial:
        drawing.partial.remove()
    return samples, values


def score(
    samples: FiberSamples, data: Data | None = None, seed: int = 0, seen: Mapping[str, Tensor] | None = None
) -> Metrics:
    """Every metric that applies.

    Args:
        samples: the samples to score.
        data: the data of the targets. If its law is known, the result includes metrics of consistency and their floors,
            the scores of as many exact samples of the same targets.
        seed: the seed of the samples; exact samples have the next seed.
        seen: judges' vectors for the tests of calibration (`Judges.vectors`).
    """
    values = {metric.__name__: metric(samples) for metric in FIDELITY}
    values |= calibration(subset(samples), seen)
    if isinstance(data, HasLaw):
        x_hat = data.members(samples.x, len(samples.x_hat), seeded("samples", seed + 1))
        h_hat = samples.h.expand(len(x_hat), *samples.h.shape)  # exact samples have the representation of their target
        values |= data.law_scores(samples, FiberSamples(samples.x, samples.h, x_hat, h_hat))
    return rounded(values)


def rounded(values: dict[str, float]) -> Metrics:
    """Scores rounded to six digits, without NaN."""
    return {name: round(value, 6) for name, value in values.items() if value == value}


def plan(
    model: FiberModel, subject: Subject, data: Data, choice: Choice, device: str = "cpu", kept: Path | None = None
) -> Drawing:
    """The `Drawing` of samples for the first images of a split, before anything is drawn.

    Args:
        kept: folder for finished batches; None stores none.

    Raises:
        ValueError: the split has fewer images than targets, the images do not fit the subject, or the samples would
            not fit the memory.
    """
    targets = data.split(choice.split)
    if choice.num_targets > len(targets):
        raise ValueError(
            f"num_targets: expected at most the {len(targets)} {targets.space().word} of the {choice.split} split, got "
            f"{choice.num_targets}"
        )
    check_memory(subject, choice.num_targets, choice.samples_per_target)
    remember(model, subject, data, device)
    usual = 100 if model.network_calls >= LONG else 500
    size = usual if choice.batch_size is None else choice.batch_size
    own = (data.name, choice.split, choice.num_targets, choice.samples_per_target, choice.seed, size)
    built = json.dumps(describe(subject))  # two layers of one network have the same weights
    partial = Partial(kept, model, fingerprint(subject), built, *own) if kept else None
    x = targets.inputs(slice(choice.num_targets))
    return Drawing(model, subject, x, choice.samples_per_target, choice.seed, size, device, partial)


def _share(drawing: Drawing, processes: int, work: Work) -> None:
    """Draws all batches in several processes."""
    if processes > len(drawing):
        raise ValueError(
            f"processes: expected at most the number of batches, {len(drawing)} of {drawing.batch_size} targets, got "
            f"{processes}; give fewer, or a smaller --batch_size"
        )
    with helped(work, processes):
        drawing.share(0, processes)
    if left := drawing.undone():
        warnings.warn(
            f"{len(left)} of {len(drawing)} batches are drawn by the first process alone: the others failed, or built "
            "another model because its weights start at random",
            stacklevel=3,
        )


@torch.no_grad()
def remember(model: FiberModel, subject: Subject, data: Data, device: str = "cpu") -> None:
    """Gives the training set to every part of a model that `Remembers`; representations are computed on `device`."""
    own = [module for module in model.modules() if isinstance(module, Remembers)]
    if not own:
        return
    images, size = data.split("train"), 256
    subject.to(device)
    batches = track(images.batches(size), "representing the training set", total=-(-len(images) // size))
    representations: Tensor = torch.cat([subject(batch["x"].to(device)).cpu() for batch in batches])
    for each in own:
        each.remember(images, representations)


def parameters(model: FiberModel) -> int:
    """Parameters of the model and its latent space, without the subject."""
    subjects = {id(p) for m in model.modules() if isinstance(m, Subject) for p in m.parameters()}
    return sum(p.numel() for p in model.parameters() if id(p) not in subjects)


def subject_name(subject: Subject) -> str:
    """The name of a subject: its class, with its network and layer."""
    given: dict[str, Any] = subject.arguments
    words = [str(given[key]).rpartition(".")[2] for key in ("network", "model") if isinstance(given.get(key), str)]
    words += [type(net).__name__ for net in [given.get("network")] if isinstance(net, nn.Module)]
    words += [f"{key}={value}" for key, value in (given.get("network_args") or {}).items()]
    words += [given["layer"]] if isinstance(given.get("layer"), str) else []
    words += [f"units={given['units']}"] if given.get("units") is not None else []
    return type(subject).__name__ + (f"({', '.join(words)})" if words else "")
