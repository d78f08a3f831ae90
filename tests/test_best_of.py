"""The nearest of several draws, against order statistics and against all draws."""

import pytest
import torch
from scipy.integrate import quad
from scipy.stats import norm
from torch import Tensor

from fibermodels.core import Pushforward, Subject
from fibermodels.guidance import BestOf
from fibermodels.noise import seeded


class First(Subject):
    """The first of two numbers."""

    input_shape, feature_shape = (2,), (1,)

    def forward(self, images: Tensor) -> Tensor:
        return images[:, :1]


class Ignorant(Pushforward):
    """Standard normal points, whatever it is told."""

    input_shape, noise_shape, network_calls = (2,), (2,), 1

    def push(self, noise: Tensor, h: Tensor) -> Tensor:
        return noise


def test_the_distance_is_the_lowest_of_as_many_half_normals_and_the_rest_keeps_its_law():
    """`E min_j |x_j - h|` is the integral of `P(|x - h| > r)^m`; the second number is independent of the choice."""
    m, h = 4, torch.tensor([[0.7]])
    x = BestOf(Ignorant(), First(), m).sample(h, 20_000, seeded("order"))[:, 0]
    expected, _ = quad(lambda r: (norm.cdf(0.7 - r) + norm.sf(0.7 + r)) ** m, 0, 8)
    assert (x[:, 0] - 0.7).abs().mean().item() == pytest.approx(expected, rel=0.03)
    assert x[:, 1].mean().item() == pytest.approx(0.0, abs=0.03)
    assert x[:, 1].std().item() == pytest.approx(1.0, abs=0.03)


def test_many_draws_of_a_right_model_sample_the_posterior():
    """A model that draws from the prior becomes rejection sampling: for correlated numbers, `b | a = 1`."""

    class Correlated(Ignorant):
        def push(self, noise: Tensor, h: Tensor) -> Tensor:
            return torch.stack((noise[:, 0], 0.8 * noise[:, 0] + 0.6 * noise[:, 1]), 1)

    x = BestOf(Correlated(), First(), 100).sample(torch.tensor([[1.0]]), 4000, seeded("posterior"))[:, 0]
    assert x[:, 1].mean().item() == pytest.approx(0.8, abs=0.03)
    assert x[:, 1].std().item() == pytest.approx(0.6, abs=0.03)


def test_each_sample_is_the_nearest_of_its_own_draws():
    h = torch.tensor([[0.0], [1.0], [-2.0]])
    best = BestOf(Ignorant(), First(), 5)
    noise = torch.randn(3, 5, 2, generator=seeded("draws"))
    for own, target, chosen in zip(noise, h, best.push(noise, h), strict=True):
        assert torch.equal(chosen, own[(own[:, 0] - target).abs().argmin()])
    assert (best.noise_shape, best.network_calls) == ((5, 2), 5)


def test_one_draw_changes_nothing_and_none_is_an_error():
    h = torch.zeros(3, 1)
    pair = [
        model.sample(h, 2, torch.Generator().manual_seed(1)) for model in (Ignorant(), BestOf(Ignorant(), First(), 1))
    ]
    assert torch.equal(*pair)
    with pytest.raises(ValueError, match="BestOf: draws: expected"):
        BestOf(Ignorant(), First(), 0)
