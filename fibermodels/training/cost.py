"""The cost of a forward and a backward pass: operations, bytes kept for the backward pass, and seconds.

They are linear in the rows, so the counts of two small batches give those of any batch.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from itertools import pairwise
from typing import NamedTuple

import torch
from lightning.pytorch import Trainer
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.flop_counter import FlopCounterMode

from fibermodels.core import Pushforward
from fibermodels.training.module import Training
from fibermodels.training.objective import Terms, own_terms

ROWS = 4
"""Rows of the largest batch that is run."""


class Cost(NamedTuple):
    """The cost of a forward and a backward pass."""

    flops: float
    """Operations of matrix products, convolutions and attention; a multiplication and an addition count as two."""
    activations: float
    """Bytes that are kept for the backward pass: each storage counts once, and weights do not count."""
    seconds: float
    """The time on this device."""


def cost(loss: Callable[[], Tensor], weights: Iterable[Tensor]) -> Cost:
    """Counts one forward and backward pass, and times three others, of which the fastest counts.

    With gradient checkpointing, `flops` and `seconds` include what is computed again. `activations` includes the inputs
    of the blocks, but not what is kept for one block at a time.

    Args:
        loss: builds the graph and returns a scalar.
        weights: parameters and buffers.
    """
    own = {value.untyped_storage().data_ptr() for value in weights}
    kept: dict[int, int] = {}

    def keep(value: Tensor) -> Tensor:
        storage = value.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return value

    with FlopCounterMode(display=False) as counter:
        with saved_tensors_hooks(keep, lambda value: value):
            value = loss()
        value.backward()
    times = [_now(value.device)]
    for _ in range(3):
        loss().backward()
        times.append(_now(value.device))
    seconds = min(after - before for before, after in pairwise(times))
    return Cost(float(counter.get_total_flops()), float(sum(kept.values())), seconds)


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


class Line(NamedTuple):
    """The cost as a function of the number of rows: `fixed + each * rows`.

    The time is that of the operations at the rate of the larger batch. Small batches do not use a device fully, so this
    is an upper bound.
    """

    fixed: Cost
    each: Cost
    rate: float
    """Operations per second."""

    def at(self, rows: int) -> Cost:
        """The cost of a number of rows."""
        flops, activations, _ = (max(0.0, a + b * rows) for a, b in zip(self.fixed, self.each, strict=True))
        return Cost(flops, activations, flops / self.rate)


def line(loss: Callable[[int], Tensor], weights: Iterable[Tensor]) -> Line:
    """The line through the costs of batches of two rows and of `ROWS` rows.

    Args:
        loss: a function of the number of rows.
        weights: parameters and buffers.
    """
    known = list(weights)
    loss(2).backward()  # so that what is set up once is not counted
    first, second = (cost(partial(loss, n), known) for n in (2, ROWS))
    each = Cost(*((b - a) / (ROWS - 2) for a, b in zip(first, second, strict=True)))
    fixed = Cost(*(a - 2 * b for a, b in zip(first, each, strict=True)))
    return Line(fixed, each, second.flops / second.seconds)


def measure(module: Training, trainer: Trainer, batch: dict[str, Tensor]) -> tuple[Line, Line | None]:
    """The cost of the loss without the fiber loss, per row of the batch, and of the fiber loss, per row pushed.

    Args:
        module: in training mode.
        trainer: gives the precision.
        batch: at least `ROWS` rows; representations and latents in it are not computed again.
    """
    state = [*module.parameters(), *module.buffers()]

    def own(n: int) -> Terms:
        return own_terms(module.learner, module.subject, {name: value[:n] for name, value in batch.items()})

    def loss(n: int) -> Tensor:
        with trainer.precision_plugin.forward_context():
            return torch.stack([term.mean() for term in own(n).values.values()]).sum()

    def fiber(n: int, given: Mapping[int, Terms]) -> Tensor:
        with trainer.precision_plugin.forward_context():
            _, h, z, drawn = given[n]
            if h is None or module.subject is None or not isinstance(module.learner, Pushforward):
                raise ValueError("dry_run: expected a fiber model and its subject for the fiber loss")
            if drawn is not None:  # the loss has pushed them: what is left is the subject's part
                drawn = drawn.detach().requires_grad_()
            x = batch["x"][:n] if "x" in batch else None
            return module.fiber(module.learner, module.subject, h, z, x=x, drawn=drawn).mean()

    base = line(loss, state)
    pushed = None
    if module.fiber.weight:
        with torch.no_grad(), trainer.precision_plugin.forward_context():
            given = {n: own(n) for n in (2, ROWS)}
        pushed = line(partial(fiber, given=given), state)
    module.zero_grad(set_to_none=True)
    return base, pushed
