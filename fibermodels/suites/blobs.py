"""Three Gaussian blobs, one in each channel, of which the subject sees mass, centroid and inertia: fibers are spheres.

Channel `k` of a 32 x 32 image is `a exp(-|p - p_k|^2 / (2 s^2))` with `s = 1.2` pixels. Its square is a narrower
Gaussian about the same centre. The light, which is the sum of the squared channels, has the mass `3 pi s^2 a^2`, the
centroid `c = mean p_k` and the inertia `sum_k |p_k - c|^2 / 3 + s^2`; squares hardly feel a faint background. The
content of an image is `(a, c, R)` with `R^2 = sum_k |p_k - c|^2`. Its fiber is the sphere of all placements with this
radius, `(p_k - c)_k = R Q w`, where `w` is a point of the sphere S^3 in R^4 and the columns of `Q` `(6 x 4)` are an
orthonormal basis of the placements with centroid 0. No continuous map of R^3 covers a sphere exactly once.

The law on the sphere is a mixture of three von Mises-Fisher distributions, whose weights and concentration
`8 exp((R - 6) / 3)` depend on the content.

A blob keeps 5 standard deviations from the border, so sums over pixels are integrals up to rounding.
"""

from math import pi

import torch
from torch import Tensor

from fibermodels.core import Subject
from fibermodels.data.digits import Split
from fibermodels.noise import seeded
from fibermodels.suites.suite import Suite

SIZE, SIGMA, CENTRE, RADIUS = 32, 1.2, 15.5, 6.0
ANGLES = 513
"""Grid points of the distribution function of the angle between a point and its mode."""

_PAIRS = torch.tensor([[1.0, -1.0, 0.0], [1.0, 1.0, -2.0]]) / torch.tensor([[2.0], [6.0]]).sqrt()
BASIS = torch.kron(_PAIRS.T.contiguous(), torch.eye(2))
"""Q `(6, 4)`: the rows are `x_1, y_1, x_2, y_2, x_3, y_3`."""
MODES = torch.eye(4)[:3]
"""The mean directions `(3, 4)` of the mixture, orthogonal to one another."""


def _grid(images: Tensor) -> tuple[Tensor, Tensor]:
    """Coordinates x and y of the pixels, `(H, W)` each."""
    y, x = torch.meshgrid(
        *(torch.arange(n, dtype=images.dtype, device=images.device) for n in images.shape[-2:]), indexing="ij"
    )
    return x, y


def moments(images: Tensor) -> Tensor:
    """`(a, x, y, R)` of the light of images `(..., 3, H, W)`: `(..., 4)`."""
    light = images.square().sum(-3)
    x, y = _grid(light)
    mass = light.sum((-2, -1)).clamp_min(1e-6)
    cx, cy = ((light * axis).sum((-2, -1)) / mass for axis in (x, y))
    distance = (x - cx[..., None, None]).square() + (y - cy[..., None, None]).square()
    inertia = (light * distance).sum((-2, -1)) / mass
    amplitude, radius = (mass / (3 * pi * SIGMA**2)).sqrt(), (3 * (inertia - SIGMA**2)).clamp_min(1e-6).sqrt()
    return torch.stack((amplitude, cx, cy, radius), -1)


