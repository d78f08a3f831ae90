"""The corrector: it starts as what it corrects, is told the miss, and learns the law and the fiber by it."""

import pytest
import torch
from cases import FEATURES, corrector, flow_matching, images, mlp, subject

from fibermodels import distances
from fibermodels.core import Subject
from fibermodels.latents import Identity
from fibermodels.models import Corrector, EnergyScore, FiberLoss
from fibermodels.nn import MLP
from fibermodels.noise import seeded


class Sum(Subject):
    image_shape, feature_shape = (1, 1, 2), (1,)

    def forward(self, images):
        return images.flatten(1).sum(1, keepdim=True)


def test_it_starts_as_what_it_corrects():
    base, phi = flow_matching(), subject()
    model, h = Corrector(base, phi, mlp()), phi(images(5))
    noise = torch.randn(5, *base.noise_shape, generator=seeded("start"))
    torch.testing.assert_close(model.push(noise, h), base.push(noise, h))
    assert model.network_calls == base.network_calls + 1


def test_it_is_told_the_miss_and_the_direction_that_reduces_it():
    """For `a + b`, both pixels rise where the sum is too small, and fall where it is too large."""
    base = EnergyScore(Identity((1, 1, 2)), [1], MLP(8, 1, time_dim=4))
    model = Corrector(base, Sum(), MLP(8, 1, time_dim=4))
    z, h = model.latents.encode(torch.full((2, 1, 1, 2), 0.5), None), torch.tensor([[1.2], [0.7]])
    miss, direction = model._miss(z, h)
    torch.testing.assert_close(miss, torch.tensor([[0.2], [-0.3]]))
    torch.testing.assert_close(direction, torch.tensor([[1.0, 1.0], [-1.0, -1.0]]))
    assert not miss.requires_grad
    asked = h.requires_grad_()
    (slope,) = torch.autograd.grad(model._miss(z, asked)[0].sum(), asked)
    torch.testing.assert_close(slope, torch.ones(2, 1))


def test_only_its_network_is_trained_and_published():
    model = corrector()
    assert {name.split(".")[0] for name, p in model.named_parameters() if p.requires_grad} == {"network"}
    state, parts = model.density()
    assert {name.split(".")[0] for name in state} <= {"network", "standardise"}
    assert set(parts) == {"latents", "model", "subject"}


def test_it_learns_from_the_miss():
    """Pixels `a, b` with the subject `a + b`; the first call is a random network. The corrected one is near the
    fiber, and its samples have the law of the data on it."""
    torch.manual_seed(0)
    phi = Sum()
    base = EnergyScore(Identity((1, 1, 2)), [1], MLP(8, 1, time_dim=4))
    for p in base.network.parameters():
        p.data += 0.3 * torch.randn_like(p)
    model = Corrector(base, phi, MLP(32, 2, time_dim=8), patch_sizes=[8])
    fiber = FiberLoss(1.0)

    def data(count):
        h = 0.6 + 0.8 * torch.rand(count, 1)
        share = 0.5 + 0.05 * torch.randn(count, 1)
        return torch.cat((share * h, (1 - share) * h), 1).reshape(count, 1, 1, 2), h

    _, h = data(2000)
    model.standardise.measure(h)
    optimizer = torch.optim.Adam(model.network.parameters(), 3e-3)
    for _ in range(400):
        batch, told = data(256)
        terms = model.loss(batch, told) | {"fiber": fiber(model, phi, told)}
        optimizer.zero_grad()
        sum(term.mean() for term in terms.values()).backward()
        optimizer.step()
    noise = torch.randn(2000, *model.noise_shape)
    before, after = (distances.rms(h, phi(each.push(noise, h))).mean() for each in (base, model))
    assert after < 0.1 * before
    share = model.push(noise, h).flatten(1)[:, :1] / h
    assert abs(share.mean() - 0.5) < 0.02
    assert 0.03 < share.std() < 0.07


def test_what_does_not_fit_is_named():
    base = EnergyScore(Identity((3, 28, 28)), [FEATURES + 1], mlp())
    with pytest.raises(ValueError, match=rf"model: expected the subject's feature_shape \({FEATURES},\), got"):
        Corrector(base, subject(), mlp())
