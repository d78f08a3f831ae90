"""The mean losses of an epoch, which a run that is resumed in its middle goes on adding up."""

import math

import torch
from torch import Tensor


class NonFiniteLoss(RuntimeError):
    """A loss term became NaN or infinite."""


class EpochMeans:
    """Sums of the loss terms over the steps of an epoch.

    Values stay on their device until `total` is asked for, so a step does not wait for an accelerator.
    """

    def __init__(self) -> None:
        self.restart()

    def restart(self, sums: list[float] | None = None, steps: int = 0) -> None:
        """Begins an epoch: from nothing, or from the sums of so many steps."""
        self.pending: list[Tensor] = []
        self.sums, self.steps = sums or [], steps

    def add(self, means: dict[str, Tensor]) -> None:
        """Adds the terms of one step."""
        self.pending.append(torch.stack(list(means.values())))

    def total(self) -> list[float]:
        """The sums so far, in the order of the terms."""
        if self.pending:
            steps = torch.stack(self.pending).cpu().double()
            self.sums = (steps.sum(0) + (torch.tensor(self.sums).double() if self.sums else 0)).tolist()
            self.steps += len(steps)
            self.pending = []
        return self.sums


def check_terms(values: dict[str, Tensor], where: str) -> None:
    """Refuses loss terms that are NaN or infinite."""
    bad = [name for name, value in values.items() if not math.isfinite(value)]
    if bad:
        terms = " and ".join(name for name in bad if name != "loss") or "sum"
        raise NonFiniteLoss(
            f"the loss term {terms} is not finite at {where}; the checkpoints of earlier epochs are kept"
        )
