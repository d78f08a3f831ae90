"""Injective flows: the volume of a manifold, against determinants and closed forms."""

import math

import pytest
import torch
from cases import FEATURES, LATENT, injective_flow, train, vae

from fibermodels.core import HasLogProb
from fibermodels.models import FreeFormInjectiveFlow
from fibermodels.models.free_form_flow import volume_surrogate
from fibermodels.noise import seeded


class TestSurrogateOnTheSphere:
    """Longitude and latitude of the unit sphere in three dimensions, stretched by a learned matrix.

    The encoder inverts the decoder, and is constant along the sphere's normals: its Jacobian on the
    sphere is the decoder's pseudo-inverse.
    """

    MATRIX = torch.tensor([[1.2, 0.4], [-0.3, 0.8]], dtype=torch.double)

    @staticmethod
    def encode(z, matrix):
        angles = torch.stack((torch.atan2(z[:, 1], z[:, 0]), torch.asin(z[:, 2] / z.norm(dim=1))), 1)
        return (matrix @ angles.sinh()[:, :, None])[:, :, 0]  # more than linear, so that the place matters

    @staticmethod
    def decode(noise, matrix):
        longitude, latitude = (torch.linalg.inv(matrix) @ noise[:, :, None])[:, :, 0].asinh().T
        return torch.stack((longitude.cos() * latitude.cos(), longitude.sin() * latitude.cos(), latitude.sin()), 1)

    @pytest.fixture
    def z(self):
        return self.decode(0.7 * torch.randn(7, 2, generator=seeded(0)).double(), torch.eye(2).double())

    def exact(self, z, matrix):
        """`-1/2 log det(J_g^T J_g)` at the data, by `log_volume`."""
        jacobian = torch.func.vmap(torch.func.jacfwd(lambda n: self.decode(n[None], matrix)[0]))(self.encode(z, matrix))
        return -FreeFormInjectiveFlow.log_volume(jacobian)

    def surrogate(self, z, matrix, probes):
        return volume_surrogate(lambda z: self.encode(z, matrix), lambda n: self.decode(n, matrix.detach()), z, probes)[
            1
        ]

    def test_the_pair_is_what_it_should_be(self, z):
        noise = self.encode(z, self.MATRIX)
        torch.testing.assert_close(self.decode(noise, self.MATRIX), z)
        for i in range(len(z)):
            j_f = torch.autograd.functional.jacobian(lambda v: self.encode(v[None], self.MATRIX)[0], z[i])
            j_g = torch.autograd.functional.jacobian(lambda v: self.decode(v[None], self.MATRIX)[0], noise[i])
            torch.testing.assert_close(j_f, torch.linalg.pinv(j_g))
            volume = torch.linalg.svdvals(j_g).log().sum()
            torch.testing.assert_close(self.exact(z[i : i + 1], self.MATRIX)[0], -volume)

    def test_with_a_probe_for_each_dimension_it_is_exact(self, z):
        matrix = self.MATRIX.clone().requires_grad_()
        torch.manual_seed(1)
        (exact,) = torch.autograd.grad(self.exact(z, matrix).mean(), matrix)
        (estimate,) = torch.autograd.grad(self.surrogate(z, matrix, probes=2).mean(), matrix)
        assert exact.abs().min() > 0.1
        torch.testing.assert_close(estimate, exact, atol=1e-8, rtol=0)

    def test_with_one_it_is_unbiased(self, z):
        """Each row has its own copy of the matrix, so that one pass gives many estimates."""
        torch.manual_seed(2)
        rows = 40_000
        matrix, z = self.MATRIX.clone().requires_grad_(), z[:1]
        (exact,) = torch.autograd.grad(self.exact(z, matrix).sum(), matrix)
        copies = self.MATRIX.expand(rows, 2, 2).clone().requires_grad_()
        surrogate = self.surrogate(z.expand(rows, 3), copies, probes=1)
        (estimates,) = torch.autograd.grad(surrogate.sum(), copies)
        standard_error = estimates.std(0) / math.sqrt(rows)
        assert standard_error.min() > 1e-4, "an estimate without variance would test nothing"
        assert ((estimates.mean(0) - exact).abs() < 4 * standard_error).all()


class TestFreeFormInjectiveFlow:
    def batch(self, rows=8):
        z = torch.randn(rows, LATENT, generator=seeded(3))
        return z, torch.randn(rows, FEATURES, generator=seeded(4))

    def test_noise_has_the_bottlenecks_dimensions(self):
        model = injective_flow(bottleneck=3)
        z, h = self.batch()
        assert model.noise_shape == (3,)
        assert model.encode(z, h).shape == (8, 3)
        assert model.transport(torch.randn(8, 3), h).shape == (8, LATENT)

    def test_the_loss_is_exact_without_gradients(self):
        model = injective_flow().double()
        z, h = (v.double() for v in self.batch())
        with torch.inference_mode():
            terms = model.latent_loss(z, h)
        noise = model.encode(z, h)
        for i in range(len(z)):
            jacobian = torch.autograd.functional.jacobian(
                lambda n, c=h[i]: model.transport(n[None], c[None])[0], noise[i]
            )
            volume = torch.linalg.svdvals(jacobian).log().sum()
            normal = torch.distributions.Normal(0.0, 1.0).log_prob(noise[i]).sum()
            torch.testing.assert_close(terms["nll"][i], (volume - normal) / LATENT)
        error = (z - model.transport(noise, h)).square().sum(1)
        torch.testing.assert_close(terms["reconstruction"], model.beta * error / LATENT)

    @pytest.mark.slow
    def test_it_learns_an_arc_whose_radius_depends_on_the_condition(self):
        """Noisy points at radius 1 + c / 2 and Gaussian angles: samples lie on the arc, distributed like that."""
        torch.manual_seed(5)
        space = vae(dim=2, width=8, patterns=4)
        model = FreeFormInjectiveFlow(space, [1], bottleneck=1, width=64, blocks=1)
        spread, noise = 0.7, 0.02

        def data(rows):
            c = 2 * torch.rand(rows, 1) - 1
            angle = spread * torch.randn(rows, 1)
            arc = (1 + c / 2) * torch.cat((angle.cos(), angle.sin()), 1)
            return arc + noise * torch.randn_like(arc), c

        train(model, data, steps=400)
        z, h = data(4000)
        with torch.no_grad():
            error = (z - model.transport(model.encode(z, h), h)).square().mean().sqrt()
        assert error < 2 * noise  # what lies across the arc cannot be kept
        for c in (-0.8, 0.0, 0.8):
            with torch.no_grad():
                samples = model.transport(torch.randn(4000, 1), torch.full((4000, 1), c))
            angle = torch.atan2(samples[:, 1], samples[:, 0])
            off = (samples.norm(dim=1) - (1 + c / 2)).abs()[angle.abs() < 2 * spread]
            assert off.mean() < noise
            assert angle.mean().item() == pytest.approx(0, abs=0.1)
            assert angle.std().item() == pytest.approx(spread, abs=0.1)

    def test_it_is_no_density_over_the_latent_space(self):
        assert not isinstance(injective_flow(), HasLogProb)

    @pytest.mark.parametrize(
        "option", [{"bottleneck": 0}, {"bottleneck": LATENT + 1}, {"beta": -1.0}, {"beta": float("inf")}, {"probes": 3}]
    )
    def test_bad_options(self, option):
        with pytest.raises(ValueError, match=f"FreeFormInjectiveFlow: {next(iter(option))}: expected"):
            injective_flow(**option)
