"""The contract of all guidance: what steers a prior's sampling towards a low cost, training-free."""

from abc import ABC, abstractmethod

from torch import Tensor

from fibermodels.component import Component
from fibermodels.diffusion import Prior
from fibermodels.guidance.objective import Objective


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
