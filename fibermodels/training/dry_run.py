"""`train.py --dry_run true`: what a run would take, before it takes it.

Everything is built, and a forward and a backward pass of two and of four rows are counted on this device. Nothing is
trained or written. Bytes and operations are linear in the rows, which gives those of the configured batch.
"""

import contextlib
from typing import Any

import torch
from lightning.pytorch import LightningDataModule, Trainer
from rich.console import Console
from rich.table import Table
from torch import Tensor

from fibermodels.checks import check_number
from fibermodels.core import Pushforward
from fibermodels.data.cached import CachedLatents
from fibermodels.trainable import TrainableFiberModel
from fibermodels.training.budget import Sizes, Steps
from fibermodels.training.cost import Line, line
from fibermodels.training.module import Training
from fibermodels.training.objective import own_terms

ROWS = 4
"""Of the largest batch that is run."""


def measure(module: Training, trainer: Trainer, batch: dict[str, Tensor]) -> tuple[Line, Line | None]:
    """Two costs: of the loss without the fiber loss, per row of the batch, and of the fiber loss, per row pushed.

    Args:
        module: in training mode.
        trainer: its precision is used.
        batch: of at least `ROWS` rows; representations and latents in it are not computed again.
    """
    state = [*module.parameters(), *module.buffers()]

    def terms(n: int) -> Tensor:
        with trainer.precision_plugin.forward_context():
            own = own_terms(module.learner, module.subject, {name: value[:n] for name, value in batch.items()})[0]
            return torch.stack([term.mean() for term in own.values()]).sum()

    def pushed(n: int) -> Tensor:
        with trainer.precision_plugin.forward_context():
            _, h, z = own_terms(module.learner, module.subject, {name: value[:n] for name, value in batch.items()})
            if h is None or module.subject is None or not isinstance(module.learner, Pushforward):
                raise ValueError("dry_run: expected a fiber model and its subject for the fiber loss")
            return module.fiber(module.learner, module.subject, h, z).mean()

    base = line(terms, state)
    fiber = line(pushed, state) if module.fiber.weight else None
    module.zero_grad(set_to_none=True)
    return base, fiber


def first_batch(module: Training, data: LightningDataModule, cached: bool) -> dict[str, Tensor]:
    """A few training images, or noise where the data are not on this machine. With `cached`, the batch already has
    representations and latents, so that their cost is not counted."""
    source: Any = data
    try:
        batch = dict(source.split("train").__getitems__(list(range(ROWS))))
    except FileNotFoundError:
        batch = {"x": torch.rand(ROWS, *module.learner.image_shape)}
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
    """Measures, and puts the figures in a table.

    Args:
        module, data, trainer: as they would be run.
        averaged: weights are averaged.
        tflops: the peak of one GPU, in 10^12 operations a second.
        utilisation: the share of the peak that training reaches.
    """
    check_number("dry_run", "gpu_tflops", tflops, above=0)
    check_number("dry_run", "utilisation", utilisation, above=0, most=1)
    source: Any = data.source if isinstance(data, CachedLatents) else data
    module.to(trainer.strategy.root_device).train()
    sizes = Sizes.of(module)
    base, fiber = measure(module, trainer, first_batch(module, source, _encoded_once(data)))
    images = 0
    with contextlib.suppress(FileNotFoundError):
        images = len(source.split("train"))
    table = Table(title="dry run", show_header=False)
    for name, (trained, frozen) in sizes.parts.items():
        table.add_row(f"parameters: {name}", f"{trained:,} trained, {frozen:,} frozen")
    total = [sum(part[i] for part in sizes.parts.values()) for i in (0, 1)]
    table.add_row("parameters", f"{total[0]:,} trained, {total[1]:,} frozen")
    table.add_row("weights, buffers", _bytes(sizes.weights))
    table.add_row("gradients", _bytes(sizes.trained))
    table.add_row("optimizer (AdamW)", _bytes(2 * sizes.trained))
    table.add_row("averages", _bytes(sizes.trained if averaged else 0))
    table.add_row("checkpoint, at most", _bytes(sizes.checkpoint(averaged)))
    table.add_row("activations per image", _bytes(base.each.activations))
    if fiber is not None:
        table.add_row("activations per row of the fiber loss", _bytes(fiber.each.activations))
    table.add_section()
    for processes in sorted({1, 8, trainer.world_size}):
        steps = Steps(
            images,
            source.batch_size,
            processes,
            trainer.accumulate_grad_batches,
            -1 if trainer.max_epochs is None else trainer.max_epochs,
            trainer.max_steps,
        )
        rows = source.batch_size
        once = base.at(rows)
        flops, kept, seconds = once
        if fiber is not None:
            pushed = fiber.at(min(rows, max(1, (module.fiber.rows or rows * processes) // processes)))
            flops, kept, seconds = (a + b for a, b in zip(once, pushed, strict=True))
        gpu = flops * steps.accumulated / (tflops * 1e12 * utilisation)
        here = seconds * steps.accumulated
        ddp = sizes.memory(averaged) + kept
        fsdp = sizes.memory(averaged, processes, sizes.weights // 4) + kept
        head = f"{processes} process" + ("es" if processes > 1 else "")
        known = f"{steps.per_epoch:,} steps an epoch, {steps.total:,} in all, {steps.samples:,} images seen"
        table.add_row(head, known if images else "training set not on this machine: steps unknown")
        table.add_row("  memory per process", f"DDP {_bytes(ddp)}, FSDP {_bytes(fsdp)} (activations {_bytes(kept)})")
        table.add_row("  operations per process and step", f"{flops * steps.accumulated:.3g} FLOP")
        table.add_row(
            "  time on GPUs", f"{_time(gpu)} a step" + (f", {_time(gpu * steps.total)} in all" if images else "")
        )
        table.add_row(
            f"  time on this {module.device.type}",
            f"{_time(here)} a step" + (f", {_time(here * steps.total)} in all" if images else ""),
        )
    table.caption = (
        f"batch of {source.batch_size} per process; GPUs of {tflops:g} TFLOP/s at {utilisation:.0%}; "
        "here, at the rate of a batch of "
        f"{ROWS}; validation, communication and reading not counted; FSDP with a quarter of the weights gathered"
    )
    return table


def _encoded_once(data: LightningDataModule) -> bool:
    """Whether training reads encoded images; true of a cache whose data are not on this machine."""
    try:
        return isinstance(data, CachedLatents) and not data.declined
    except FileNotFoundError:
        return True


def show(table: Table) -> None:
    """Prints the table, as wide as it is."""
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
