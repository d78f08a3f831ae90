"""Latent spaces: inverses, the likelihoods, the decoder's two sides, standardisation."""

import pytest
import torch
from cases import FEATURES, LATENT, colour_autoencoder, conv_vae, fiber_autoencoder, images, log_ratio, subject, vae
from torch.distributions import Laplace, Normal, kl_divergence

from fibermodels import distances
from fibermodels.latents import VAE, FiberAutoencoder, Identity, PooledMaps
from fibermodels.noise import seeded
from fibermodels.subjects import SpatialMean

SPACES = {
    "vae": vae,
    "conv_vae": conv_vae,
    "fiber_autoencoder": lambda **options: fiber_autoencoder(subject=subject(), **options),
    "colour_autoencoder": lambda **options: colour_autoencoder(subject=subject(), **options),
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


@pytest.mark.parametrize(
    ("make", "law"),
    [(vae, Normal), (conv_vae, Normal), (fiber_autoencoder, Normal), (colour_autoencoder, Laplace)],
)
def test_the_bound_is_that_of_the_distributions(pair, make, law):
    x, h = pair
    space = make(**({"tau": None} if make in (fiber_autoencoder, colour_autoencoder) else {}))
    torch.manual_seed(0)
    terms = space.loss(x, h)
    mean, std = space.moments(x, h)
    kl = kl_divergence(Normal(mean, std), Normal(0.0, 1.0)).sum(1)
    torch.testing.assert_close(terms["kl"], kl)
    torch.manual_seed(0)
    image = space._draw(mean + std * torch.randn_like(std), h)
    scale = torch.tensor(getattr(space, "sigma", None) or space.scale)
    log_ratio = (law(image, scale).log_prob(x) - law(image, scale).log_prob(image)).flatten(1).sum(1)
    torch.testing.assert_close(terms["reconstruction"], -log_ratio, rtol=1e-4, atol=1e-3)


class TestFiberAutoencoder:
    def test_the_fiber_term_judges_the_image_of_its_own_latents(self, pair):
        x, h = pair
        phi = subject()
        space = fiber_autoencoder(tau=0.5, subject=phi)
        space.condition.standardise.measure(h)
        spread = (h - h.mean(0)).square().mean().sqrt()
        torch.manual_seed(0)
        term = space.loss(x, h)["fiber"]
        torch.manual_seed(0)
        mean, std = space.moments(x, h)
        image = space._draw(mean + std * torch.randn_like(std), h)
        share = distances.rms(h, phi(image.clamp(0, 1))) / (0.5 * spread)
        torch.testing.assert_close(term, FEATURES / 2 * (1 + share**2).log(), rtol=1e-2, atol=1e-2)

    def test_near_the_fiber_the_term_is_that_of_a_gaussian(self, pair):
        x, h = pair
        off = 1e-3 * torch.randn(h.shape, generator=seeded("off"))
        space = fiber_autoencoder(subject=lambda image: h + off + 0 * image.mean((1, 2, 3))[:, None], tau=0.5)
        term = space.loss(x, h)["fiber"]
        torch.testing.assert_close(term, -log_ratio(h, 0.5, h + off), rtol=1e-3, atol=1e-6)

    def test_the_fiber_term_is_zero_on_the_fiber(self, pair):
        """For any subject that maps the images to `h`, here one that knows the answer."""
        x, h = pair
        space = fiber_autoencoder(subject=lambda image: h + 0 * image.mean((1, 2, 3))[:, None])
        assert space.loss(x, h)["fiber"].abs().max() == 0

    def test_the_fiber_term_trains_encoder_and_decoder_but_not_the_subject(self, pair):
        x, h = pair
        phi = subject()
        space = fiber_autoencoder(subject=phi)
        for block in (*space.mix.blocks, *space.maps.blocks, *space.encoder.blocks, space.paint[1]):
            torch.nn.init.normal_(block.outer.weight, std=0.1)
        space.loss(x, h)["fiber"].mean().backward()
        for part in (space.encoder, space.mix, space.maps, space.paint):
            assert all(p.grad is not None and p.grad.isfinite().all() for p in part.parameters())
        assert all(p.grad is None for p in phi.parameters())

    @pytest.mark.slow
    def test_a_right_inverse_is_learned(self, pair):
        """After a short training, `phi(D(z, h))` is far nearer to `h` than before, and than unrelated images are."""
        x, h = pair
        phi = subject()
        torch.manual_seed(6)
        space = fiber_autoencoder(subject=phi, channels=32, width=64, tau=0.1)
        space.condition.standardise.measure(h)
        optimizer = torch.optim.AdamW([p for p in space.parameters() if p.requires_grad], lr=5e-3)
        before = space.scores(x, h)["fiber_rms"].mean()
        for _ in range(150):
            optimizer.zero_grad()
            torch.stack([term.mean() for term in space.loss(x, h).values()]).sum().backward()
            optimizer.step()
        unrelated = distances.rms(h, h.roll(1, 0)).mean()
        assert space.scores(x, h)["fiber_rms"].mean() < 0.3 * min(before, unrelated)

    def test_each_channel_is_a_sum_of_products(self, pair):
        """Channels are mixtures of `products` maps that they share, plus a constant each."""
        _, h = pair
        space = fiber_autoencoder(products=1)
        image = space._draw(torch.randn(40, LATENT, generator=seeded(5)), h).flatten(2)
        contrast = image - image.mean(2, keepdim=True)
        rank = torch.linalg.svdvals(contrast)
        assert (rank[:, 1] < 1e-4 * rank[:, 0]).all()

    def test_it_takes_maps_and_grey_images(self):
        space = FiberAutoencoder([1, 8, 12], [2, 3, 3], 2, width=8, channels=8)
        x, h = torch.rand(5, 1, 8, 12, generator=seeded(8)), torch.randn(5, 2, 3, 3, generator=seeded(9))
        assert space.encode(x, h).shape == (5, 2)
        assert space.decode(space.encode(x, h), h).shape == x.shape
        with pytest.raises(ValueError, match="give the model feature_shape"):
            space.encode(x, h.flatten(1))

    @pytest.mark.parametrize("option", [{"tau": -1.0}, {"sigma": 0.0}, {"products": 0}, {"channels": 12}])
    def test_bad_options(self, option):
        with pytest.raises(ValueError, match="expected"):
            fiber_autoencoder(**option)

    def test_what_is_missing_is_named(self, pair):
        x, h = pair
        with pytest.raises(ValueError, match="h: expected representations, got None"):
            fiber_autoencoder().loss(x, None)
        with pytest.raises(ValueError, match=r"subject: expected one to train with tau 0\.05"):
            fiber_autoencoder().loss(x, h)


class TestSpacesThatSeeTheRepresentation:
    @pytest.fixture(params=[fiber_autoencoder, colour_autoencoder], ids=lambda f: f.__name__)
    def make(self, request):
        return request.param

    def test_the_scale_and_the_offset_of_h_change_nothing_in_the_networks(self, pair, make):
        x, h = pair
        found = []
        for scale, shift in ((1.0, 0.0), (100.0, 0.0), (3.0, -1000.0)):
            space, moved = make(), scale * h + shift
            space.condition.standardise.measure(moved)
            space.gaussianise.measure(torch.randn(500, LATENT, generator=seeded(7)))
            z = space.encode(x, moved)
            found.append((z, space.decode(z, moved)))
        for z, decoded in found[1:]:
            torch.testing.assert_close(z, found[0][0], atol=1e-3, rtol=0)
            torch.testing.assert_close(decoded, found[0][1], atol=1e-3, rtol=0)

    def test_the_product_keeps_the_statistics_of_h(self, pair, make):
        x, h = pair
        space = make()
        space.condition.standardise.measure(h)
        product = space.product([{"x": x, "h": h}])
        torch.testing.assert_close(product.condition.standardise.mean, h.mean(0))


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


class TestPooledMaps:
    def test_every_latent_decodes_to_a_map_with_the_given_mean(self):
        """Also where a channel of the latent is nowhere positive, and where the mean is zero."""
        space, generator = PooledMaps([3, 4, 4], scale=0.5), seeded("pooled maps")
        z = torch.randn(6, 48, generator=generator)
        z[0, :16] = -1.0
        h = torch.rand(6, 3, generator=generator)
        h[1] = 0.0
        maps = space.decode(z, h)
        assert maps.min() >= 0
        torch.testing.assert_close(SpatialMean([3, 4, 4])(maps), h)

    def test_maps_behind_a_rectifier_come_back(self):
        space = PooledMaps([3, 4, 4], scale=0.5)
        maps = torch.randn(6, 3, 4, 4, generator=seeded("rectified")).relu()
        h = SpatialMean([3, 4, 4])(maps)
        torch.testing.assert_close(space.decode(space.encode(maps, h), h), maps)

    def test_bad_shapes_are_named(self):
        with pytest.raises(ValueError, match=r"PooledMaps: input_shape: expected \[C, H, W\], got \[3, 4\]"):
            PooledMaps([3, 4])
        with pytest.raises(ValueError, match=r"PooledMaps: h: expected means over places \(B, 3\), got \(2, 4\)"):
            PooledMaps([3, 4, 4]).decode(torch.zeros(2, 48), torch.zeros(2, 4))
