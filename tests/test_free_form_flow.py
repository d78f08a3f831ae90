"""Free-form flows: the gradient without a determinant, against determinants."""

import math

import pytest
import torch
from cases import FEATURES, LATENT, free_form_flow, train, vae
from torch.utils._python_dispatch import TorchDispatchMode

from fibermodels.core import HasLogProb
from fibermodels.models import FreeFormFlow
from fibermodels.models.free_form_flow import orthogonal_probes, volume_surrogate
from fibermodels.nn import AffineCouplings
from fibermodels.noise import seeded


def gradient(value, parameters):
    return torch.cat([g.flatten() for g in torch.autograd.grad(value.mean(), parameters, materialize_grads=True)])


class TestProbes:
    @pytest.mark.parametrize("count", [1, 3, 5])
    def test_they_are_orthogonal_and_of_the_right_length(self, count):
        torch.manual_seed(0)
        v = torch.stack(orthogonal_probes(torch.zeros(7, 5, dtype=torch.double), count), 1)
        torch.testing.assert_close(v @ v.mT, 5 * torch.eye(count).double().expand(7, -1, -1))

    def test_each_has_the_identity_as_its_second_moment(self):
        torch.manual_seed(1)
        rows = 40_000
        for v in orthogonal_probes(torch.zeros(rows, 3), 3):
            torch.testing.assert_close(v.T @ v / rows, torch.eye(3), atol=5 * math.sqrt(3 / rows), rtol=0)


class TestSurrogate:
    def test_with_a_probe_for_each_dimension_it_is_exact(self):
        """On a coupling flow and its own inverse, against the flow's own log determinant."""
        torch.manual_seed(2)
        flow = AffineCouplings(width=6, blocks=2).build(3, 2).double()
        parameters = [p for p in flow.parameters() if p.requires_grad]
        for p in parameters:
            p.data += 0.3 * torch.randn_like(p)
        z, h = torch.randn(6, 3).double(), torch.randn(6, 2).double()
        exact, log_det = flow(z, h)
        noise, surrogate = volume_surrogate(lambda z: flow(z, h)[0], lambda n: flow.inverse(n, h)[0], z, probes=3)
        torch.testing.assert_close(noise, exact)
        assert (surrogate == 0).all()
        estimate, truth = gradient(surrogate, parameters), gradient(log_det, parameters)
        assert truth.abs().max() > 0.1
        torch.testing.assert_close(estimate, truth, atol=1e-8, rtol=0)

    @pytest.mark.parametrize("probes", [1, 2])
    def test_with_fewer_it_is_unbiased(self, probes):
        """On a shear and then a matrix, of which each row has its own copy: `d log |det M| = M^{-T}`."""
        torch.manual_seed(3)
        rows = 40_000
        matrix = torch.eye(3).double() + 0.3 * torch.randn(3, 3).double()
        copies = matrix.expand(rows, 3, 3).clone().requires_grad_()
        inverse = torch.linalg.inv(matrix)

        def encode(z):
            a, b, c = z.T
            return (copies @ torch.stack((a, b + a.sin(), c + a * b), 1)[:, :, None])[:, :, 0]

        def decode(n):
            a, b, c = (n @ inverse.T).T
            return torch.stack((a, b - a.sin(), c - a * (b - a.sin())), 1)

        z = torch.randn(1, 3).double().expand(rows, 3)
        torch.testing.assert_close(decode(encode(z)), z)
        (estimates,) = torch.autograd.grad(volume_surrogate(encode, decode, z, probes)[1].sum(), copies)
        standard_error = estimates.std(0) / math.sqrt(rows)
        assert standard_error.min() > 1e-4, "an estimate without variance would test nothing"
        assert ((estimates.mean(0) - inverse.T).abs() < 4 * standard_error).all()

    def test_the_decoder_gets_no_gradient(self):
        z = torch.randn(4, 3, generator=seeded(4))
        encoder, decoder = torch.nn.Linear(3, 3), torch.nn.Linear(3, 3)
        volume_surrogate(encoder, decoder, z)[1].sum().backward()
        assert encoder.weight.grad.abs().sum() > 0
        assert decoder.weight.grad is None


