"""Optimise pixels, with penalties instead of a prior: the oldest way to invert a network.

    x* = argmin_x  cost(x) + a TV(x) + b mean((x - c)^2),    c = 1/2 and x in [0, 1] for images

The start is `c`, grey, with a little noise, and after every step the pixels are clipped to their range. `TV` is the
mean over pixels of the absolute differences to the neighbours below and to the right. Other inputs than images have no
range and `c = 0`; those of a vector have no neighbours.

Reference: Mahendran & Vedaldi, arXiv 1412.0035 (their penalties have other exponents).
"""

import torch
from torch import Tensor

from fibermodels.checks import check_numbers
from fibermodels.core import FiberModel, Subject
from fibermodels.guidance.costs import Cost, FiberDistance
from fibermodels.guidance.descent import OptimizerName, check_descent, descend
from fibermodels.noise import pushed
from fibermodels.spaces import HasInputSpace


class PixelOptimisation(FiberModel, HasInputSpace):
    """Inputs whose numbers lower a cost and two penalties.

    Args:
        subject: the network whose fibers are sampled.
        cost: what is lowered; None takes the fiber's distance.
        steps: steps of the optimiser.
        learning_rate: of the optimiser.
        optimizer: `adam`, `nadam`, `adagrad` or `sgd`.
        total_variation: the weight of the total variation.
        l2: the weight of the mean squared distance to `c`.
        noise: standard deviation of the noise on `c` that every sample starts from.
    """

    network_calls = 0

    def __init__(
        self,
        subject: Subject,
        cost: Cost | None = None,
        steps: int = 256,
        learning_rate: float = 0.02,
        optimizer: OptimizerName = "adam",
        total_variation: float = 0.1,
        l2: float = 0.1,
        noise: float = 0.1,
    ) -> None:
        super().__init__()
        check_descent("PixelOptimisation", optimizer, steps, learning_rate)
        check_numbers("PixelOptimisation", {"total_variation": total_variation, "l2": l2, "noise": noise}, least=0)
        self.subject, self.cost = subject, cost or FiberDistance()
        self.steps, self.learning_rate = steps, learning_rate
        self.optimizer: OptimizerName = optimizer
        self.total_variation, self.l2, self.noise = total_variation, l2, noise
        self.input_space = subject.input_space

    def _sample(self, h: Tensor, n: int, generator: torch.Generator | None, x: Tensor | None) -> Tensor:
        return pushed(self.optimise, self.input_shape, h, n, generator)

    def optimise(self, noise: Tensor, h: Tensor) -> Tensor:
        """The inputs `(B, *input_shape)` of the lowest penalised cost on the way from noise, without gradients."""

        centre, clipped = self.input_space.centre, self.input_space.clip

        def look(rows: Tensor, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            cost = self.cost(self.subject, images, h[rows]) + self.total_variation * total_variation(images)
            cost = cost + self.l2 * (images - centre).flatten(1).square().mean(1)
            return cost, images, cost

        def clip(variables: list[Tensor]) -> None:
            variables[0].copy_(clipped(variables[0]))

        start = clipped(centre + self.noise * noise)
        return descend(look, [start], [self.learning_rate], self.steps, self.optimizer, project=clip)


def total_variation(images: Tensor) -> Tensor:
    """The mean absolute difference to the neighbours below and to the right, `(B,)`, of images `(B, C, H, W)`; of
    signals `(B, C, L)` to the next one; of vectors 0."""
    total = images.new_zeros(len(images))
    for dim in range(2, images.ndim):
        total = total + images.diff(dim=dim).abs().flatten(1).sum(1)
    return total / images[0].numel()
