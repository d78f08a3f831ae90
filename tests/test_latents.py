"""Latent spaces: inverses, the likelihoods, the decoder's two sides, standardisation."""

import pytest
import torch
from cases import LATENT, conv_vae, fiber_autoencoder, images, subject, vae
from torch.distributions import Laplace

from fibermodels.latents import VAE, FiberAutoencoder, Identity
from fibermodels.noise import seeded

SPACES = {
    "vae": vae,
    "conv_vae": conv_vae,
    "fiber_autoencoder": lambda **options: fiber_autoencoder(subject=subject(), **options),
}


@pytest.fixture(scope="module")
def pair():
    x = images(40)
    return x, subject()(x)


@pytest.fixture(params=SPACES)
def space(request):
    return SPACES[request.param]()


def test_the_identity_is_its_own_inverse(pair):
    x, h = pair
    space = Identity((3, 28, 28))
    z = space.encode(x, h)
    assert z.shape == (40, *space.latent_shape)
    assert z.min() >= -1
    torch.testing.assert_close(space.decode(z, h), x)


def log_ratio(mean, scale, value):
    """Gaussian log-likelihood without its constant, by torch.distributions."""
    normal = torch.distributions.Normal
    peak = normal(0.0, scale).log_prob(torch.zeros(()))
    return (normal(mean, scale).log_prob(value) - peak).flatten(1).sum(1)


@pytest.mark.parametrize(
    ("make", "law"),
    [(vae, torch.distributions.Normal), (conv_vae, torch.distributions.Normal), (fiber_autoencoder, Laplace)],
)
def test_the_bound_is_that_of_the_distributions(pair, make, law):
    x, h = pair
    space = make(**({"tau": None} if make is fiber_autoencoder else {}))
    torch.manual_seed(0)
    terms = space.loss(x, h)
    mean, std = space.moments(x, h)
    normal = torch.distributions.Normal
    kl = torch.distributions.kl_divergence(normal(mean, std), normal(0.0, 1.0)).sum(1)
    torch.testing.assert_close(terms["kl"], kl)
    torch.manual_seed(0)
    image = space._draw(mean + std * torch.randn_like(std), h)
    scale = torch.tensor(getattr(space, "sigma", None) or space.scale)
    log_ratio = (law(image, scale).log_prob(x) - law(image, scale).log_prob(image)).flatten(1).sum(1)
    torch.testing.assert_close(terms["reconstruction"], -log_ratio, rtol=1e-4, atol=1e-3)


class TestFiberAutoencoder:
    def test_the_fiber_term_judges_other_latents_at_targets_near_the_data(self, pair):
        x, h = pair
        phi = subject()
        space = fiber_autoencoder(tau=0.5, noise=0.2, subject=phi)
        torch.manual_seed(0)
        term = space.loss(x, h)["fiber"]
        torch.manual_seed(0)
        mean, std = space.moments(x, h)
        z = (mean + std * torch.randn_like(std)).roll(1, 0)
        near = h + 0.2 * torch.randn_like(h)
        h_hat = phi(space._draw(z, near).clamp(0, 1))
        torch.testing.assert_close(term, -log_ratio(near, 0.5, h_hat), rtol=1e-4, atol=1e-3)

    def test_the_fiber_term_trains_the_decoder_but_not_the_colour_of_its_ground(self, pair):
        x, h = pair
        phi = subject()
        space = fiber_autoencoder(subject=phi)
        space.loss(x, h)["fiber"].mean().backward()
        for part in (space.content, space.style):
            assert all(p.grad is not None and p.grad.isfinite().all() for p in part.parameters())
        assert all(p.grad is None for part in (space.encoder, phi) for p in part.parameters())
        assert space.style.leave.bias.grad[0] == 0
        assert (space.style.leave.bias.grad[1:] != 0).all()

    def test_a_latent_means_the_same_colours_on_every_fiber(self, pair):
        """With one map, for all targets: one ground colour on half the pixels, and one ratio of the channels'
        contrasts on the others."""
        _, h = pair
        space = fiber_autoencoder(maps=1)
        images = space._draw(torch.randn(LATENT, generator=seeded(5)).expand(40, -1), h).flatten(2)
        content = space.content(h)
        ground = images.gather(2, content.argmin(1)[:, None, None].expand(-1, 3, -1))[..., 0]
        low = (content <= content.median(1, keepdim=True).values)[:, None].expand_as(images)
        torch.testing.assert_close(images[low], ground[:1, :, None].expand_as(images)[low])
        contrast = images - ground[:1, :, None]
        place = contrast[0, 0].abs().argmax()
        torch.testing.assert_close(contrast[:, 1] * contrast[0, 0, place], contrast[:, 0] * contrast[0, 1, place])

    def test_a_channel_depends_on_its_own_latents_alone_and_all_in_one_way(self, pair):
        _, h = pair
        space = fiber_autoencoder()
        z = torch.randn(40, LATENT, generator=seeded(6))
        image = space._draw(z, h)
        turned = z.unflatten(1, (3, -1)).roll(1, 1)
        torch.testing.assert_close(space._draw(turned.flatten(1), h), image.roll(1, 1))
        turned[:, 0] += 1.0
        changed = (space._draw(turned.flatten(1), h) != image.roll(1, 1)).flatten(2).any(2)
        assert changed.all(0).tolist() == changed.any(0).tolist() == [True, False, False]

    def test_a_right_inverse_is_learned(self, pair):
        """After a short training, `phi(D(z', h))` is far nearer to `h` than unrelated images are, z' of others."""
        x, h = pair
        phi = subject()
        torch.manual_seed(6)
        space = fiber_autoencoder(subject=phi, patterns=32, map_width=64, tau=0.1)
        optimizer = torch.optim.AdamW([p for p in space.parameters() if p.requires_grad], lr=5e-3)
        before = space.scores(x, h)["fiber_rms_swapped"].mean()
        for _ in range(150):
            optimizer.zero_grad()
            torch.stack([term.mean() for term in space.loss(x, h).values()]).sum().backward()
            optimizer.step()
        scores = {name: value.mean() for name, value in space.scores(x, h).items()}
        assert scores["fiber_rms_swapped"] < 0.5 * before
        assert scores["fiber_rms_swapped"] < 1.2 * scores["fiber_rms"] + 0.02

    def test_the_scale_and_the_offset_of_h_change_nothing_in_the_networks(self, pair):
        x, h = pair
        found = []
        for scale, shift in ((1.0, 0.0), (100.0, 0.0), (3.0, -1000.0)):
            space, moved = fiber_autoencoder(), scale * h + shift
            space.condition.standardise.measure(moved)
            space.gaussianise.measure(torch.randn(500, LATENT, generator=seeded(7)))
            z = space.encode(x, moved)
            found.append((z, space.decode(z, moved)))
        for z, decoded in found[1:]:
            torch.testing.assert_close(z, found[0][0], atol=1e-3, rtol=0)
            torch.testing.assert_close(decoded, found[0][1], atol=1e-3, rtol=0)

    def test_the_product_keeps_the_statistics_of_h(self, pair):
        x, h = pair
        space = fiber_autoencoder()
        space.condition.standardise.measure(h)
        product = space.product([{"x": x, "h": h}])
        torch.testing.assert_close(product.condition.standardise.mean, h.mean(0))

    def test_it_takes_maps_and_grey_images(self):
        space = FiberAutoencoder([1, 8, 6], [2, 3, 3], 2, width=8, patterns=4, map_width=8)
        x, h = torch.rand(5, 1, 8, 6, generator=seeded(8)), torch.randn(5, 2, 3, 3, generator=seeded(9))
        assert space.encode(x, h).shape == (5, 2)
        assert space.decode(space.encode(x, h), h).shape == x.shape
        with pytest.raises(ValueError, match="give the model feature_shape"):
            space.encode(x, h.flatten(1))

    @pytest.mark.parametrize("option", [{"tau": -1.0}, {"scale": 0.0}, {"noise": -0.1}, {"noise": float("nan")}])
    def test_bad_options(self, option):
        with pytest.raises(ValueError, match="expected"):
            fiber_autoencoder(**option)

    def test_what_is_missing_is_named(self, pair):
        x, h = pair
        with pytest.raises(ValueError, match="h: expected representations, got None"):
            fiber_autoencoder().loss(x, None)
        with pytest.raises(ValueError, match=r"subject: expected one to train with tau 0\.12"):
            fiber_autoencoder().loss(x, h)


