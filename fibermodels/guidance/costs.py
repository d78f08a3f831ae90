"""What an image costs, given the representation it should have."""

from abc import ABC, abstractmethod

from torch import Tensor

from fibermodels.core import Component, Subject
from fibermodels.distances import DISTANCES, DistanceName


class Cost(Component, ABC):
    """A differentiable number for each image; the lower, the better."""

    @abstractmethod
    def forward(self, subject: Subject, images: Tensor, h: Tensor) -> Tensor:
        """Costs `(B,)`; row by row, never coupled through the batch.

        Args:
            subject: the network under study.
            images: `(B, C, H, W)` in [0, 1].
            h: targets `(B, *feature_shape)`.
        """


class FiberDistance(Cost):
    """`d(phi(x), h)`.

    Args:
        distance: a name of `fibermodels.distances.DISTANCES`.
    """

    def __init__(self, distance: DistanceName = "rms") -> None:
        super().__init__()
        if distance not in DISTANCES:
            raise ValueError(f"FiberDistance: distance must be one of {list(DISTANCES)}, got '{distance}'")
        self.distance = DISTANCES[distance]

    def forward(self, subject: Subject, images: Tensor, h: Tensor) -> Tensor:
        return self.distance(h, subject(images))
