"""Gradient descent that every row of a batch does by itself: what the optimising FiberModels share.

All rows sit in one tensor, and the optimisers are elementwise, so no row knows of another. A row that is
stopped is not evaluated again, and the image it is answered with is the best it has seen.
"""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from fibermodels.guidance.objective import gradient

OptimizerName = Literal["sgd", "adam", "nadam"]
OPTIMIZERS: dict[OptimizerName, Callable[..., torch.optim.Optimizer]] = {
    "sgd": torch.optim.SGD,
    "adam": torch.optim.Adam,
    "nadam": torch.optim.NAdam,
}

Look = Callable[..., tuple[Tensor, Tensor, Tensor]]
"""From the indices of some rows and their variables: the losses `(b,)` to descend, the images `(b, C, H, W)`, and
the costs `(b,)` by which these are judged."""


def check_descent(owner: str, optimizer: str, steps: int, lr: float) -> None:
    """Raises a ValueError in the name of `owner` for what `descend` does not do."""
    if optimizer not in OPTIMIZERS:
        raise ValueError(f"{owner}: optimizer must be one of {list(OPTIMIZERS)}, got '{optimizer}'")
    if steps < 0:
        raise ValueError(f"{owner}: steps must be at least 0, got {steps}")
    if not lr > 0:
        raise ValueError(f"{owner}: lr must be positive, got {lr}")


def descend(
    look: Look,
    start: list[Tensor],
    lr: list[float],
    steps: int,
    optimizer: OptimizerName,
    stop: float | None = None,
    clip: float | None = None,
    project: Callable[[list[Tensor]], None] | None = None,
) -> Tensor:
    """The best image of each row, `(B, C, H, W)`, without gradients: the start, or what up to `steps` steps led to.

    Args:
        look: see `Look`; called `steps + 1` times at most.
        start: the variables, `(B, ...)` each.
        lr: the learning rate of each.
        steps: how many steps of the optimiser.
        optimizer: `sgd`, `adam` or `nadam`.
        stop: a row ends as soon as its cost is below.
        clip: the largest absolute entry that a row's gradient may have; it is scaled down to it.
        project: called on the variables after every step, to change them in place.

    Raises:
        ValueError: see `gradient`.
    """
    variables = [variable.detach().clone().requires_grad_() for variable in start]
    groups = [{"params": [variable], "lr": rate} for variable, rate in zip(variables, lr, strict=True)]
    descent = OPTIMIZERS[optimizer](groups)
    rows = torch.arange(len(start[0]), device=start[0].device)
    best, lowest = torch.empty(0), torch.empty(0)
    for step in range(steps + 1):
        with torch.set_grad_enabled(step < steps):
            loss, images, cost = look(rows, *(variable[rows] for variable in variables))
        images, cost = images.detach(), cost.detach()
        if not step:
            best, lowest = images.clone(), cost.clone()
        better = cost < lowest[rows]
        best[rows[better]], lowest[rows[better]] = images[better], cost[better]
        if stop is not None:
            rows = rows[~(cost < stop)]
        if step == steps or not len(rows):
            break
        with torch.enable_grad():
            forces = _clipped(gradient(loss, *variables), clip)
        for variable, force in zip(variables, forces, strict=True):
            variable.grad = force
        descent.step()
        if project is not None:
            with torch.no_grad():
                project(variables)
    return best


def _clipped(gradients: tuple[Tensor, ...], limit: float | None) -> tuple[Tensor, ...]:
    if limit is None:
        return gradients
    largest = torch.stack([part.flatten(1).abs().amax(1) for part in gradients]).amax(0)
    scale = torch.where(largest > limit, limit / largest, 1.0)
    return tuple(part * scale.view(-1, *(1 for _ in part.shape[1:])) for part in gradients)