class Blobs(Suite):
    """Train, validation and test images of three blobs.

    Args:
        size: images of the training split; validation has a tenth of it, and test a fifth.
        batch_size: images per batch and process.
        seed: the seed of the placements and of the order of the training images.
    """

    noise_dim = 6

    def __init__(self, size: int = 50_000, batch_size: int = 256, seed: int = 0) -> None:
        if size < 10:
            raise ValueError(f"data.size: expected at least 10, got {size}")
        super().__init__("blobs", batch_size, seed)
        self.size = size

    def contents(self, split: Split) -> Tensor:
        """`(a, x, y, R)`: uniform on [.5, 1], [13.5, 17.5] twice, and [4, 8]."""
        count = {"train": self.size, "val": self.size // 10, "test": self.size // 5}[split]
        unit = torch.rand(count, 4, generator=seeded("blobs", split))
        return torch.tensor([0.5, CENTRE - 2, CENTRE - 2, 4.0]) + unit * torch.tensor([0.5, 4.0, 4.0, 4.0])

    def content(self, images: Tensor) -> Tensor:
        return moments(images.double()).to(images.dtype)

    def draw(self, noise: Tensor, content: Tensor) -> Tensor:
        """Points `(..., B, 4)` of the unit sphere."""
        x, radius = (content[:, 1] - CENTRE) / 2, content[:, 3]
        weights = torch.stack((x, 0.5 * (radius - RADIUS), torch.zeros_like(x)), -1).softmax(-1)
        edges = weights.cumsum(-1)[..., :2]
        mode = (torch.special.ndtr(noise[..., :1]) > edges).sum(-1)
        angle = _angles(torch.special.ndtr(noise[..., 1]), 8 * torch.exp((radius - RADIUS) / 3))
        mean = MODES.to(noise)[mode]
        side = noise[..., 2:] - (noise[..., 2:] * mean).sum(-1, keepdim=True) * mean
        side = side / side.norm(dim=-1, keepdim=True).clamp_min(1e-9)
        return angle.cos()[..., None] * mean + angle.sin()[..., None] * side

    def render(self, content: Tensor, factors: Tensor) -> Tensor:
        centre, radius = content[:, 1:3], content[:, 3]
        placed = (radius[:, None] * (factors @ BASIS.T.to(factors))).unflatten(-1, (3, 2)) + centre[:, None]
        line = torch.arange(SIZE, dtype=factors.dtype, device=factors.device)
        columns = torch.exp(-(line - placed[..., :1]).square() / (2 * SIGMA**2))
        rows = torch.exp(-(line - placed[..., 1:]).square() / (2 * SIGMA**2))
        return content[:, 0, None, None, None] * rows[..., None] * columns[..., None, :]

    def factors(self, images: Tensor, x: Tensor) -> Tensor:
        """The placement of the centres of the channels' squares on the sphere."""
        across, down = _grid(images)
        light = images.square()
        mass = light.sum((-2, -1)).clamp_min(1e-9)
        centres = torch.stack([(light * axis).sum((-2, -1)) / mass for axis in (across, down)], -1)  # (..., 3, 2)
        placed = (centres - centres.mean(-2, keepdim=True)).flatten(-2) @ BASIS.to(images)
        return placed / placed.norm(dim=-1, keepdim=True).clamp_min(1e-9)

    def modes(self, factors: Tensor, content: Tensor) -> Tensor:
        """The nearest of the three mean directions."""
        return torch.nn.functional.one_hot((factors @ MODES.T.to(factors)).argmax(-1), len(MODES))


def _angles(probability: Tensor, concentration: Tensor) -> Tensor:
    """Quantiles of the angle `t` between a point of S^3 and the mean of a von Mises-Fisher distribution, whose density
    is proportional to `sin(t)^2 exp(k cos t)` on [0, pi]; by interpolation on a grid.

    Args:
        probability: `(..., B)` in [0, 1].
        concentration: k, `(B,)`.
    """
    grid = torch.linspace(0, pi, ANGLES, dtype=torch.double, device=probability.device)
    density = grid.sin().square() * torch.exp(concentration.double()[:, None] * (grid.cos() - 1))
    mass = torch.cumulative_trapezoid(density, grid, dim=1)
    mass = torch.nn.functional.pad(mass / mass[:, -1:], (1, 0))  # (B, ANGLES), from 0 to 1
    wanted = probability.double().reshape(-1, probability.shape[-1]).T.contiguous()  # (B, ...)
    right = torch.searchsorted(mass, wanted).clamp(1, ANGLES - 1)
    low, high = mass.gather(1, right - 1), mass.gather(1, right)
    angle = grid[right - 1] + (wanted - low) / (high - low).clamp_min(1e-300) * (grid[1] - grid[0])
    return angle.T.reshape(probability.shape).to(probability.dtype)


class BlobMoments(Subject):
    """Mass, centroid and inertia of the light, through a fixed injective network: representations `(B, 16)`.

    With the standardised moments `v` `(B, 4)`, the representation is `(v, sin(v A))` with a fixed random matrix `A`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.image_shape, self.feature_shape = (3, SIZE, SIZE), (16,)
        self.mixing: Tensor
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mixing", 0.5 * torch.randn(4, 12, generator=seeded("blob moments")))
        self.register_buffer("mean", torch.tensor([0.75, CENTRE, CENTRE, RADIUS]))
        self.register_buffer("std", torch.tensor([0.5, 4.0, 4.0, 4.0]) / 12**0.5)
        self.freeze()

    def forward(self, images: Tensor) -> Tensor:
        v = (moments(images) - self.mean) / self.std
        return torch.cat((v, torch.sin(v @ self.mixing)), -1)
