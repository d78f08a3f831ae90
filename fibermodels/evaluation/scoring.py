"""Draw samples once, and score them."""

import json
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from rich.progress import track
from torch import Tensor

from fibermodels import metrics
from fibermodels.component import fingerprint
from fibermodels.config import describe
from fibermodels.core import FiberModel, FiberSamples, HasLogProb, LatentSpace, Metric, Subject, TrainableFiberModel
from fibermodels.data.colour_digits import ColourDigits
from fibermodels.data.cue_conflict import CATEGORIES, CueConflict, imagenet_classes
from fibermodels.evaluation.drawing import Drawing
from fibermodels.evaluation.judging import Judges
from fibermodels.evaluation.partial import Partial
from fibermodels.evaluation.processes import Work, helped
from fibermodels.evaluation.results import Metrics, commit
from fibermodels.models import Oracle
from fibermodels.retrieval import Retrieval

FIDELITY: tuple[Metric, ...] = (
    metrics.fiber_rms,
    metrics.fiber_rms_std,
    metrics.fiber_l2_squared,
    metrics.fiber_rms_shuffled,
    metrics.cosine,
    metrics.cosine_per_location,
    metrics.mean_reciprocal_rank,
)
FLOORED: dict[Metric, str] = {metrics.colour_kl: "colour_kl_floor", metrics.colour_w1: "colour_w1_floor"}
"""Metrics of a known law, and the name under which exact samples' score stands beside them."""


LONG = 100
"""Network calls per sample from which an evaluation is long: in small batches, each kept once it is drawn."""


def draw(
    model: FiberModel,
    subject: Subject,
    x: Tensor,
    samples_per_target: int,
    seed: int = 0,
    batch_size: int = 500,
    device: str | torch.device = "cpu",
    partial: Partial | None = None,
) -> tuple[FiberSamples, float, dict[str, float]]:
    """Samples for every target, the seconds that sampling took, and what a model that `Reports` said of them.

    Args and Raises: as in `Drawing`.
    """
    return Drawing(model, subject, x, samples_per_target, seed, batch_size, device, partial).gather()


def score(samples: FiberSamples, exact: FiberSamples | None = None) -> Metrics:
    """Every metric that applies.

    Args:
        samples: what to score.
        exact: as many exact samples of the same targets, where the law is known: they add the
            metrics of consistency, each beside its floor.
    """
    values = {metric.__name__: metric(samples) for metric in FIDELITY}
    values["pairwise_distance"] = metrics.pairwise_distance(samples)
    if exact is not None:
        for metric, floor in FLOORED.items():
            values[metric.__name__], values[floor] = metric(samples), metric(exact)
        values["contrast_error"] = metrics.contrast_error(samples)
        values["pixel_error"] = metrics.pixel_error(samples)
        values["pairwise_distance_truth"] = metrics.pairwise_distance(exact)
    return rounded(values)


def rounded(values: dict[str, float]) -> Metrics:
    """As they are written down, without those that are NaN: they do not apply."""
    return {name: round(value, 6) for name, value in values.items() if value == value}


@dataclass(frozen=True)
class Choice:
    """What is drawn.

    Raises:
        ValueError: no targets.
    """

    num_targets: int
    samples_per_target: int
    seed: int = 0
    split: Literal["test", "val"] = "test"
    batch_size: int | None = None
    """Targets at a time; None: 100 of a model of `LONG` calls, whose progress bar should move, else 500."""

    def __post_init__(self) -> None:
        if self.num_targets < 1:
            raise ValueError(f"num_targets: expected at least 1, got {self.num_targets}")


def plan(
    model: FiberModel, subject: Subject, data: Any, choice: Choice, device: str = "cpu", kept: Path | None = None
) -> Drawing:
    """The drawing of samples for the first images of a split: all that is left is to draw them.

    Args:
        kept: folder for finished batches; none are kept without it.

    Raises:
        ValueError: more targets than the split has, or images that the subject does not take.
    """
    targets = data.split(choice.split)
    if choice.num_targets > len(targets):
        raise ValueError(
            f"num_targets: the {choice.split} split has {len(targets)} images, {choice.num_targets} were asked for"
        )
    x = targets.images(slice(choice.num_targets))
    if any(isinstance(module, Retrieval) for module in model.modules()):
        remember(model, subject, data, x, represent(subject, x), device)
    usual = 100 if model.network_calls >= LONG else 500
    size = usual if choice.batch_size is None else choice.batch_size
    own = (data.name, choice.split, choice.num_targets, choice.samples_per_target, choice.seed, size)
    read = json.dumps(describe(subject))  # which layer of it, say: the weights are the same
    partial = Partial(kept, model, fingerprint(subject), read, *own) if kept else None
    return Drawing(model, subject, x, choice.samples_per_target, choice.seed, size, device, partial)


@torch.no_grad()
def represent(subject: Subject, x: Tensor) -> Tensor:
    """The representations of many images."""
    return torch.cat([subject(part) for part in x.split(1000)])


