"""The cascade: exact models of two layers give the exact fiber of the second one."""

import pytest
import torch
from cases import FEATURES, energy_maps, flow_map, randomised, unguided

from fibermodels.core import Subject
from fibermodels.latents import Identity
from fibermodels.models import Cascade, EnergyScore
from fibermodels.nn import MLP
from fibermodels.noise import seeded
from fibermodels.trainable import TrainableFiberModel


class Halves(Subject):
    """Sums of the halves of a vector."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.input_shape, self.feature_shape = (dim,), (dim // 2,)
        self.freeze()

    def forward(self, images):
        return images[:, 0::2] + images[:, 1::2]


class Split(TrainableFiberModel):
    """The exact fibers of `Halves` for independent parts of one variance: `a + b = h`, `a - b` is free."""

    def __init__(self, dim: int, variance: float) -> None:
        super().__init__(Identity(input_shape=[dim]), [dim // 2])
        self.noise_shape, self.deviation, self.network_calls = (dim // 2,), (variance / 2) ** 0.5, 1

    def transport(self, noise, h):
        return torch.stack((h / 2 + self.deviation * noise, h / 2 - self.deviation * noise), 2).flatten(1)

    def latent_loss(self, z, h):
        return {}


def test_exact_models_of_two_layers_give_the_exact_fiber():
    """For `x ~ N(0, I)` in four dimensions and `h` the sum of all, `x` given `h` is normal with mean `h / 4` and
    covariance `I - 11^T / 4`. The sums of pairs have variance 2."""
    model = Cascade(Split(2, 2.0), Split(4, 1.0))
    h = torch.tensor([[1.2]])
    assert model.noise_shape == (3,)
    assert model.network_calls == 2
    x = model.sample(h, 40_000, seeded("cascade"))[:, 0]
    torch.testing.assert_close(Halves(2)(Halves(4)(x)), h.expand(len(x), 1))
    torch.testing.assert_close(x.mean(0), torch.full((4,), 0.3), atol=0.02, rtol=0)
    torch.testing.assert_close(torch.cov(x.T), torch.eye(4) - 0.25, atol=0.02, rtol=0)


def test_a_cascade_may_follow_another_model():
    """Eight numbers from the sum of all, in three stages; as above, the mean is `h / 8` and the sums are right."""
    model = Cascade(Split(2, 4.0), Cascade(Split(4, 2.0), Split(8, 1.0)))
    h = torch.tensor([[1.6]])
    assert (model.noise_shape, model.network_calls) == ((7,), 3)
    x = model.sample(h, 40_000, seeded("three stages"))[:, 0]
    torch.testing.assert_close(x.sum(1, keepdim=True), h.expand(len(x), 1))
    torch.testing.assert_close(torch.cov(x.T), torch.eye(8) - 0.125, atol=0.02, rtol=0)
    with pytest.raises(ValueError, match="Cascade: second: expected a trained model, .* got Unguided"):
        Cascade(Split(2, 2.0), unguided())


def test_it_refuses_models_that_do_not_follow_one_another():
    first = randomised(EnergyScore(Identity(input_shape=[5]), [FEATURES], MLP(8, 1, time_dim=4)))
    with pytest.raises(
        ValueError, match=r"Cascade: second: expected a model of representations \[5\].*got one of \[6\]"
    ):
        Cascade(first, flow_map())


def test_what_it_draws_depends_on_both_parts_of_the_noise():
    shape = [5, 2, 2]
    model = Cascade(
        randomised(EnergyScore(Identity(input_shape=shape), [FEATURES], MLP(8, 1, time_dim=4))), energy_maps(shape)
    )
    noise, h = torch.randn(2, *model.noise_shape, generator=seeded("parts")), torch.ones(2, FEATURES)
    pushed = model.push(noise, h)
    for part in (slice(0, 20), slice(20, None)):
        other = noise.clone()
        other[:, part] += 1
        assert not torch.allclose(model.push(other, h), pushed)