def test_a_vae_ignores_the_representation(pair):
    x, h = pair
    assert torch.equal(vae().encode(x, h), vae().encode(x, h.roll(1, 0)))
    seeing = fiber_autoencoder()
    assert not torch.equal(seeing.encode(x, h), seeing.encode(x, h.roll(1, 0)))


def test_the_product_has_normal_latents_and_no_judge(pair, space):
    x, h = pair
    product = space.product([{"x": x, "h": h}] * 20)
    assert product.arguments.get("subject") is None
    assert not any(name.startswith("subject.") for name in product.state_dict())
    mean, std = product.moments(x, h)
    z = torch.cat([product.posterior_sample(mean, std, torch.randn(std.shape, generator=seeded(i))) for i in range(99)])
    levels = torch.linspace(0.05, 0.95, 19)
    expected = torch.special.ndtri(levels)[:, None].expand(-1, LATENT)
    torch.testing.assert_close(z.quantile(levels, 0), expected, atol=0.2, rtol=0)
    code = space.moments(x, h)[0]
    torch.testing.assert_close(
        product.decode(product.encode(x, h), h), space._draw(code, h).clamp(0, 1), atol=1e-3, rtol=0
    )


def test_a_vae_of_grey_images():
    space, x = VAE([1, 8, 6], 3, width=8, patterns=4), torch.rand(5, 1, 8, 6, generator=seeded(8))
    assert space.decode(space.encode(x, None), None).shape == x.shape
    space.loss(x, None)["reconstruction"].mean().backward()


def test_on_a_torus_maps_of_patches_move_with_the_image():
    space, x = conv_vae(circular=True), torch.rand(2, 3, 28, 28, generator=seeded("torus"))
    torch.manual_seed(3)
    for block in (*space.look[1:-1], *space.paint[1:-6]):
        torch.nn.init.normal_(block.outer.weight, std=0.1)
    moved, maps = space.look[:-1](x.roll((8, -4), (2, 3))), space.look[:-1](x)
    torch.testing.assert_close(moved, maps.roll((2, -1), (2, 3)))
    drawn = space.paint[1:](maps)
    torch.testing.assert_close(space.paint[1:](maps.roll((2, -1), (2, 3))), drawn.roll((8, -4), (2, 3)))
    assert not torch.allclose(conv_vae().paint[1:](maps.roll(2, 2)), conv_vae().paint[1:](maps).roll(8, 2))


@pytest.mark.parametrize("options", [{"image_shape": [3, 30, 28]}, {"channels": 12}, {"sigma": 0}, {"blocks": 0}])
def test_bad_convolutions(options):
    with pytest.raises(ValueError, match="ConvVAE"):
        conv_vae(**options)


def test_bad_sigma():
    with pytest.raises(ValueError, match="sigma: expected a number above 0"):
        vae(sigma=0.0)
