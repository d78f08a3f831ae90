"""Points on two rings, and a small network that tells the inner from the outer one: EquiDiff's data of the plane.

The prior is a mixture of Gaussians on two circles, dense on opposite sides, so its denoiser, its density and its law on
every fiber are known. A fiber is a level curve of the network, and the law on it is the prior's (`level_curves`).
Whoever gets a row of these wrong does so by its algorithm, and not by a denoiser that was learned badly.

Reference: EquiDiff (Generative Exploration of Neural Network Invariant Sets), figure 3.1: 1,500 points, classified by a
3-layer MLP by their position relative to the unit circle. The dependence on the angle is ours: without it, all that
moves points along the radius has the right law.
"""

import math

import torch
from torch import Tensor, nn

from fibermodels.config import Recorded
from fibermodels.core import FiberSamples, HasLaw, Subject
from fibermodels.data.digits import Split
from fibermodels.data.in_memory import TensorSet
from fibermodels.data.split_data import SplitData
from fibermodels.diffusion.analytic import GaussianMixture
from fibermodels.latents import Identity
from fibermodels.metrics import pairwise_distance
from fibermodels.noise import seeded, target_noise
from fibermodels.suites import law_metrics
from fibermodels.suites.level_curves import LevelCurve, LevelCurves, onto

RADII, PLACES, TILTS, SPREAD = (0.6, 1.4), (24, 48), (-0.8, 0.8), 0.2
"""The radii of the rings, the Gaussians on each, which have half of the mass together, how their mass depends on the
angle, `1 + tilt cos(angle)`, and their deviation."""

SIZES: dict[Split, int] = {"train": 1500, "val": 300, "test": 1000}

EXACT, BINS = 200, 10
"""Exact positions with which those of samples are compared, and equally likely parts of a curve."""


class CirclesClassifier(Subject):
    """The logit that a point is outside of the unit circle, by a 3-layer MLP: `(B, 2)` to `(B, 1)`.

    Args:
        weights: a safetensors file of a trained network; None starts at random.
        width: of the two hidden layers.
    """

    def __init__(self, weights: str | None = None, width: int = 32) -> None:
        super().__init__()
        self.input_shape, self.feature_shape = (2,), (1,)
        self.network = nn.Sequential(
            *(nn.Linear(2, width), nn.Tanh()), *(nn.Linear(width, width), nn.Tanh()), nn.Linear(width, 1)
        )
        self.load_weights(weights)
        self.freeze()

    def forward(self, images: Tensor) -> Tensor:
        found: Tensor = self.network(images)
        return found


def rings() -> tuple[Tensor, Tensor]:
    """The means `(K, 2)` and the weights `(K,)` of the prior."""
    means, weights = [], []
    for radius, places, tilt in zip(RADII, PLACES, TILTS, strict=True):
        angle = torch.arange(places) * (2 * math.pi / places)
        means.append(radius * torch.stack((angle.cos(), angle.sin()), 1))
        weights.append(0.5 / places * (1 + tilt * angle.cos()))
    return torch.cat(means), torch.cat(weights)


def circles_prior() -> GaussianMixture:
    """The prior with its exact denoiser, over points as they are."""
    means, weights = rings()
    stds = torch.full_like(means, SPREAD)
    return GaussianMixture(Identity(input_shape=[2]), means.tolist(), stds.tolist(), weights.tolist(), "cosine")


def density(x: Tensor) -> Tensor:
    """The density of the prior at points `(N, 2)`, `(N,)`."""
    means, weights = rings()
    square = (x[:, None] - means.to(x)).square().sum(2) / SPREAD**2
    return (weights.to(x) * (-square / 2).exp()).sum(1) / (2 * math.pi * SPREAD**2)


def draw(count: int, generator: torch.Generator) -> Tensor:
    """Points of the prior, `(count, 2)`."""
    means, weights = rings()
    place = torch.multinomial(weights, count, replacement=True, generator=generator)
    return means[place] + SPREAD * torch.randn(count, 2, generator=generator)


class Circles(SplitData, HasLaw, metaclass=Recorded):
    """1,500 points of two rings to train on, with the law on the level curves of a network.

    Scores: `arc_kl`, the Kullback-Leibler divergence of the positions of a target's samples, in ten equally likely
    parts of its curve, from the uniform law, in nats, averaged over targets; and `factor_ks` of the positions. A
    position is that of the nearest point of the curve.

    Args:
        subject: a network of the plane with one output.
        batch_size: points per batch.
        seed: of the points and the order.

    Raises:
        ValueError: a subject of other inputs or outputs.
    """

    def __init__(self, subject: Subject, batch_size: int = 250, seed: int = 0) -> None:
        super().__init__("circles", batch_size, seed)
        if subject.input_shape != (2,) or subject.feature_shape != (1,):
            raise ValueError(
                f"Circles: subject: expected a network of inputs (2,) with one output, got {subject.input_shape} and "
                f"{subject.feature_shape}"
            )
        self.subject = subject
        self._curves: LevelCurves | None = None

    def split(self, split: Split) -> TensorSet:
        """The points of a split."""
        return TensorSet(draw(SIZES[split], seeded("circles", self.seed, split)))

    def phi(self, x: Tensor) -> Tensor:
        """The network's output `(N,)`."""
        return self.subject(x)[:, 0]

    def curves(self, x: Tensor) -> list[LevelCurve]:
        """The level curves through points `(B, 2)`."""
        if self._curves is None:
            self._curves = LevelCurves(self.phi, density)
        with torch.no_grad():
            return [self._curves.curve(float(h)) for h in self.phi(x)]

    def members(self, x: Tensor, n: int, generator: torch.Generator | None = None) -> Tensor:
        u = torch.special.ndtr(target_noise(n, len(x), (), generator))
        points = torch.stack([curve.at(own) for curve, own in zip(self.curves(x), u.T, strict=True)], 1)
        h = self.phi(x).detach().expand(n, -1).reshape(-1)
        return onto(self.phi, points.flatten(0, 1), h).view_as(points)

    def factors(self, images: Tensor, x: Tensor) -> Tensor:
        """The positions of points `(n, B, 2)` on the curves of targets `(B, 2)`: `(n, B, 1)`."""
        own = [curve.positions(images[:, i])[0] for i, curve in enumerate(self.curves(x))]
        return torch.stack(own, 1)[..., None]

    def law_scores(self, samples: FiberSamples, exact: FiberSamples) -> dict[str, float]:
        scores = self._scores(samples)
        floors = {f"{name}_floor": value for name, value in self._scores(exact).items()}
        return scores | floors | {"pairwise_distance_truth": pairwise_distance(exact)}

    def _scores(self, samples: FiberSamples) -> dict[str, float]:
        u = self.factors(samples.x_hat, samples.x)
        known = torch.rand(EXACT, u.shape[1], 1, generator=seeded("law", self.seed))
        return {"factor_ks": law_metrics.factor_ks(u, known), "arc_kl": arc_kl(u[..., 0])}


def arc_kl(u: Tensor) -> float:
    """The divergence of positions `(n, B)` from the uniform law, in `BINS` parts, averaged over targets, in nats. That
    of `n` exact samples is about `(BINS - 1) / (2 n)`."""
    part = (u * BINS).long().clamp(0, BINS - 1)
    share = torch.stack([(part == i).float().mean(0) for i in range(BINS)])
    return float(torch.special.xlogy(share, share * BINS).sum(0).mean())
