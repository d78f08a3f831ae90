"""What guidance lowers, as a function of the clean latent, and the prior that it guides."""

from dataclasses import dataclass

import torch
from torch import Tensor

from fibermodels.core import Subject
from fibermodels.diffusion import Prior, Schedule
from fibermodels.guidance.costs import Cost


@dataclass(frozen=True)
class Objective:
    """The cost of clean latents against their targets, row by row."""

    prior: Prior
    subject: Subject
    cost: Cost
    h: Tensor
    """Targets `(B, *feature_shape)`, one for each row of the latents."""
    told: Tensor
    """What the prior is bound to, `(B, *feature_shape)`: the same, unless the target is approximated."""

    @property
    def schedule(self) -> Schedule:
        """The prior's."""
        return self.prior.schedule

    def denoise(self, z: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """The data and the noise, each `(B, D)`, that the prior expects in states `z` at times `t`."""
        return self.prior.denoiser(self.told)(z, t)

    def images(self, z: Tensor) -> Tensor:
        """`decode(z)`, `(B, C, H, W)`."""
        return self.prior.decode(z, self.told)

    def representations(self, z: Tensor) -> Tensor:
        """`phi(decode(z))`, `(B, *feature_shape)`."""
        return self.subject(self.images(z))

    def __call__(self, z: Tensor) -> Tensor:
        """The cost `(B,)` of clean latents `(B, D)`."""
        return self.cost(self.subject, self.images(z), self.h)


def gradient(cost: Tensor, *inputs: Tensor, retain_graph: bool = False) -> tuple[Tensor, ...]:
    """The gradient of every row's cost in `inputs`: rows do not mix, so that of the sum.

    Args:
        cost: `(B,)`.
        inputs: what it was computed from.
        retain_graph: for who differentiates further.

    Raises:
        ValueError: a cost that is not finite, or on which the inputs have no influence that autograd sees.
    """
    if not torch.isfinite(cost).all():
        row = int((~torch.isfinite(cost)).nonzero()[0, 0])
        raise ValueError(f"guidance: the cost of row {row} is {cost[row].item()}: expected finite costs")
    if not cost.requires_grad:
        raise ValueError("guidance: the cost has no gradient in the image: expected a differentiable subject")
    found = torch.autograd.grad(cost, inputs, torch.ones_like(cost), retain_graph, allow_unused=True)
    if any(part is None for part in found):
        raise ValueError(
            "guidance: the cost has no gradient in what is to be changed: expected a differentiable subject, "
            "and a model that uses all of it"
        )
    return found
