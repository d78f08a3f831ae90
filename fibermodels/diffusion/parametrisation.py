"""What a network predicts, and how data and noise follow from it.

For `z_t = alpha z_0 + sigma e` with `alpha^2 + sigma^2 = 1` a network gives one of

    epsilon         e,                       z_0 = (z_t - sigma e) / alpha
    sample          z_0,                     e = (z_t - alpha z_0) / sigma
    v_prediction    v = alpha e - sigma z_0, z_0 = alpha z_t - sigma v,    e = sigma z_t + alpha v
    flow            u = e - z_0,             z_0 = y - s u,                e = y + (1 - s) u

where `y = z_t / (alpha + sigma)` and `s = sigma / (alpha + sigma)` are state and time of flow matching's straight
path, `y = (1 - s) z_0 + s e`; a network that predicts `u` is given `y`, any other `z_t`.

References: Salimans & Ho, arXiv 2202.00512 (v); Lipman et al., arXiv 2210.02747 (flow).
"""

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from fibermodels.diffusion.schedule import Schedule
from fibermodels.diffusion.tabulated import Tabulated

Prediction = Literal["epsilon", "sample", "v_prediction", "flow"]
PREDICTIONS: tuple[Prediction, ...] = get_args(Prediction)


@dataclass(frozen=True)
class Parametrisation:
    """How a foreign network is asked, and how it is understood."""

    schedule: Schedule
    """The one it was trained with."""
    prediction: Prediction
    table: Tabulated | None
    """The schedule's table of discrete steps; None for flow matching."""
    steps: int
    """What time 1 is for the network of flow matching, or the length of the table."""

    def __post_init__(self) -> None:
        if self.prediction not in PREDICTIONS:
            raise ValueError(f"prediction_type must be one of {list(PREDICTIONS)}, got '{self.prediction}'")
        if (self.prediction == "flow") != (self.table is None):
            raise ValueError(
                f"prediction_type '{self.prediction}' and the scheduler do not belong together: 'flow' goes with flow "
                "matching, the others with a table of betas"
            )
        if self.prediction == "epsilon" and not self.schedule.alpha(torch.ones(1, dtype=torch.double)) > 1e-6:
            raise ValueError(
                "prediction_type 'epsilon' says nothing of the data at time 1, where this schedule reaches zero "
                "signal: expected 'v_prediction' or 'sample'"
            )

    def given(self, z: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """What the network is given in states `z` `(B, D)` at times `t` `(B,)`: its own states and time steps."""
        if self.table is not None:
            return z, self.table.index(t)
        alpha, sigma = self.schedule.alpha(t), self.schedule.sigma(t)
        return z / (alpha + sigma)[:, None], self.steps * sigma / (alpha + sigma)

    def estimates(self, output: Tensor, z: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """The expected data and noise, each `(B, D)`, from the network's output.

        A network that predicts the sample is finite at time 0, too: there, below its first step, its noise is
        divided by the first step's sigma.
        """
        alpha, sigma = self.schedule.alpha(t)[:, None], self.schedule.sigma(t)[:, None]
        if self.prediction == "epsilon":
            return (z - sigma * output) / alpha, output
        if self.prediction == "v_prediction":
            return alpha * z - sigma * output, sigma * z + alpha * output
        if self.prediction == "sample":
            first = self.schedule.sigma(t.new_full((), 1 / self.steps))
            return output, (z - alpha * output) / sigma.clamp(min=first)
        whole = alpha + sigma
        return (z - sigma * output) / whole, (z + alpha * output) / whole
