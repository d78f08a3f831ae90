"""Laws of the denoising flow: its density, its manifold, and what a short training makes of an arc."""

import math

import pytest
import torch
from cases import FEATURES, LATENT, denoising_flow, randomised, vae
from torch import nn
from torch.distributions import Normal

from fibermodels.core import HasLogProb
from fibermodels.models import DenoisingFlow
from fibermodels.noise import seeded


def plane(**options) -> DenoisingFlow:
    """A flow over two dimensions, with a condition of one and a manifold of one."""
    torch.manual_seed(20)
    options = {"manifold_dim": 1, "sigma": 0.1, "width": 32, "blocks": 6, "layers": 1} | options
    return DenoisingFlow(vae(dim=2, width=8, patterns=4), [1], **options)


class Polar(nn.Module):
    """The exact outer map of a circle with radius `h`: angle, and distance from the circle."""

    def forward(self, z, h):
        radius = z.norm(dim=1)
        return torch.stack((torch.atan2(z[:, 1], z[:, 0]), radius - h[:, 0]), 1), -radius.log()

    def inverse(self, code, h):
        angle, radius = code[:, 0], code[:, 1] + h[:, 0]
        return radius[:, None] * torch.stack((angle.cos(), angle.sin()), 1), radius.log()


@pytest.mark.parametrize("manifold_dim", [1, 2, 4])
class TestDensity:
    @pytest.fixture
    def model(self, manifold_dim):
        return denoising_flow(manifold_dim=manifold_dim, sigma=0.3).double()

    @pytest.fixture
    def h(self):
        return torch.randn(5, FEATURES, generator=seeded(21)).double()

    def test_log_prob_is_that_of_the_autograd_jacobian(self, model, manifold_dim, h):
        """The whole map is from latents to noise on the manifold and sigma-noise off it."""

        def encode(z, h):
            code = model.outer(z[None], h[None])[0]
            on, off = code[:, :manifold_dim], code[:, manifold_dim:]
            return torch.cat((model.inner(on, h[None])[0], off), 1)[0]

        z = torch.randn(5, LATENT, generator=seeded(22)).double()
        scale = torch.tensor([1.0] * manifold_dim + [0.3] * (LATENT - manifold_dim)).double()
        for i in range(len(z)):
            jacobian = torch.autograd.functional.jacobian(lambda v, c=h[i]: encode(v, c), z[i])
            expected = Normal(0.0, scale).log_prob(encode(z[i], h[i])).sum() + torch.linalg.slogdet(jacobian)[1]
            torch.testing.assert_close(model.log_prob(z[i : i + 1], h[i : i + 1])[0], expected)

    def test_samples_lie_on_the_manifold_at_the_coordinates_of_their_noise(self, model, manifold_dim, h):
        assert model.noise_shape == (manifold_dim,)
        noise = torch.randn(5, manifold_dim, generator=seeded(23)).double()
        on, off = model.outer(model.transport(noise, h), h)[0].split((manifold_dim, LATENT - manifold_dim), 1)
        torch.testing.assert_close(off, torch.zeros_like(off), atol=1e-9, rtol=0)
        torch.testing.assert_close(model.inner(on, h)[0], noise, atol=1e-9, rtol=0)


def test_the_density_integrates_to_one():
    model = randomised(plane(sigma=0.5, width=8, blocks=3)).double()
    axis = torch.linspace(-9, 9, 451, dtype=torch.double)
    grid = torch.cartesian_prod(axis, axis)
    for c in (-1.0, 2.0):
        density = model.log_prob(grid, torch.full((len(grid), 1), c).double()).exp()
        assert (density.sum() * (axis[1] - axis[0]) ** 2).item() == pytest.approx(1, abs=1e-3)


