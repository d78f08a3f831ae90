"""Choices of members against all choices, and a normal law."""

import itertools

import pytest
import torch
from linear_fibers import SIDE, SPREAD, linear, pictures
from torch import Tensor

from fibermodels.applications import (
    select,
)
from fibermodels.applications.drawing import fibers
from fibermodels.applications.selecting import farthest, medoids, nearest
from fibermodels.core import HasLogProb
from fibermodels.latents import Identity
from fibermodels.noise import seeded
from fibermodels.suites import DecolorisedEncoder
from fibermodels.trainable import TrainableFiberModel


class Normal(TrainableFiberModel, HasLogProb):
    """Normal pixels about 1/2, whatever the condition, and minus the squared distance as their density."""

    network_calls = 0

    def __init__(self) -> None:
        super().__init__(Identity([1, SIDE, SIDE]), [12])

    def transport(self, noise: Tensor, h: Tensor) -> Tensor:
        return self.latents.encode(0.5 + SPREAD * noise, h)

    def latent_loss(self, z: Tensor, h: Tensor) -> dict[str, Tensor]:
        return {"nll": -self.log_prob(z, h)}

    def log_prob(self, z: Tensor, h: Tensor) -> Tensor:
        return -(self.latents.decode(z, h) - 0.5).flatten(1).square().sum(1)


class TestSelect:
    def test_medoids_are_the_best_choice(self):
        """Against all choices of 3 of 12 points; two clusters of a line get a point each."""
        for seed in range(5):
            points = torch.randn(12, 2, generator=seeded("points", seed))
            distances = torch.cdist(points, points)
            best = min(float(distances[:, list(own)].amin(1).sum()) for own in itertools.combinations(range(12), 3))
            assert float(distances[:, medoids(distances, 3)].amin(1).sum()) <= 1.1 * best
        line = torch.tensor([0.0, 1, 2, 100, 101, 103])[:, None]
        assert sorted(medoids(torch.cdist(line, line), 2).tolist()) == [1, 4]
        assert farthest(torch.cdist(line, line), 3).tolist() == [2, 5, 3]

    def test_chosen_members_cover_more_than_random_ones(self, digits):
        _, oracle, subject, x = digits
        found = select(oracle, subject, x[:3], k=4, n=100)
        assert (found.distance < 0.96 * found.random).all()
        torch.testing.assert_close(found.shares.sum(0), torch.ones(3))
        assert (found.shares.diff(dim=0) <= 0).all()
        assert found.figures()["fiber_rms"] < 0.1 * found.figures()["fiber_rms_null"]
        judged = select(oracle, subject, x[:1], k=2, n=20, judge=DecolorisedEncoder(width=32, blocks=1))
        assert judged.merits[0].value < 1e-4, "the judge is blind to what differs"

    def test_the_most_likely_are_those_near_the_middle(self, digits):
        """A normal law of the pixels: the density falls with the distance from its mean."""
        subject = linear()
        found = select(Normal(), subject, pictures(3), k=5, n=40, method="likelihood")
        far = (found.samples - 0.5).flatten(2).square().sum(2)  # (k, B)
        drawn = fibers(Normal(), subject, pictures(3), 80, 0).x_hat[:40]
        every = (drawn - 0.5).flatten(2).square().sum(2)
        torch.testing.assert_close(far.sort(0).values, every.sort(0).values[:5])
        merit = found.merits[0]
        torch.testing.assert_close(merit.value, -float(far.mean()) / SIDE**2)
        assert merit.value > merit.null
        _, oracle, own, x = digits
        with pytest.raises(ValueError, match="select: method: 'likelihood' needs a model with a density"):
            select(oracle, own, x[:1], k=2, n=4, method="likelihood")

    def test_coverage_is_the_distance_to_the_nearest(self):
        distances = torch.tensor([[[1.0, 5.0, 3.0], [4.0, 2.0, 0.5]]])
        assert nearest(distances, torch.tensor([[0, 1]])) == 1.5
        assert nearest(distances, torch.tensor([[0, 2]])) == 0.75
