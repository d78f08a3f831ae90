"""Classifier-free guidance of trained models: hidden representations in training, and their part in samples."""

import pytest
import torch
from cases import FEATURES, randomised

from fibermodels.diffusion import Midpoint
from fibermodels.latents import Identity
from fibermodels.models import Diffusion, FlowMatching
from fibermodels.nn import MLP
from fibermodels.noise import seeded

SHAPE = (3, 4, 4)


def guided(kind, scale=1.0, drop=0.5):
    torch.manual_seed(0)
    own = {"drop_condition": drop, "guidance_scale": scale}
    return randomised(kind(Identity(SHAPE), [FEATURES], MLP(16, 1), sampler=Midpoint(2), **own))


@pytest.mark.parametrize("kind", [FlowMatching, Diffusion], ids=lambda kind: kind.__name__)
class TestGuidance:
    def inputs(self):
        generator = seeded("classifier-free")
        z = torch.randn(5, 48, generator=generator)
        return z, torch.rand(5, generator=generator), torch.randn(5, FEATURES, generator=generator)

    def test_a_scale_of_zero_ignores_the_representation_and_one_follows_it(self, kind):
        z, t, h = self.inputs()
        ignoring, plain = guided(kind, 0.0), guided(kind)
        assert torch.equal(ignoring.denoiser(h)(z, t)[0], ignoring.denoiser(h.flip(0))(z, t)[0])
        assert not torch.allclose(plain.denoiser(h)(z, t)[0], plain.denoiser(h.flip(0))(z, t)[0])

    def test_estimates_are_linear_in_the_scale(self, kind):
        """Data and noise are linear in the network's output, so three scales lie on one line."""
        z, t, h = self.inputs()
        none, one, three = (guided(kind, scale).denoiser(h)(z, t) for scale in (0.0, 1.0, 3.0))
        for ignored, told, more in zip(none, one, three, strict=True):
            torch.testing.assert_close(more, ignored + 3 * (told - ignored), rtol=1e-4, atol=1e-4)

    def test_calls_are_counted(self, kind):
        model, calls = guided(kind, 2.0), []
        model.network.register_forward_hook(lambda *_: calls.append(1))
        model.push(torch.randn(2, *model.noise_shape), torch.randn(2, FEATURES))
        assert len(calls) == model.network_calls == 8
        assert guided(kind).network_calls == 4

    def test_training_hides_the_stated_share(self, kind):
        """A hidden representation has no gradient; among many rows the share is that of the option."""
        model = guided(kind, drop=0.25)
        h = torch.randn(2000, FEATURES, generator=seeded("share"), requires_grad=True)
        z = torch.randn(2000, 48, generator=seeded("latents"))
        sum(term.sum() for term in model.latent_loss(z, h).values()).backward()
        hidden = (h.grad.abs().sum(1) == 0).double().mean().item()
        assert hidden == pytest.approx(0.25, abs=0.05)

    def test_bad_options_are_named(self, kind):
        with pytest.raises(ValueError, match="guidance_scale: expected 1 for a model that is always told"):
            guided(kind, 2.0, drop=0.0)
        with pytest.raises(ValueError, match="drop_condition"):
            guided(kind, drop=1.0)
        with pytest.raises(ValueError, match="drop_condition: expected 0 for an unconditional model"):
            kind(Identity(SHAPE), [], MLP(16, 1), drop_condition=0.1)
