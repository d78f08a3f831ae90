"""Linear networks with their exact samplers: what the tests of applications are measured by."""

import torch
from torch import Tensor

from fibermodels.core import Pushforward, Subject
from fibermodels.noise import seeded

SIDE, SPREAD = 6, 0.05


class Linear(Subject):
    """`h = A x` of grey images 6 x 6."""

    def __init__(self, matrix: Tensor) -> None:
        super().__init__()
        self.image_shape, self.feature_shape = (1, SIDE, SIDE), (len(matrix),)
        self.matrix: Tensor
        self.register_buffer("matrix", matrix)
        self.freeze()

    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1) @ self.matrix.T


class LinearFiber(Pushforward):
    """Exact: normal pixels about 1/2 with a deviation of .05, given `A x = h`."""

    network_calls = 0

    def __init__(self, subject: Linear) -> None:
        super().__init__()
        self.matrix, self.inverse = subject.matrix, torch.linalg.pinv(subject.matrix)
        self.image_shape, self.noise_shape = subject.image_shape, (SIDE * SIDE,)

    def push(self, noise: Tensor, h: Tensor) -> Tensor:
        x = 0.5 + SPREAD * noise
        return (x + (h - x @ self.matrix.T) @ self.inverse.T).unflatten(1, self.image_shape)


def linear(rows: int = 12, name: str = "left") -> Linear:
    """A network that sees random mixtures of the pixels in the left half."""
    matrix = torch.randn(rows, SIDE, SIDE, generator=seeded(name)) / SIDE
    matrix[:, :, SIDE // 2 :] = 0
    return Linear(matrix.flatten(1))


def pictures(count: int) -> Tensor:
    return 0.5 + SPREAD * torch.randn(count, 1, SIDE, SIDE, generator=seeded("pictures"))


def correlation(a: Tensor, b: Tensor) -> float:
    return float(torch.corrcoef(torch.stack((a.flatten(), b.flatten())))[0, 1])


class Maps(Linear):
    """The pixels of each quarter, weighted: maps `(4, 2, 2)`."""

    def __init__(self) -> None:
        super().__init__(torch.eye(SIDE**2))
        self.feature_shape = (4, 2, 2)
        self.register_buffer("weight", torch.rand(4, SIDE // 2, SIDE // 2, generator=seeded("maps")))

    def forward(self, images: Tensor) -> Tensor:
        parts = images.reshape(-1, 1, 2, SIDE // 2, 2, SIDE // 2).transpose(3, 4)  # (B, 1, 2, 2, 3, 3)
        return (parts * self.weight[:, None, None]).sum((4, 5))


def logits(rows: int, name: str) -> Linear:
    """A linear classifier of sharp decisions."""
    matrix = torch.randn(rows, SIDE**2, generator=seeded(name))
    return Linear(20 / SIDE * (matrix - matrix.mean(1, keepdim=True)))  # grey decides for nothing


class Whole(LinearFiber):
    """The sampler of the network that sees all pixels: what it is told is the image."""

    def __init__(self) -> None:
        super().__init__(Linear(torch.eye(SIDE**2)))


class Centred(Linear):
    """`h = A (x - 1/2)`: 0 for grey."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images - 0.5)


class CentredFiber(LinearFiber):
    """The exact sampler of `Centred`."""

    def push(self, noise: Tensor, h: Tensor) -> Tensor:
        return super().push(noise, h + self.matrix.sum(1) / 2)
