"""Draw samples once, and score them."""

import time
from pathlib import Path
from typing import Any, Literal

import torch
from rich.progress import track
from torch import Tensor

from fibermodels import metrics
from fibermodels.core import (
    FiberModel,
    FiberSamples,
    HasLogProb,
    LatentSpace,
    Metric,
    Reports,
    Subject,
    TrainableFiberModel,
    check_images,
    fingerprint,
)
from fibermodels.evaluation.partial import Batch, Partial
from fibermodels.evaluation.results import Metrics, commit
from fibermodels.models import Oracle
from fibermodels.noise import seeded
from fibermodels.retrieval import Retrieval

FIDELITY: tuple[Metric, ...] = (
    metrics.fiber_rms,
    metrics.fiber_rms_std,
    metrics.fiber_l2_squared,
    metrics.fiber_rms_shuffled,
    metrics.cosine,
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

    Args:
        model: any FiberModel; a `Retrieval` must remember its images already.
        subject: the network whose fibers are sampled.
        x: target images `(B, C, H, W)`.
        samples_per_target: n.
        seed: of the samples; a target's samples do not depend on `batch_size`.
        batch_size: targets at a time.
        device: where to compute; the samples come back to the CPU.
        partial: keeps every batch as soon as it is drawn, and has those of an earlier, interrupted call.
    """
    if samples_per_target < 1:
        raise ValueError(f"samples_per_target: expected at least 1, got {samples_per_target}")
    check_images(x, subject.image_shape, "targets")
    model.to(device), subject.to(device)
    generator, batches = seeded("samples", seed), []
    for index, images in enumerate(track(x.split(batch_size), f"sampling {type(model).__name__}")):
        batch = partial.load(index, generator) if partial else None
        if batch is None:
            batch = _draw_batch(model, subject, images.to(device), samples_per_target, generator)
            if partial:
                partial.keep(index, batch, generator)
        batches.append(batch)
    check_images(batches[0].x_hat[0], subject.image_shape, f"samples of {type(model).__name__}")
    samples = FiberSamples(
        x,
        torch.cat([batch.h for batch in batches]),
        torch.cat([batch.x_hat for batch in batches], 1),
        torch.cat([batch.h_hat for batch in batches], 1),
    )
    share = [len(batch.h) / len(x) for batch in batches]
    report = {
        name: sum(part * batch.report[name] for part, batch in zip(share, batches, strict=True))
        for name in batches[0].report
    }
    return samples, sum(batch.seconds for batch in batches), report


@torch.no_grad()
def _draw_batch(model: FiberModel, subject: Subject, x: Tensor, n: int, generator: torch.Generator) -> Batch:
    h = subject(x)
    start = time.perf_counter()
    x_hat = model.sample(h, n, generator)
    if x.device.type == "cuda":
        torch.cuda.synchronize()
    seconds = time.perf_counter() - start
    h_hat = torch.stack([subject(slot) for slot in x_hat])
    report = model.report() if isinstance(model, Reports) else {}
    return Batch(h.cpu(), x_hat.cpu(), h_hat.cpu(), seconds, report)


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
    return {name: round(value, 6) for name, value in values.items() if value == value}  # NaN: does not apply


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
) -> tuple[FiberSamples, Metrics]:
    """Samples a model on the first `num_targets` images of a split of `data` and scores it.

    Args:
        about: what the caller knows of the run (`name`, `fiber_weight`), kept in the metrics.
        unfinished: folder for the batches of a model of a hundred network calls or more, until all are drawn; an
            interrupted evaluation goes on from there.
    """
    if num_targets < 1:
        raise ValueError(f"num_targets: expected at least 1, got {num_targets}")
    targets = data.split(split)
    if num_targets > len(targets):
        raise ValueError(f"num_targets: the {split} split has {len(targets)} images, {num_targets} were asked for")
    x = targets.images(slice(num_targets))
    with torch.no_grad():
        h = torch.cat([subject(part) for part in x.split(1000)])
    remember(model, subject, data, x, h, device)
    long = model.network_calls >= LONG
    size = 100 if long else 500  # the progress bar of a long one should move
    partial = (
        Partial(unfinished, model, fingerprint(subject), data.name, split, num_targets, samples_per_target, seed, size)
        if unfinished and long
        else None
    )
    samples, seconds, report = draw(model, subject, x, samples_per_target, seed, size, device, partial)
    exact, _, _ = draw(Oracle().remember(x, h), subject, x, samples_per_target, seed=seed + 1)
    values: Metrics = {
        "name": type(model).__name__,
        "family": type(model).__name__,
        "fiber_weight": 0.0,
        "dataset": data.name,
        "subject": fingerprint(subject),
        "num_targets": num_targets,
        "samples_per_target": samples_per_target,
        "seed": seed,
        "device": device_name(device),
        "commit": commit(),
        "num_parameters": own_parameters(model),
        "network_calls_per_sample": model.network_calls,
        "seconds_per_sample": round(seconds / (num_targets * samples_per_target), 9),
        **(about or {}),
        **score(samples, exact),
    }
    values |= {name: round(value, 6) for name, value in report.items()}
    if isinstance(model, TrainableFiberModel) and isinstance(model, HasLogProb):
        values["nll_bits_per_dim"] = round(
            metrics.nll_bits_per_dim(model, model.latents, x.to(device), samples.h.to(device)), 6
        )
    if partial:
        partial.remove()
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


def own_parameters(model: FiberModel) -> int:
    """Parameters of the generative network, without the frozen latent space and the subject."""
    frozen = {id(p) for m in model.modules() if isinstance(m, (LatentSpace, Subject)) for p in m.parameters()}
    return sum(p.numel() for p in model.parameters() if id(p) not in frozen)


def device_name(device: str) -> str:
    """The device in words."""
    if torch.device(device).type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"cpu ({torch.get_num_threads()} threads)"
