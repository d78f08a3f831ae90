"""What one evaluation of a loss costs, counted rather than guessed: operations, kept activations, seconds."""

import time
from collections.abc import Callable, Iterable
from functools import partial
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.flop_counter import FlopCounterMode


class Cost(NamedTuple):
    """Of a forward and a backward pass."""

    flops: float
    """Of matrix products, convolutions and attention: a multiplication and an addition count as two."""
    activations: float
    """Bytes that are kept for the backward pass, each storage once, the weights' own aside."""
    seconds: float
    """On this device."""


def cost(loss: Callable[[], Tensor], weights: Iterable[Tensor]) -> Cost:
    """Counts one forward and backward pass, and times three others, of which the fastest counts.

    What gradient checkpointing computes again is counted in `flops` and `seconds`; of what it keeps for one block
    at a time, `activations` has the blocks' inputs alone.

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
    """Operations and bytes are linear in the number of rows: `fixed + each * rows`. Time follows from the
    operations, at the rate of the larger batch that was run: small batches leave a device idle, so it is a bound."""

    fixed: Cost
    each: Cost
    rate: float
    """Operations a second."""

    def at(self, rows: int) -> Cost:
        """The cost of so many rows."""
        flops, activations, _ = (max(0.0, a + b * rows) for a, b in zip(self.fixed, self.each, strict=True))
        return Cost(flops, activations, flops / self.rate)


def line(loss: Callable[[int], Tensor], weights: Iterable[Tensor], rows: tuple[int, int] = (2, 4)) -> Line:
    """The line through the costs of two small batches.

    Args:
        loss: a function of the number of rows.
        weights: parameters and buffers.
        rows: of the two batches.
    """
    few, many = rows
    known = list(weights)
    loss(few).backward()  # what is set up once is not counted
    first, second = (cost(partial(loss, n), known) for n in rows)
    each = Cost(*((b - a) / (many - few) for a, b in zip(first, second, strict=True)))
    fixed = Cost(*(a - few * b for a, b in zip(first, each, strict=True)))
    return Line(fixed, each, second.flops / second.seconds)
