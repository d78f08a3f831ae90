"""Optimise the phase of an image's spectrum and keep its magnitude: activation maximisation without a prior.

    x = sigmoid(irfft2(r exp(i phi))),    phi* = argmin_phi cost(x)

With fixed magnitudes an optimiser cannot put its signal into high frequencies, as it does with free pixels. Here

    r(f) = 1 / max(f, 1 / max(H, W))^decay,    f in cycles per pixel,

and 0 for the mean, scaled to unit variance over the pixels of a channel, which no phase changes (Parseval). The paper
takes a data set's mean spectrum and decorrelated colours. Its random crops and noise belong to the cost: `Cutouts`.

The image is real if the spectrum has `X(-k) = conj X(k)`. The half that rFFT stores fulfils this except in its first
column, and in its last column where the width is even: there half of the phases must be minus the other half.

Reference: Fel et al., MACO, arXiv 2306.06805, section 3.
"""

import math

import torch
from torch import Tensor

from fibermodels.core import FiberModel, Subject
from fibermodels.guidance.costs import Cost, FiberDistance
from fibermodels.guidance.descent import OptimizerName, check_descent, descend
from fibermodels.noise import pushed
from fibermodels.spaces import HasInputSpace


class MACO(FiberModel, HasInputSpace):
    """Images with a given magnitude of their spectrum, before the sigmoid, and phases that lower a cost.

    Every sample starts from uniform random phases.

    Args:
        subject: the network whose fibers are sampled.
        cost: what is lowered; None takes the fiber's distance.
        steps: steps of the optimiser.
        learning_rate: of the optimiser, in radians.
        optimizer: `nadam`, `adam`, `adagrad` or `sgd`.
        decay: the power with which the magnitude falls with the frequency; 0 is white.
    """

    network_calls = 0

    def __init__(
        self,
        subject: Subject,
        cost: Cost | None = None,
        steps: int = 256,
        learning_rate: float = 1.0,
        optimizer: OptimizerName = "nadam",
        decay: float = 1.0,
    ) -> None:
        super().__init__()
        check_descent("MACO", optimizer, steps, learning_rate)
        self.subject, self.cost = subject, cost or FiberDistance()
        self.steps, self.learning_rate, self.decay = steps, learning_rate, decay
        self.optimizer: OptimizerName = optimizer
        self.image_shape = subject.image_shape

    def _sample(self, h: Tensor, n: int, generator: torch.Generator | None, x: Tensor | None) -> Tensor:
        channels, height, width = self.image_shape
        return pushed(self.optimise, (channels, height, width // 2 + 1), h, n, generator)

    def optimise(self, noise: Tensor, h: Tensor) -> Tensor:
        """The best images `(B, C, H, W)` on the way from phases `pi erf(noise / sqrt(2))`, without gradients."""

        def look(rows: Tensor, phases: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            images = self.signal(phases).sigmoid()
            cost = self.cost(self.subject, images, h[rows])
            return cost, images, cost

        return descend(look, [math.pi * torch.erf(noise / 2**0.5)], [self.learning_rate], self.steps, self.optimizer)

    def magnitude(self, like: Tensor) -> Tensor:
        """`r`, `(H, W // 2 + 1)`, with the device and dtype of `like`."""
        _, height, width = self.image_shape
        u = torch.fft.fftfreq(height, device=like.device, dtype=like.dtype)
        v = torch.fft.rfftfreq(width, device=like.device, dtype=like.dtype)
        frequency = torch.hypot(u[:, None], v)
        r = frequency.clamp(min=1 / max(height, width)) ** -self.decay * (frequency > 0)
        twice = torch.full_like(v, 2.0)  # a stored column also stands for its mirror
        twice[self._edges(like.device)] = 1
        return r * height * width / (twice * r.square()).sum().sqrt()

    def signal(self, phases: Tensor) -> Tensor:
        """The image before the sigmoid, `(B, C, H, W)`, of phases `(B, C, H, W // 2 + 1)` in radians."""
        _, height, width = self.image_shape
        up = torch.fft.fftfreq(height, device=phases.device).sign()[:, None]
        up = torch.where(torch.arange(height, device=phases.device)[:, None] * 2 == height, 0, up)
        mirror = -phases.flip(-2).roll(1, -2)
        conjugate = torch.where(up > 0, phases, torch.where(up < 0, mirror, 0.0))
        phases = torch.where(self._edges(phases.device), conjugate, phases)
        return torch.fft.irfft2(torch.polar(self.magnitude(phases).expand_as(phases), phases), (height, width))

    def _edges(self, device: torch.device) -> Tensor:
        """The columns of the half spectrum that are their own mirror."""
        width = self.image_shape[-1]
        column = torch.arange(width // 2 + 1, device=device)
        return (column == 0) | (2 * column == width)
