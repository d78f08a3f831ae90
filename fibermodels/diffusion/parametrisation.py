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

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from fibermodels.diffusion.samplers import Estimate
from fibermodels.diffusion.schedule import Schedule, Tabulated


@dataclass(frozen=True)
class Prediction:
    """One row of the table above; `alpha` and `sigma` are `(B, 1)`, all else `(B, D)`."""

    target: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
    """What the network should say, from data, noise, alpha and sigma."""
    estimates: Callable[[Tensor, Tensor, Tensor, Tensor], Estimate]
    """The expected data and noise, from the network's output, the state, alpha and sigma."""
    straight: bool = False
    """Whether the network is given state and time of the straight path."""

    def given(self, schedule: Schedule, z: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """The states and times that the network is given in states `z` `(B, D)` at times `t` `(B,)`."""
        return schedule.straightened(z, t) if self.straight else (z, t)


PredictionName = Literal["epsilon", "sample", "v_prediction", "flow"]
PREDICTIONS: dict[PredictionName, Prediction] = {
    "epsilon": Prediction(
        lambda data, noise, alpha, sigma: noise,
        lambda noise, z, alpha, sigma: ((z - sigma * noise) / alpha, noise),
    ),
    "sample": Prediction(
        lambda data, noise, alpha, sigma: data,
        lambda data, z, alpha, sigma: (data, (z - alpha * data) / sigma),
    ),
    "v_prediction": Prediction(
        lambda data, noise, alpha, sigma: alpha * noise - sigma * data,
        lambda v, z, alpha, sigma: (alpha * z - sigma * v, sigma * z + alpha * v),
    ),
    "flow": Prediction(
        lambda data, noise, alpha, sigma: noise - data,
        lambda u, z, alpha, sigma: ((z - sigma * u) / (alpha + sigma), (z + alpha * u) / (alpha + sigma)),
        straight=True,
    ),
}


@dataclass(frozen=True)
class Parametrisation:
    """How a foreign network is asked, and how it is understood."""

    schedule: Schedule
    """The one it was trained with."""
    prediction: PredictionName
    table: Tabulated | None
    """The schedule's table of discrete steps; None for flow matching."""
    steps: int
    """What time 1 is for the network of flow matching, or the length of the table."""
    limit: float | None = None
    """Data are within `[-limit, limit]`, so their estimate is clipped to it; None does not clip."""

    def __post_init__(self) -> None:
        if self.prediction not in PREDICTIONS:
            raise ValueError(f"prediction_type must be one of {list(PREDICTIONS)}, got '{self.prediction}'")
        if PREDICTIONS[self.prediction].straight != (self.table is None):
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
        states, times = PREDICTIONS[self.prediction].given(self.schedule, z, t)
        return states, self.steps * times if self.table is None else self.table.index(times)

    def estimates(self, output: Tensor, z: Tensor, t: Tensor) -> Estimate:
        """The expected data and noise, each `(B, D)`, from the network's output, finite at time 0, too: a network that
        predicts the data has its noise divided by the first step's sigma there.

        Where data are clipped, the noise is that of the clipped ones, so the state stays `alpha data + sigma noise`."""
        alpha, sigma = self.schedule.shares(t)
        first = sigma.clamp(min=self.schedule.sigma(t.new_full((), 1 / self.steps)))
        estimates = PREDICTIONS[self.prediction].estimates
        data, noise = estimates(output, z, alpha, first if self.prediction == "sample" else sigma)
        if self.limit is None:
            return data, noise
        clipped = data.clamp(-self.limit, self.limit)
        return clipped, noise + alpha / first * (data - clipped)
