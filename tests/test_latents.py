"""Latent spaces: inverses, the two likelihoods, standardisation."""

import pytest
import torch
from cases import FEATURES, LATENT, images, subject, vae

from fibermodels.core import seeded
from fibermodels.latents import VAE, Identity


@pytest.fixture(scope="module")
def pair():
    x = images(40)
    return x, subject()(x)


def test_the_identity_is_its_own_inverse(pair):
    x, h = pair
    space = Identity((3, 28, 28))
    z = space.encode(x, h)
    assert z.shape == (40, *space.latent_shape)
    assert z.min() >= -1
    torch.testing.assert_close(space.decode(z, h), x)


def test_the_terms_are_those_of_the_gaussians(pair):
    """KL and likelihoods against torch.distributions, the likelihoods without their constants."""
    x, h = pair
    phi = subject()
    space = vae(sigma=0.2, tau=0.5, subject=phi)
    torch.manual_seed(0)
    terms = space.loss(x, h)
    mean, std = space._posterior(x, h)
    normal = torch.distributions.Normal
    kl = torch.distributions.kl_divergence(normal(mean, std), normal(0.0, 1.0)).sum(1)
    torch.testing.assert_close(terms["kl"], kl)
    torch.manual_seed(0)
    image = space._draw(mean + std * torch.randn_like(std), h)
    for name, value, centre, scale in (("reconstruction", x, image, 0.2), ("fiber", h, phi(image.clamp(0, 1)), 0.5)):
        log_prob = normal(centre, scale).log_prob(value) - normal(0.0, scale).log_prob(torch.zeros(()))
        torch.testing.assert_close(terms[name], -log_prob.flatten(1).sum(1), rtol=1e-4, atol=1e-3)


def test_the_representation_trains_the_decoder_and_not_the_subject(pair):
    x, h = pair
    phi = subject()
    space = vae(tau=0.5, subject=phi)
    space.loss(x, h)["fiber"].mean().backward()
    assert space.draw.weight.grad.abs().sum() > 0
    assert all(p.grad is None for p in phi.parameters())


def test_a_plain_vae_ignores_the_representation(pair):
    x, h = pair
    space = VAE(dim=LATENT, feature_dim=0, width=16, blocks=1, patterns=8)
    assert torch.equal(space.encode(x, h), space.encode(x, h.roll(1, 0)))
    seeing = vae()
    assert not torch.equal(seeing.encode(x, h), seeing.encode(x, h.roll(1, 0)))


def test_the_product_has_standardised_latents_and_no_judge(pair):
    x, h = pair
    product = vae(tau=0.5, subject=subject()).product([{"x": x, "h": h}] * 20)
    assert product.subject is None
    assert not any(name.startswith("subject.") for name in product.state_dict())
    mean, std = product.moments(x, h)
    z = torch.cat([mean + std * torch.randn(std.shape, generator=seeded(i)) for i in range(200)])
    torch.testing.assert_close(z.mean(0), torch.zeros(LATENT), atol=0.1, rtol=0)
    torch.testing.assert_close(z.std(0), torch.ones(LATENT), atol=0.1, rtol=0)
    torch.testing.assert_close(product.decode(mean, h), vae().decode(vae().encode(x, h), h), atol=1e-4, rtol=0)


@pytest.mark.parametrize("option", [{"sigma": 0.0}, {"tau": -1.0}])
def test_bad_scales(option):
    with pytest.raises(ValueError, match="must be positive"):
        vae(**option)


def test_what_is_missing_is_named(pair):
    x, _ = pair
    with pytest.raises(ValueError, match=f"feature_dim {FEATURES} needs a representation"):
        vae().loss(x, None)
    with pytest.raises(ValueError, match=r"tau 0\.5 needs a subject"):
        vae(tau=0.5).loss(x, torch.zeros(len(x), FEATURES))
