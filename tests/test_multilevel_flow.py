"""Laws of the multi-level flow: its density, its levels, and what a short training makes of a Gaussian."""

import math

import pytest
import torch
from cases import FEATURES, LATENT, multilevel_flow, randomised
from torch import nn
from torch.distributions import MultivariateNormal

from fibermodels.core import HasLogProb
from fibermodels.latents import VAE
from fibermodels.models import MultilevelFlow
from fibermodels.noise import seeded


def small(dim: int, features: int, **options) -> MultilevelFlow:
    torch.manual_seed(40)
    latents = VAE([3, 28, 28], dim, width=8, blocks=1, patterns=4)
    return MultilevelFlow(latents, [features], **{"width": 32, "blocks": 4, "detail_blocks": 2, "layers": 1} | options)


@pytest.mark.parametrize("coarse_dim", [1, 2, 4])
class TestDensity:
    @pytest.fixture
    def model(self, coarse_dim):
        return multilevel_flow(coarse_dim=coarse_dim).double()

    @pytest.fixture
    def h(self):
        return torch.randn(5, FEATURES, generator=seeded(41)).double()

    def test_log_prob_is_that_of_the_sampler(self, model, h):
        """The density of `transport(noise)` is that of the noise over its Jacobian's determinant."""
        noise = torch.randn(5, LATENT, generator=seeded(42)).double()
        z = model.transport(noise, h)
        for i in range(len(noise)):
            jacobian = torch.autograd.functional.jacobian(
                lambda v, c=h[i]: model.transport(v[None], c[None])[0], noise[i]
            )
            normal = -0.5 * (noise[i].square() + math.log(2 * math.pi)).sum()
            expected = normal - torch.linalg.slogdet(jacobian)[1]
            torch.testing.assert_close(model.log_prob(z[i : i + 1], h[i : i + 1])[0], expected)

    def test_the_condition_speaks_through_the_coarse_part_alone(self, model, coarse_dim, h):
        """Latents with one coarse part and other details: another condition changes both densities alike."""
        code = torch.randn(5, LATENT, generator=seeded(43)).double()
        others = torch.cat((code[:, :coarse_dim], torch.randn(5, LATENT - coarse_dim, generator=seeded(44))), 1)
        first, second = (model.splitter.inverse(value)[0] for value in (code, others))
        gains = [model.log_prob(z, h) - model.log_prob(z, h.flip(0)) for z in (first, second)]
        torch.testing.assert_close(gains[0], gains[1])
        assert gains[0].abs().max() > 0.01


def test_the_density_integrates_to_one():
    model = randomised(small(2, 3, coarse_dim=1, width=8)).double()
    axis = torch.linspace(-9, 9, 451, dtype=torch.double)
    grid = torch.cartesian_prod(axis, axis)
    for c in (-1.0, 2.0):
        density = model.log_prob(grid, torch.full((len(grid), 3), c).double()).exp()
        assert (density.sum() * (axis[1] - axis[0]) ** 2).item() == pytest.approx(1, abs=1e-3)


@pytest.mark.slow
class TestAfterTrainingOnAGaussian:
    """`z | h ~ N(A h + b, S)`, `A` of rank 2 and `S` full: two coarse numbers say all, and neither they
    nor the details lie along the axes."""

    DIM, RANK, FEATURES = 4, 2, 3

    def conditions(self, n, generator=None):
        """Bounded, for no network extrapolates a straight line for ever."""
        return 3 * torch.rand(n, self.FEATURES, generator=generator) - 1.5

    @pytest.fixture(scope="class")
    def law(self):
        generator = seeded(45)
        left, _ = torch.linalg.qr(torch.randn(self.DIM, self.RANK, generator=generator))
        right = torch.randn(self.RANK, self.FEATURES, generator=generator)
        root = torch.randn(self.DIM, self.DIM, generator=generator).tril(-1) * 0.4
        root += torch.diag(torch.linspace(0.4, 0.8, self.DIM))
        b = torch.randn(self.DIM, generator=generator)
        return lambda h: MultivariateNormal(h @ (left @ right).T + b, scale_tril=root)

    @pytest.fixture(scope="class")
    def model(self, law):
        model = small(self.DIM, self.FEATURES, coarse_dim=self.RANK, blocks=8)
        parameters = [p for p in model.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(parameters, lr=1e-2)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, total_steps=500)
        torch.manual_seed(46)
        for _ in range(500):
            h = self.conditions(256)
            optimizer.zero_grad()
            model.latent_loss(law(h).sample(), h)["nll"].mean().backward()
            nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            schedule.step()
        return model.requires_grad_(False)

    def test_samples_have_its_conditional_mean_and_covariance(self, model, law):
        for i in range(4):
            h = self.conditions(1, seeded(47, i)).expand(20_000, -1)
            z = model.transport(torch.randn(20_000, self.DIM, generator=seeded(48, i)), h)
            torch.testing.assert_close(z.mean(0), law(h).mean[0], atol=0.2, rtol=0)
            torch.testing.assert_close(z.T.cov(), law(h).covariance_matrix[0], atol=0.2, rtol=0)

    def test_log_prob_is_its_log_density(self, model, law):
        h = self.conditions(4000, seeded(49))
        torch.manual_seed(50)
        z = law(h).sample()
        difference = law(h).log_prob(z) - model.log_prob(z, h)
        assert abs(difference.mean().item()) < 0.05
        assert difference.abs().median().item() < 0.15


def test_it_keeps_float32_under_bfloat16():
    for coarse_dim in (1, 2):
        model = multilevel_flow(coarse_dim=coarse_dim)
        z, h = torch.randn(5, LATENT, generator=seeded(51)), torch.randn(5, FEATURES, generator=seeded(52))
        with torch.autocast("cpu", torch.bfloat16):
            log_prob = model.log_prob(z, h)
        torch.testing.assert_close(log_prob, model.log_prob(z, h))


def test_it_is_a_density():
    assert isinstance(multilevel_flow(), HasLogProb)


@pytest.mark.parametrize("option", [{"coarse_dim": 0}, {"coarse_dim": LATENT}], ids=str)
def test_bad_options(option):
    with pytest.raises(ValueError, match="MultilevelFlow: coarse_dim: expected .*, got "):
        multilevel_flow(**option)
