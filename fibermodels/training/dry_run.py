"""`train --dry_run true`: the memory, the time and the steps of a run, before it starts.

Everything is built, and a forward and a backward pass of two and of four rows are counted on this device (`cost.py`).
Nothing is trained or written.
"""

import contextlib
from typing import Any

import torch
from lightning.pytorch import LightningDataModule, Trainer
from rich.console import Console
from rich.table import Table
from torch import Tensor

from fibermodels.checks import check_number
from fibermodels.data.cached import CachedLatents
from fibermodels.trainable import TrainableFiberModel
from fibermodels.training.cost import ROWS, measure
from fibermodels.training.module import Training


def parameters(module: Training) -> dict[str, tuple[int, int]]:
    """The numbers of trained and of frozen parameters of each part; a shared parameter counts once."""
    parts: dict[str, tuple[int, int]] = {}
    for name, p in module.named_parameters():
        part = ".".join(name.split(".")[: 2 if name.startswith("learner.") else 1])
        trained, frozen = parts.get(part, (0, 0))
        parts[part] = (trained + p.numel(), frozen) if p.requires_grad else (trained, frozen + p.numel())
    return parts


def sizes(module: Training) -> tuple[int, int]:
    """Bytes of all weights (parameters and buffers), and of the trained ones."""
    weights = sum(value.numel() * value.element_size() for value in [*module.parameters(), *module.buffers()])
    return weights, sum(p.numel() * p.element_size() for p in module.parameters() if p.requires_grad)


def memory(weights: int, trained: int, averaged: bool, processes: int = 1, unit: int = 0) -> float:
    """Bytes per process without activations, sharded over `processes`; `unit` bytes are gathered at a time."""
    copies = 4 if averaged else 3  # gradient, two moments, average
    return (weights + copies * trained) / processes + (unit if processes > 1 else 0)


def checkpoint_bytes(weights: int, trained: int, averaged: bool) -> int:
    """The largest size of a checkpoint: all weights, two moments, and averages if there are any."""
    return weights + (3 if averaged else 2) * trained


