"""Costs of a changed copy of the image: filtered, cut out, or with a part held fixed."""

from typing import Self, get_args

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from fibermodels.checks import check_choice, check_number
from fibermodels.core import Subject
from fibermodels.filters import FilterName, low_pass
from fibermodels.guidance.costs import Cost
from fibermodels.noise import seeded


class LowPass(Cost):
    """The cost of the image and of its low-pass copies, so that the subject's reason is not in high frequencies alone.

        unfiltered * cost(x) + sum_c w_c cost(low_pass_c(x))

    Reference: EquiDiff (invariant sets by optimisation through a diffusion model), eqs. 3.4 to 3.6: ideal filters
    at 0.1, 0.3, 0.5, 0.7 and 0.9 of the Nyquist frequency, weighted by the cut-off. Its search over filters
    prefers one Gaussian with `cutoff` 0.1.

    Args:
        cost: the inner cost.
        cutoffs: shares of the Nyquist frequency; the standard deviation, for `gaussian`.
        weights: one for each cut-off; None takes the cut-offs themselves.
        filter: `ideal`, `gaussian` or `butterworth`.
        order: of `butterworth`.
        unfiltered: the weight of the image itself.
    """

    def __init__(
        self,
        cost: Cost,
        cutoffs: list[float] | None = None,
        weights: list[float] | None = None,
        filter: FilterName = "ideal",
        order: int = 2,
        unfiltered: float = 1.0,
    ) -> None:
        super().__init__()
        self.cutoffs = [0.1, 0.3, 0.5, 0.7, 0.9] if cutoffs is None else list(cutoffs)
        self.weights = self.cutoffs if weights is None else list(weights)
        if not self.cutoffs or not min(self.cutoffs) > 0:
            raise ValueError(f"LowPass: cutoffs must be positive shares of the Nyquist frequency, got {cutoffs}")
        if len(self.weights) != len(self.cutoffs):
            raise ValueError(f"LowPass: expected a weight for each of {self.cutoffs}, got {weights}")
        check_choice("LowPass", "filter", filter, get_args(FilterName))
        check_number("LowPass", "order", order, least=1)
        self.cost, self.order, self.unfiltered = cost, order, unfiltered
        self.filter: FilterName = filter

    def forward(self, subject: Subject, images: Tensor, h: Tensor) -> Tensor:
        total = self.unfiltered * self.cost(subject, images, h)
        for cutoff, weight in zip(self.cutoffs, self.weights, strict=True):
            total = total + weight * self.cost(subject, low_pass(images, cutoff, self.filter, self.order), h)
        return total


class Cutouts(Cost):
    """The mean cost of noisy square cutouts, resized to the subject's input, so that it holds at any place and size.

    A cutout's side is `smallest + (largest - smallest) u^power`, `u` uniform, and its place is uniform. All random
    numbers come from `seed` and are the same for every row and call; `at(step)` has others in every step, and
    `NoiseOptimisation` takes these. Resizing is bilinear, with antialiasing.

    Reference: Augustin et al., DiG-IN, arXiv 2311.17833, appendix A.4 (16 cutouts; noise 0.005 in D.1.5, 0.05 in B.1).

    Args:
        cost: the inner cost.
        count: how many cutouts.
        smallest, largest: of the side, as shares of the image's shorter side.
        power: above 1 it favours small cutouts, below 1 large ones.
        noise: standard deviation of the Gaussian noise.
        seed: of the cutouts and the noise.
    """

    def __init__(
        self,
        cost: Cost,
        count: int = 16,
        smallest: float = 0.5,
        largest: float = 1.0,
        power: float = 1.0,
        noise: float = 0.005,
        seed: int = 0,
    ) -> None:
        super().__init__()
        check_number("Cutouts", "count", count, least=1)
        if not 0 < smallest <= largest <= 1:
            raise ValueError(f"Cutouts: expected 0 < smallest <= largest <= 1, got {smallest} and {largest}")
        check_number("Cutouts", "power", power, above=0)
        check_number("Cutouts", "noise", noise, least=0)
        self.cost, self.count, self.smallest, self.largest = cost, count, smallest, largest
        self.power, self.noise, self.seed = power, noise, seed

    def forward(self, subject: Subject, images: Tensor, h: Tensor) -> Tensor:
        cutouts = self.cut(images, tuple(subject.image_shape[-2:])).flatten(0, 1)
        again = h.repeat(self.count, *(1 for _ in h.shape[1:]))
        return self.cost(subject, cutouts, again).unflatten(0, (self.count, len(images))).mean(0)

    def at(self, step: int) -> Self:
        fresh = int(torch.randint(2**62, (), generator=seeded("cutouts", self.seed, step)))
        return type(self)(**self.arguments | {"cost": self.cost.at(step), "seed": fresh})

    def cut(self, images: Tensor, size: tuple[int, ...]) -> Tensor:
        """The noisy cutouts `(count, B, C, *size)` of images `(B, C, H, W)`."""
        generator = seeded("cutouts", self.seed)
        height, width = images.shape[-2:]
        found = []
        for u, down, right in torch.rand(self.count, 3, generator=generator, dtype=torch.double).tolist():
            share = self.smallest + (self.largest - self.smallest) * u**self.power
            side = max(1, round(share * min(height, width)))
            top, left = int(down * (height - side + 1)), int(right * (width - side + 1))
            piece = images[..., top : top + side, left : left + side]
            found.append(interpolate(piece, list(size), mode="bilinear", antialias=True))
        cutouts = torch.stack(found)
        noise = torch.randn(self.count, 1, *cutouts.shape[2:], generator=generator)
        return cutouts + self.noise * noise.to(cutouts)


class Masked(Cost):
    """The inner cost, with a gradient in only one region of the image.

    Its value is that of the whole image; its gradient is 0 outside the region: `cost(m x + (1 - m) stop(x))`. Behind
    a decoder, the rest of the image changes only with the latents that change the region.

    Args:
        cost: the inner cost.
        box: `[top, left, bottom, right]` in pixels, the last two exclusive.
        outside: let everything but the box change instead.
    """

    def __init__(self, cost: Cost, box: list[int], outside: bool = False) -> None:
        super().__init__()
        if len(box) != 4 or not (0 <= box[0] < box[2] and 0 <= box[1] < box[3]):
            raise ValueError(f"Masked: box must be [top, left, bottom, right] and not empty, got {box}")
        self.cost, self.box, self.outside = cost, tuple(box), outside

    def forward(self, subject: Subject, images: Tensor, h: Tensor) -> Tensor:
        top, left, bottom, right = self.box
        height, width = images.shape[-2:]
        if bottom > height or right > width:
            raise ValueError(f"Masked: box {list(self.box)} leaves the images of {height} x {width}")
        mask = torch.zeros(height, width, dtype=torch.bool, device=images.device)
        mask[top:bottom, left:right] = True
        return self.cost(subject, torch.where(mask ^ self.outside, images, images.detach()), h)
