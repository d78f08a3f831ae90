"""The latent space with the law of colour digits built in."""

import pytest
import torch
from cases import LATENT, colour_autoencoder, images, log_ratio, subject

from fibermodels.noise import seeded
from fibermodels.suites import ColourAutoencoder


@pytest.fixture(scope="module")
def pair():
    x = images(40)
    return x, subject()(x)


def test_the_fiber_term_judges_other_latents_at_targets_near_the_data(pair):
    x, h = pair
    phi = subject()
    space = colour_autoencoder(tau=0.5, noise=0.2, subject=phi)
    torch.manual_seed(0)
    term = space.loss(x, h)["fiber"]
    torch.manual_seed(0)
    mean, std = space.moments(x, h)
    z = (mean + std * torch.randn_like(std)).roll(1, 0)
    near = h + 0.2 * torch.randn_like(h)
    h_hat = phi(space._draw(z, near).clamp(0, 1))
    torch.testing.assert_close(term, -log_ratio(near, 0.5, h_hat), rtol=1e-4, atol=1e-3)


def test_the_fiber_term_trains_the_decoder_but_not_the_colour_of_its_ground(pair):
    x, h = pair
    phi = subject()
    space = colour_autoencoder(subject=phi)
    space.loss(x, h)["fiber"].mean().backward()
    for part in (space.content, space.style):
        assert all(p.grad is not None and p.grad.isfinite().all() for p in part.parameters())
    assert all(p.grad is None for part in (space.encoder, phi) for p in part.parameters())
    assert space.style.leave.bias.grad[0] == 0
    assert (space.style.leave.bias.grad[1:] != 0).all()


def test_a_latent_means_the_same_colours_on_every_fiber(pair):
    """With one map, for all targets: one ground colour on half the pixels, and one ratio of the channels'
    contrasts on the others."""
    _, h = pair
    space = colour_autoencoder(maps=1)
    images = space._draw(torch.randn(LATENT, generator=seeded(5)).expand(40, -1), h).flatten(2)
    content = space.content(h)
    ground = images.gather(2, content.argmin(1)[:, None, None].expand(-1, 3, -1))[..., 0]
    low = (content <= content.median(1, keepdim=True).values)[:, None].expand_as(images)
    torch.testing.assert_close(images[low], ground[:1, :, None].expand_as(images)[low])
    contrast = images - ground[:1, :, None]
    place = contrast[0, 0].abs().argmax()
    torch.testing.assert_close(contrast[:, 1] * contrast[0, 0, place], contrast[:, 0] * contrast[0, 1, place])


def test_a_channel_depends_on_its_own_latents_alone_and_all_in_one_way(pair):
    _, h = pair
    space = colour_autoencoder()
    z = torch.randn(40, LATENT, generator=seeded(6))
    image = space._draw(z, h)
    turned = z.unflatten(1, (3, -1)).roll(1, 1)
    torch.testing.assert_close(space._draw(turned.flatten(1), h), image.roll(1, 1))
    turned[:, 0] += 1.0
    changed = (space._draw(turned.flatten(1), h) != image.roll(1, 1)).flatten(2).any(2)
    assert changed.all(0).tolist() == changed.any(0).tolist() == [True, False, False]


def test_a_right_inverse_is_learned(pair):
    """After a short training, `phi(D(z', h))` is far nearer to `h` than unrelated images are, z' of others."""
    x, h = pair
    phi = subject()
    torch.manual_seed(6)
    space = colour_autoencoder(subject=phi, patterns=32, map_width=64, tau=0.1)
    optimizer = torch.optim.AdamW([p for p in space.parameters() if p.requires_grad], lr=5e-3)
    before = space.scores(x, h)["fiber_rms_swapped"].mean()
    for _ in range(150):
        optimizer.zero_grad()
        torch.stack([term.mean() for term in space.loss(x, h).values()]).sum().backward()
        optimizer.step()
    scores = {name: value.mean() for name, value in space.scores(x, h).items()}
    assert scores["fiber_rms_swapped"] < 0.5 * before
    assert scores["fiber_rms_swapped"] < 1.2 * scores["fiber_rms"] + 0.02


def test_it_takes_maps_and_grey_images():
    space = ColourAutoencoder([1, 8, 6], [2, 3, 3], 2, width=8, patterns=4, map_width=8)
    x, h = torch.rand(5, 1, 8, 6, generator=seeded(8)), torch.randn(5, 2, 3, 3, generator=seeded(9))
    assert space.encode(x, h).shape == (5, 2)
    assert space.decode(space.encode(x, h), h).shape == x.shape
    with pytest.raises(ValueError, match="give the model feature_shape"):
        space.encode(x, h.flatten(1))


@pytest.mark.parametrize("option", [{"tau": -1.0}, {"scale": 0.0}, {"noise": -0.1}, {"noise": float("nan")}])
def test_bad_options(option):
    with pytest.raises(ValueError, match="expected"):
        colour_autoencoder(**option)


def test_what_is_missing_is_named(pair):
    x, h = pair
    with pytest.raises(ValueError, match="h: expected representations, got None"):
        colour_autoencoder().loss(x, None)
    with pytest.raises(ValueError, match=r"subject: expected one to train with tau 0\.12"):
        colour_autoencoder().loss(x, h)
