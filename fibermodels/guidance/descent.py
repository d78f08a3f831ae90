"""Gradient descent of each row of a batch by itself: what the optimising FiberModels share.

The optimisers are elementwise, so no row has an influence on another. A row that has stopped is not evaluated again.
"""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from fibermodels.checks import check_choice, check_finite, check_number
from fibermodels.guidance.objective import each, gradient

OptimizerName = Literal["sgd", "adam", "nadam", "adagrad"]
OPTIMIZERS: dict[OptimizerName, Callable[..., torch.optim.Optimizer]] = {
    "sgd": torch.optim.SGD,
    "adam": torch.optim.Adam,
    "nadam": torch.optim.NAdam,
    "adagrad": torch.optim.Adagrad,
}

Look = Callable[..., tuple[Tensor, Tensor, Tensor]]
"""From the indices of some rows and their variables: the losses `(b,)` to descend, the images `(b, C, H, W)`, and
the costs `(b,)` by which the best image is chosen."""


def check_descent(owner: str, optimizer: str, steps: int, learning_rate: float) -> None:
    """Raises a ValueError in the name of `owner` for arguments that `descend` does not take."""
    check_choice(owner, "optimizer", optimizer, OPTIMIZERS)
    check_number(owner, "steps", steps, least=0)
    check_number(owner, "learning_rate", learning_rate, above=0)


def descend(
    look: Look,
    start: list[Tensor],
    learning_rates: list[float],
    steps: int,
    optimizer: OptimizerName,
    stop: float | None = None,
    clip: float | None = None,
    project: Callable[[list[Tensor]], None] | None = None,
) -> Tensor:
    """The best image of each row, `(B, C, H, W)`, without gradients: of the start and the steps that follow.

    Args:
        look: see `Look`; called `steps + 1` times at most.
        start: the variables, `(B, ...)` each.
        learning_rates: one for each variable.
        steps: how many steps of the optimiser.
        optimizer: `sgd`, `adam`, `nadam` or `adagrad`.
        stop: a row ends as soon as its cost is below this number.
        clip: the largest absolute entry that a row's gradient may have; a larger gradient is scaled down.
        project: called on the variables after every step; it may change them in place.
    """
    variables = [variable.detach().clone().requires_grad_() for variable in start]
    groups = [{"params": [variable], "lr": rate} for variable, rate in zip(variables, learning_rates, strict=True)]
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
            forces = gradient(loss, *variables)
        if clip is not None:
            largest = torch.stack([force.flatten(1).abs().amax(1) for force in forces]).amax(0)
            scale = torch.where(largest > clip, clip / largest, 1.0)
            forces = tuple(force * each(scale, force) for force in forces)
        for variable, force in zip(variables, forces, strict=True):
            variable.grad = force
        descent.step()
        if project is not None:
            with torch.no_grad():
                project(variables)
    check_finite(best, "guidance: optimised images")
    return best