def steps(images: int, batch: int, processes: int, accumulated: int, epochs: int, limit: int) -> tuple[int, int]:
    """The optimizer's steps of an epoch and of the whole run.

    Incomplete batches are dropped; incomplete accumulations are not.

    Args:
        images: number of training images.
        batch: images per batch and process.
        processes: number of processes.
        accumulated: batches per step.
        epochs: number of epochs; -1 for no limit.
        limit: largest number of steps; -1 for no limit.
    """
    each = -(-images // processes)
    per_epoch = -(-max(1, each // batch) // accumulated)
    planned = per_epoch * epochs if epochs >= 0 else limit
    return per_epoch, planned if limit < 0 else min(planned, limit)


def first_batch(module: Training, data: LightningDataModule, cached: bool) -> dict[str, Tensor]:
    """`ROWS` training images, or noise if the data are not on this machine.

    With `cached`, the batch also has representations and latents, so that their cost is not counted.
    """
    source: Any = data
    try:
        batch = dict(source.split("train").__getitems__(list(range(ROWS))))
    except FileNotFoundError:
        batch = {"x": torch.rand(ROWS, *module.learner.input_shape)}
    batch = {name: value.to(module.device) for name, value in batch.items()}
    if cached and isinstance(module.learner, TrainableFiberModel) and module.subject is not None:
        with torch.no_grad():
            batch["h"] = module.subject(batch["x"])
            batch["z"] = module.learner.draw_latents(batch["x"], batch["h"])
    return batch


def dry_run(
    module: Training,
    data: LightningDataModule,
    trainer: Trainer,
    averaged: bool,
    tflops: float,
    utilisation: float,
) -> Table:
    """The table of what a run would take.

    Args:
        module, data, trainer: those of the run.
        averaged: whether weights are averaged.
        tflops: the peak rate of one GPU, in 10^12 operations per second.
        utilisation: the share of the peak rate that training reaches.

    Raises:
        ValueError: a rate is not positive, or the share is not in (0, 1].
    """
    check_number("dry_run", "gpu_tflops", tflops, above=0)
    check_number("dry_run", "utilisation", utilisation, above=0, most=1)
    source: Any = data.source if isinstance(data, CachedLatents) else data
    module.to(trainer.strategy.root_device).train()
    base, fiber = measure(module, trainer, first_batch(module, source, _encoded_once(data)))
    weights, trained = sizes(module)
    images = 0
    with contextlib.suppress(FileNotFoundError):
        images = len(source.split("train"))
    table = Table(title="dry run", show_header=False)
    parts = parameters(module)
    parts |= {"": tuple(map(sum, zip(*parts.values(), strict=True)))}  # type: ignore[dict-item]
    for name, counts in parts.items():
        table.add_row(f"parameters: {name}".removesuffix(": "), f"{counts[0]:,} trained, {counts[1]:,} frozen")
    table.add_row("weights, buffers", _bytes(weights))
    table.add_row("gradients", _bytes(trained))
    table.add_row(f"optimizer ({module.optimizer}), at most", _bytes(2 * trained))
    table.add_row("averages", _bytes(trained if averaged else 0))
    table.add_row("checkpoint, at most", _bytes(checkpoint_bytes(weights, trained, averaged)))
    table.add_row("activations per image", _bytes(base.each.activations))
    if fiber is not None:
        table.add_row("activations per row of the fiber loss", _bytes(fiber.each.activations))
    table.add_section()
    rows, accumulated = source.batch_size, trainer.accumulate_grad_batches
    epochs = -1 if trainer.max_epochs is None else trainer.max_epochs
    for processes in sorted({1, 8, trainer.world_size}):
        per_epoch, total = steps(images, rows, processes, accumulated, epochs, trainer.max_steps)
        flops, kept, seconds = base.at(rows)
        if fiber is not None:
            pushed = fiber.at(min(rows, max(1, (module.fiber.rows or rows * processes) // processes)))
            flops, kept, seconds = (a + b for a, b in zip((flops, kept, seconds), pushed, strict=True))
        flops, seconds = flops * accumulated, seconds * accumulated
        ddp = memory(weights, trained, averaged) + kept
        fsdp = memory(weights, trained, averaged, processes, weights // 4) + kept
        seen = total * rows * processes * accumulated
        known = f"{per_epoch:,} steps an epoch, {total:,} in all, {seen:,} images seen"
        head = f"{processes} process" + ("es" if processes > 1 else "")
        table.add_row(head, known if images else "training set not on this machine: steps unknown")
        table.add_row("  memory per process", f"DDP {_bytes(ddp)}, FSDP {_bytes(fsdp)} (activations {_bytes(kept)})")
        table.add_row("  operations per process and step", f"{flops:.3g} FLOP")
        gpu = flops / (tflops * 1e12 * utilisation)
        for where, each in (("GPUs", gpu), (f"this {module.device.type}", seconds)):
            in_all = f", {_time(each * total)} in all" if images else ""
            table.add_row(f"  time on {where}", f"{_time(each)} a step{in_all}")
    table.caption = (
        f"batch of {source.batch_size} per process; GPUs of {tflops:g} TFLOP/s at {utilisation:.0%}; "
        f"here, at the rate of a batch of {ROWS}; validation, communication and reading not counted; "
        "FSDP with a quarter of the weights gathered"
    )
    return table


def _encoded_once(data: LightningDataModule) -> bool:
    """Whether training reads encoded images; true for a cache whose data are not on this machine."""
    try:
        return isinstance(data, CachedLatents) and not data.declined
    except FileNotFoundError:
        return True


def show(table: Table) -> None:
    """Prints the table in its full width."""
    Console(width=max(110, Console().width)).print(table)


def _bytes(value: float) -> str:
    for unit in ("B", "KB", "MB", "GB"):
        if value < 1000:
            return f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:.3g} TB"


def _time(seconds: float) -> str:
    for limit, unit, size in ((1, "ms", 1e-3), (120, "s", 1), (7200, "min", 60), (172800, "h", 3600)):
        if seconds < limit:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds / 86400:.3g} days"