class Syncs(TorchDispatchMode):
    """Counts where the host reads a tensor's value."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += "local_scalar_dense" in str(func)
        return func(*args, **(kwargs or {}))


class TestFreeFormFlow:
    def batch(self, rows=8):
        z = torch.randn(rows, LATENT, generator=seeded(5))
        return z, torch.randn(rows, FEATURES, generator=seeded(6))

    def test_it_starts_as_the_identity(self):
        model = FreeFormFlow(vae(), [FEATURES], width=16, blocks=1)
        z, h = self.batch()
        torch.testing.assert_close(model.transport(z, h), z)
        torch.testing.assert_close(model.log_prob(z, h), torch.distributions.Normal(0.0, 1.0).log_prob(z).sum(1))

    def test_log_prob_of_a_linear_pair_is_the_closed_form(self):
        """g(n, h) = M n + h B, and f its inverse: z | h ~ N(h B, M M^T)."""
        model = free_form_flow().double()
        z, h = (v.double() for v in self.batch())
        m = torch.eye(LATENT).double() + 0.3 * torch.randn(LATENT, LATENT, generator=seeded(7)).double()
        b = torch.randn(FEATURES, LATENT, generator=seeded(8)).double()
        model.transport = lambda noise, h: noise @ m.T + h @ b
        model.encode = lambda z, h: (z - h @ b) @ torch.linalg.inv(m).T
        exact = torch.distributions.MultivariateNormal(h @ b, m @ m.T).log_prob(z)
        torch.testing.assert_close(model.log_prob(z, h), exact)

    def test_log_prob_is_that_of_the_samples_at_the_reconstruction(self):
        model = free_form_flow().double()
        z, h = (v.double() for v in self.batch())
        noise = model.encode(z, h)
        for i in range(len(z)):
            jacobian = torch.autograd.functional.jacobian(
                lambda n, c=h[i]: model.transport(n[None], c[None])[0], noise[i]
            )
            normal = torch.distributions.Normal(0.0, 1.0).log_prob(noise[i]).sum()
            torch.testing.assert_close(model.log_prob(z, h)[i], normal - torch.linalg.slogdet(jacobian)[1])

    def test_the_loss_is_exact_without_gradients(self):
        model = free_form_flow()
        z, h = self.batch()
        with torch.inference_mode():
            terms = model.latent_loss(z, h)
        torch.testing.assert_close(terms["nll"], -model.log_prob(z, h) / LATENT)
        error = z - model.transport(model.encode(z, h), h)
        torch.testing.assert_close(terms["reconstruction"], model.beta * error.square().sum(1) / LATENT)

    def test_the_training_value_of_the_likelihood_leaves_out_the_volume(self):
        model = free_form_flow()
        z, h = self.batch()
        normal = torch.distributions.Normal(0.0, 1.0).log_prob(model.encode(z, h)).sum(1)
        torch.testing.assert_close(model.latent_loss(z, h)["nll"], -normal / LATENT)

    def test_the_loss_keeps_float32_under_bfloat16(self):
        model = free_form_flow()
        z, h = self.batch()
        parameters = [p for p in model.parameters() if p.requires_grad]

        def loss():
            torch.manual_seed(9)
            return sum(model.latent_loss(z, h).values())

        with torch.autocast("cpu", torch.bfloat16):
            mixed, log_prob = loss(), model.log_prob(z, h)
        torch.testing.assert_close(gradient(mixed, parameters), gradient(loss(), parameters))
        torch.testing.assert_close(log_prob, model.log_prob(z, h))

    def test_the_host_never_waits_for_the_device(self):
        model = free_form_flow(probes=2)
        z, h = self.batch()
        with Syncs() as syncs:
            model.latent_loss(z, h)
            assert syncs.count == 0
            z.sum().item()
        assert syncs.count == 1

    @pytest.mark.slow
    def test_training_learns_a_conditional_gaussian(self):
        """z | h ~ N(A h, diag(s^2)): moments of samples, reconstruction, and the exact likelihood."""
        torch.manual_seed(10)
        model = FreeFormFlow(vae(), [FEATURES], width=64, blocks=1)
        matrix = torch.randn(FEATURES, LATENT, generator=seeded(11)) / FEATURES**0.5
        std = torch.linspace(0.2, 1.0, LATENT)

        def data(rows):
            h = torch.randn(rows, FEATURES)
            return h @ matrix + std * torch.randn(rows, LATENT), h

        train(model, data, steps=400)
        z, h = data(4000)
        with torch.no_grad():
            error = (z - model.transport(model.encode(z, h), h)).square().mean().sqrt()
            nll = -model.log_prob(z, h).mean()
        assert error < 0.03
        entropy = std.log().sum() + 0.5 * LATENT * math.log(2 * math.pi * math.e)
        assert nll.item() == pytest.approx(entropy.item(), abs=0.15)
        h = h[:1].expand(4000, -1)
        with torch.no_grad():
            samples = model.transport(torch.randn(4000, LATENT), h)
        torch.testing.assert_close(samples.mean(0), (h @ matrix)[0], atol=0.15, rtol=0)
        torch.testing.assert_close(samples.std(0), std, atol=0.12, rtol=0)

    def test_it_is_a_density(self):
        assert isinstance(free_form_flow(), HasLogProb)

    @pytest.mark.parametrize(
        "option", [{"beta": 0.0}, {"beta": float("nan")}, {"probes": 0}, {"probes": LATENT + 1}, {"width": 0}]
    )
    def test_bad_options(self, option):
        with pytest.raises(ValueError, match=f"{next(iter(option))}: expected"):
            free_form_flow(**option)
