"""What guidance lowers, as a function of the clean latent, and the contract of all guidance."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from fibermodels.checks import NotFinite
from fibermodels.component import Component
from fibermodels.core import Subject
from fibermodels.diffusion import Denoiser, Prior, Schedule
from fibermodels.guidance.costs import Cost


@dataclass(frozen=True)
class Objective:
    """The cost of clean latents against their targets, row by row, and the denoiser that is bound to them."""

    prior: Prior
    subject: Subject
    cost: Cost
    h: Tensor
    """Targets `(B, *feature_shape)`, one for each row of the latents."""
    told: Tensor
    """What the prior is bound to, `(B, *feature_shape)`: `h`, unless `aimed` has changed the targets."""
    denoise: Denoiser
    """The prior's denoiser, bound to `told` once: from states `(B, D)` and times `(B,)` to data and noise."""

    @classmethod
    def bound(cls, prior: Prior, subject: Subject, cost: Cost, h: Tensor) -> Self:
        """The objective of targets `h`, to which the prior is bound here and nowhere else."""
        return cls(prior, subject, cost, h, h, prior.denoiser(h))

    def aimed(self, h: Tensor) -> Self:
        """The same with other targets `(B, *feature_shape)`; the prior stays bound to what it was."""
        return replace(self, h=h)

    @property
    def schedule(self) -> Schedule:
        """The prior's."""
        return self.prior.schedule

    def representations(self, z: Tensor) -> Tensor:
        """`phi(decode(z))`, `(B, *feature_shape)`."""
        return self.subject(self.prior.decode(z, self.told))

    def __call__(self, z: Tensor) -> Tensor:
        """The cost `(B,)` of clean latents `(B, D)`."""
        return self.cost(self.subject, self.prior.decode(z, self.told), self.h)


def check_fits(owner: object, subject: Subject, shape: tuple[int, ...], maker: str) -> None:
    """Refuses inputs of a shape that the subject does not take, in the name of who makes them."""
    wanted, word = subject.input_shape, subject.input_space.word
    if tuple(shape) != wanted:
        raise ValueError(f"{type(owner).__name__}: the subject takes {word} {wanted}, {maker} makes {tuple(shape)}")


def each(row: Tensor, like: Tensor) -> Tensor:
    """`(B,)` as `(B, 1, ...)`, with as many dimensions as `like`."""
    return row.view(-1, *(1 for _ in like.shape[1:]))


def gradient(cost: Tensor, *inputs: Tensor, retain_graph: bool = False) -> tuple[Tensor, ...]:
    """The gradient of each row's cost in `inputs`. Rows do not mix, so it is the gradient of the sum.

    Args:
        cost: `(B,)`.
        inputs: what it was computed from.
        retain_graph: keep the graph, to differentiate further.

    Raises:
        NotFinite: a cost that is not finite.
        ValueError: a cost on which the inputs have no influence that autograd sees.
    """
    if not torch.isfinite(cost).all():
        row = int((~torch.isfinite(cost)).nonzero()[0, 0])
        raise NotFinite(f"guidance: the cost of row {row} is {cost[row].item()}: expected finite costs")
    if not cost.requires_grad:
        raise ValueError("guidance: the cost has no gradient in the image: expected a differentiable subject")
    found = torch.autograd.grad(cost, inputs, torch.ones_like(cost), retain_graph, allow_unused=True)
    if any(part is None for part in found):
        raise ValueError(
            "guidance: the cost has no gradient in what is to be changed: expected a differentiable subject, "
            "and a model that uses all of it"
        )
    return found


class Guidance(Component, ABC):
    """Steers one step of a sampler, every row by itself."""

    @abstractmethod
    def step(self, objective: Objective, z: Tensor, t: Tensor, s: Tensor, strength: Tensor) -> tuple[Tensor, Tensor]:
        """The data and the noise, each `(B, D)`, with which the sampler goes on from `t` to `s`; without gradients.

        The state that it goes on from is `alpha data + sigma noise` at time `t`: `z`, or where the guidance moves it.

        Args:
            objective: what to lower, with the denoiser of the prior.
            z: the state `(B, D)`.
            t: its time `(B,)`, in (0, 1].
            s: the time `(B,)` that the step leads to, `s <= t` (Heun's second half has `s = t`).
            strength: `(B,)`, at least 0: what the guidance's own force is multiplied by, row by row. Where it is 0
                the result is `objective.denoise(z, t)`, exactly.
        """

    @abstractmethod
    def calls(self, t: float) -> int:
        """Calls of the denoiser (forward) in one step from time `t`."""

    def check(self, prior: Prior) -> None:
        """Raises a ValueError for a prior that it cannot guide, such as one whose schedule reaches zero signal."""