class TestWithTheExactMapOfACircle:
    """The outer map is polar, the inner one still the identity: everything is known by hand."""

    @pytest.fixture
    def model(self):
        model = plane().double()
        model.outer = Polar()
        return model

    @pytest.fixture
    def h(self):
        return 1 + torch.rand(50, 1, generator=seeded(24)).double()

    def test_the_density_is_that_of_angle_and_distance(self, model, h):
        angle = torch.rand(50, generator=seeded(25)).double() - 0.5
        distance = 0.1 * torch.randn(50, generator=seeded(26)).double()
        radius = h[:, 0] + distance
        z = radius[:, None] * torch.stack((angle.cos(), angle.sin()), 1)
        expected = Normal(0.0, 1.0).log_prob(angle) + Normal(0.0, 0.1).log_prob(distance) - radius.log()
        torch.testing.assert_close(model.log_prob(z, h), expected)

    def test_samples_lie_on_the_circle(self, model, h):
        z = model.transport(torch.randn(50, 1, generator=seeded(27)).double(), h)
        torch.testing.assert_close(z.norm(dim=1), h[:, 0])

    def test_only_noise_along_the_circle_costs_reconstruction(self, model, h):
        """Off the circle it is removed: of sigma^2 for each of two dimensions, one remains."""
        h = h.repeat(400, 1)
        z = h * torch.tensor([[1.0, 0.0]]).double()
        torch.manual_seed(28)
        loss = model.latent_loss(z, h)["reconstruction"].mean().item()
        assert loss == pytest.approx(model.beta * 0.1**2 / 2, rel=0.05)


@pytest.mark.slow
class TestAfterTrainingOnAnArc:
    """An arc of radius `h`, the angle normal. With noise its density is an integral over the angle."""

    SPREAD, SIGMA = 0.6, 0.1

    def draw(self, n, generator=None):
        h = 0.75 + 0.5 * torch.rand(n, 1, generator=generator)
        angle = self.SPREAD * torch.randn(n, generator=generator)
        return h * torch.stack((angle.cos(), angle.sin()), 1), h

    def log_density(self, z, h):
        angle = torch.linspace(-math.pi, math.pi, 4001, dtype=torch.double)
        points = h[:, :, None] * torch.stack((angle.cos(), angle.sin()))
        around = Normal(points, self.SIGMA).log_prob(z[:, :, None]).sum(1)
        step = (angle[1] - angle[0]).log()
        return torch.logsumexp(around + Normal(0.0, self.SPREAD).log_prob(angle) + step, 1)

    @pytest.fixture(scope="class")
    def model(self):
        model = plane(sigma=self.SIGMA)
        parameters = [p for p in model.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(parameters, lr=1e-2)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, total_steps=700)
        torch.manual_seed(29)
        for _ in range(700):
            loss = sum(term.mean() for term in model.latent_loss(*self.draw(256)).values())
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            schedule.step()
        return model.double().requires_grad_(False)

    def test_the_density_is_that_of_the_noisy_arc(self, model):
        """The divergence from the exact law to the model, in nats, on noisy points of the arc."""
        z, h = (value.double() for value in self.draw(2000, seeded(30)))
        z = z + self.SIGMA * torch.randn(z.shape, generator=seeded(31)).double()
        difference = self.log_density(z, h) - model.log_prob(z, h)
        assert abs(difference.mean().item()) < 0.06
        assert difference.abs().median().item() < 0.15

    def test_samples_lie_on_the_arc_closer_than_the_noise(self, model):
        h = self.draw(2000, seeded(32))[1].double()
        z = model.transport(torch.randn(2000, 1, generator=seeded(33)).double(), h)
        off = z.norm(dim=1) - h[:, 0]
        assert off.square().mean().sqrt().item() < 0.5 * self.SIGMA
        assert off.abs().median().item() < 0.2 * self.SIGMA

    def test_samples_spread_along_the_arc_as_the_data_does(self, model):
        """The noise along the arc remains: its variance adds to that of the angle."""
        h = torch.ones(2000, 1).double()
        z = model.transport(torch.randn(2000, 1, generator=seeded(34)).double(), h)
        angle = torch.atan2(z[:, 1], z[:, 0])
        assert angle.mean().item() == pytest.approx(0, abs=0.08)
        assert angle.std().item() == pytest.approx(math.hypot(self.SPREAD, self.SIGMA), abs=0.08)


def test_it_is_a_density():
    assert isinstance(denoising_flow(), HasLogProb)


@pytest.mark.parametrize(
    "option",
    [{"manifold_dim": 0}, {"manifold_dim": LATENT + 1}, {"sigma": 0.0}, {"sigma": float("nan")}, {"beta": -1.0}],
    ids=str,
)
def test_bad_options(option):
    (name,) = option
    with pytest.raises(ValueError, match=f"DenoisingFlow: {name}: expected .*, got "):
        denoising_flow(**option)