def evaluate(
    model: FiberModel,
    subject: Subject,
    data: Any,
    num_targets: int,
    samples_per_target: int,
    seed: int = 0,
    device: str = "cpu",
    about: Metrics | None = None,
    split: Literal["test", "val"] = "test",
    unfinished: Path | None = None,
    batch_size: int | None = None,
    judges: Judges | None = None,
    processes: int = 1,
    work: Work | None = None,
) -> tuple[FiberSamples, Metrics]:
    """Samples a model on the first `num_targets` images of a split of `data` and scores it.

    Args:
        about: what the caller knows of the run (`name`, `fiber_weight`), kept in the metrics.
        unfinished: folder for the batches of a model of a hundred network calls or more, or of several processes,
            until all are drawn; an interrupted evaluation goes on from there.
        batch_size: targets at a time.
        judges: networks that look at the samples beside the subject.
        processes: how many share the batches.
        work: draws the share of a process of another rank into `unfinished`.
    """
    choice = Choice(num_targets, samples_per_target, seed, split, batch_size)
    kept = unfinished if model.network_calls >= LONG or processes > 1 else None
    drawing = plan(model, subject, data, choice, device, kept)
    if processes > 1 and work:
        if processes > len(drawing):
            raise ValueError(
                f"processes: {processes} share {len(drawing)} batches of {drawing.batch_size} targets; at most one "
                "process for each batch: give fewer, or a smaller --batch_size"
            )
        with helped(work, processes):
            drawing.share(0, processes)
        if left := drawing.undone():
            warnings.warn(
                f"{len(left)} of {len(drawing)} batches are drawn by the first process alone: the others built another "
                "model, as they do where weights start at random, or failed",
                stacklevel=2,
            )
    samples, seconds, report = drawing.gather()
    x, exact = samples.x, None
    if isinstance(data, ColourDigits):  # whose law is known
        exact, _, _ = draw(Oracle().remember(x, samples.h), subject, x, samples_per_target, seed=seed + 1)
    values: Metrics = {
        "name": type(model).__name__,
        "family": type(model).__name__,
        "fiber_weight": 0.0,
        "dataset": data.name,
        "subject": fingerprint(subject),
        "subject_name": subject_name(subject),
        "num_targets": num_targets,
        "samples_per_target": samples_per_target,
        "seed": seed,
        "device": device_name(device),
        **({"processes": processes} if processes > 1 else {}),
        "commit": commit(),
        "num_parameters": own_parameters(model),
        "network_calls_per_sample": model.network_calls,
        "seconds_per_sample": round(seconds / (num_targets * samples_per_target), 9),
        **(about or {}),
        **score(samples, exact),
        **rounded(report),
    }
    if isinstance(model, TrainableFiberModel) and isinstance(model, HasLogProb):
        values["nll_bits_per_dim"] = round(
            metrics.nll_bits_per_dim(model, model.latents, x.to(device), samples.h.to(device)), 6
        )
    if judges:
        values |= rounded(judges.scores(samples, data.split(split), device, categories=categories_of(data)))
    if drawing.partial:
        drawing.partial.remove()
    return samples, values


@torch.no_grad()
def remember(model: FiberModel, subject: Subject, data: Any, x: Tensor, h: Tensor, device: str = "cpu") -> None:
    """Gives every `Retrieval` in a model the images that it wants to remember: of the training set, read batch by
    batch on `device`, the representations alone."""
    own = [module for module in model.modules() if isinstance(module, Retrieval)]
    for retrieval in own:
        if retrieval.bank == "targets":
            retrieval.remember(x, h)
    if any(retrieval.bank == "train" for retrieval in own):
        images, size = data.split("train"), 256
        subject.to(device)
        batches = track(images.batches(size), "representing the training set", total=-(-len(images) // size))
        representations = torch.cat([subject(batch["x"].to(device)).cpu() for batch in batches])
        for retrieval in own:
            if retrieval.bank == "train":
                retrieval.remember(images, representations)


def categories_of(data: Any) -> list[list[int]] | None:
    """ImageNet's classes of each category, where the data's labels are cues; else labels are classes."""
    return [imagenet_classes(name) for name in CATEGORIES] if isinstance(data, CueConflict) else None


def own_parameters(model: FiberModel) -> int:
    """Parameters of the generative network, without the frozen latent space and the subject."""
    frozen = {id(p) for m in model.modules() if isinstance(m, (LatentSpace, Subject)) for p in m.parameters()}
    return sum(p.numel() for p in model.parameters() if id(p) not in frozen)


def subject_name(subject: Subject) -> str:
    """The subject in words: its class, and the arguments that say which network and which layer of it."""
    given = subject.arguments
    words = [str(given[key]).rpartition(".")[2] for key in ("network", "model") if isinstance(given.get(key), str)]
    words += [f"{key}={value}" for key, value in (given.get("network_args") or {}).items()]
    words += [given["layer"]] if isinstance(given.get("layer"), str) else []
    words += [f"units={given['units']}"] if given.get("units") is not None else []
    return type(subject).__name__ + (f"({', '.join(words)})" if words else "")


def device_name(device: str) -> str:
    """The device in words."""
    if torch.device(device).type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"cpu ({torch.get_num_threads()} threads)"
