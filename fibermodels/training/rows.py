"""Random numbers that do not depend on how many processes share a batch.

Of `w` processes, number `r` holds the rows `r, r + w, ...` of a batch (see `data.loading.EpochSampler`).
All seed alike; each draws what a single process would draw for the whole batch and keeps its own rows. A
model's loss, its dropout and its sampler need not know: the drawing functions of torch are replaced while
`SharedRows` is entered.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import _engine_run_backward
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from fibermodels.nn import spread_times

SHAPED: dict[Callable, int] = {torch.randn: 0, torch.rand: 0, torch.randint: 1}
"""Functions that are given a shape, and how many arguments come before it at least."""

LIKE: set[Callable] = {
    torch.randn_like,
    torch.rand_like,
    torch.randint_like,
    torch.bernoulli,
    functional.dropout,
    functional.dropout1d,
    functional.dropout2d,
    functional.dropout3d,
    spread_times,
}
"""Functions that are given a tensor, whose rows they treat alike."""

FILL: set[Callable] = {Tensor.normal_, Tensor.uniform_, Tensor.bernoulli_}
"""Functions that fill a tensor."""


class SharedRows(TorchFunctionMode):
    """Draws for the rows of all processes, and keeps those of one.

    The first dimension is that of the rows, or the second where that alone has the batch's size; numbers
    without dimensions are the same for all. A first dimension that is a multiple of the batch holds blocks of
    rows (heads of an attention, say). A call with a generator of its own is left as it is, but for whole numbers: those
    are the seeds that `FiberModel.sample` gives to its targets. What a fused kernel draws by itself (dropout within
    attention) is the same in all processes. The cost is the memory of `world` times a batch's noise.

    Args:
        rows: the rows of this process's batch.
        world: how many processes there are.
        rank: the number of this one.
    """

    def __init__(self, rows: int, world: int, rank: int) -> None:
        super().__init__()
        self.rows, self.world, self.rank = rows, world, rank

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func is Tensor.backward and kwargs["gradient"] is None and kwargs["inputs"] is None:
            return self._backward(args[0], bool(kwargs["retain_graph"]), bool(kwargs["create_graph"]))
        if func in SHAPED and (func is torch.randint or kwargs.get("generator") is None):
            args, shape = _shape(func, args, kwargs)
            dim = self._dim(shape)
            if dim is None:
                return func(*args, shape, **kwargs)
            shape[dim] *= self.world
            return self._own(func(*args, shape, **kwargs), dim)
        if (func in LIKE or func in FILL) and kwargs.get("generator") is None:
            like, rest = (args[0], args[1:]) if args else (kwargs.pop("input"), ())
            dim = self._dim(like.shape)
            if dim is None:
                return func(like, *rest, **kwargs)
            drawn = self._own(func(self._all(like, dim), *rest, **kwargs), dim)
            return like.copy_(drawn) if func in FILL else drawn
        return func(*args, **kwargs)

    def _backward(self, loss: Tensor, retain: bool, create: bool) -> None:
        """Gradient checkpointing draws again in the backward pass, of which a mode sees but the call: functions
        run outside of the mode, those of `torch.autograd` included. So the engine is asked for itself."""
        with self:
            _engine_run_backward(
                (loss,),
                (torch.ones_like(loss),),
                retain or create,
                create,
                (),
                allow_unreachable=True,
                accumulate_grad=True,
            )

    def _dim(self, shape: Any) -> int | None:
        if not len(shape):
            return None
        return 1 if len(shape) > 1 and shape[1] == self.rows != shape[0] else 0

    def _block(self, size: int) -> int:
        return size // self.rows if size and size % self.rows == 0 else 1

    def _all(self, like: Tensor, dim: int) -> Tensor:
        """`like` with each row (or block of rows) `world` times."""
        parts = like.unflatten(dim, (-1, 1, self._block(like.shape[dim])))
        return parts.expand(*parts.shape[: dim + 1], self.world, *parts.shape[dim + 2 :]).flatten(dim, dim + 2)

    def _own(self, drawn: Tensor, dim: int) -> Tensor:
        """This process's rows of what was drawn for all."""
        block = self._block(drawn.shape[dim] // self.world)
        return drawn.unflatten(dim, (-1, self.world, block)).select(dim + 1, self.rank).flatten(dim, dim + 1)


def _shape(func: Callable, args: Any, kwargs: dict[str, Any]) -> tuple[Any, list[int]]:
    """The arguments before the shape, and the shape, however it was given."""
    if "size" in kwargs:
        return args, list(kwargs.pop("size"))
    before = SHAPED[func]
    if func is torch.randint:  # (high, size) or (low, high, size)
        before = len(args) - 1
    rest = args[before:]
    given = rest[0] if len(rest) == 1 and not isinstance(rest[0], int) else rest
    return args[:before], list(given)
