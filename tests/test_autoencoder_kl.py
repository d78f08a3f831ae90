"""Diffusers' autoencoder as a latent space, against its own encoder and decoder."""

import json

import pytest
import torch
from pipelines import tiny_vae

from fibermodels.config import build, describe
from fibermodels.core import MapLatents
from fibermodels.latents import AutoencoderKL
from fibermodels.noise import seeded

SETTINGS = {
    "scale": {},
    "shift": {"shift_factor": 0.3},
    "channel by channel": {"latents_mean": [0.1, 0.2, 0.3, 0.4], "latents_std": [1.0, 2.0, 0.5, 0.25]},
    "no quantisation": {"use_quant_conv": False, "use_post_quant_conv": False},
}


def saved(folder, colours=3, **options):
    torch.manual_seed(0)
    network = tiny_vae(colours, **options).eval()
    network.save_pretrained(folder)
    return network


def images(colours=3, count=5):
    return torch.rand(count, colours, 16, 16, generator=seeded("images"))


@pytest.mark.parametrize("options", SETTINGS.values(), ids=SETTINGS)
@torch.no_grad()
def test_it_is_the_network_in_scaled_coordinates(options, tmp_path):
    network = saved(tmp_path, **options)
    latents, x = AutoencoderKL(str(tmp_path)), images()
    assert isinstance(latents, MapLatents)
    shift = torch.tensor(options.get("shift_factor") or options.get("latents_mean", 0.0)).reshape(-1, 1, 1)
    scale = 0.5 / torch.tensor(options.get("latents_std", 1.0)).reshape(-1, 1, 1)
    posterior = network.encode(2 * x - 1).latent_dist
    mean, std = latents.moments(x, None)
    torch.testing.assert_close(mean, ((posterior.mean - shift) * scale).flatten(1))
    torch.testing.assert_close(std, (posterior.std * scale).flatten(1))
    own = posterior.mean + 0.7 * posterior.std
    z = latents.posterior_sample(mean, std, torch.full_like(std, 0.7))
    expected = (network.decode(own).sample / 2 + 0.5).clamp(0, 1)
    torch.testing.assert_close(latents.decode(z, None), expected, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_batches_change_nothing(tmp_path):
    saved(tmp_path)
    whole, parts, x = AutoencoderKL(str(tmp_path)), AutoencoderKL(str(tmp_path), batch=2), images()
    z = whole.encode(x, None)
    torch.testing.assert_close(parts.encode(x, None), z, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(parts.decode(z, None), whole.decode(z, None), atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_grey_images(tmp_path):
    """Of an autoencoder of their own, or of colours: they are seen as grey colours."""
    saved(tmp_path / "grey", 1)
    own, x = AutoencoderKL(str(tmp_path / "grey")), images(1)
    assert own.image_shape == (1, 16, 16)
    assert own.decode(own.encode(x, None), None).shape == x.shape
    saved(tmp_path / "colour", 3)
    colour, grey = AutoencoderKL(str(tmp_path / "colour")), AutoencoderKL(str(tmp_path / "colour"), [1, 16, 16])
    z = colour.encode(x.expand(-1, 3, -1, -1), None)
    torch.testing.assert_close(grey.encode(x, None), z)
    drawn = (2 * colour.decode(z, None) - 1).mean(1, keepdim=True)
    inside = (colour.decode(z, None) > 0).all(1, keepdim=True) & (colour.decode(z, None) < 1).all(1, keepdim=True)
    assert inside.float().mean() > 0.5
    torch.testing.assert_close((2 * grey.decode(z, None) - 1)[inside], drawn[inside])


def test_other_sizes_and_gradients(tmp_path):
    saved(tmp_path / "pipeline" / "vae")
    latents = AutoencoderKL(str(tmp_path / "pipeline"), [3, 32, 8]).train()
    assert latents.map_shape == (4, 16, 4)
    assert not latents.training
    assert not latents.network.training
    z = torch.randn(1, 256, generator=seeded("z")).requires_grad_()
    (slope,) = torch.autograd.grad(latents.decode(z, None).sum(), z)
    assert slope.any()
    assert not any(parameter.requires_grad for parameter in latents.parameters())


@torch.no_grad()
def test_it_is_built_again_from_its_description(tmp_path):
    saved(tmp_path)
    latents, x = AutoencoderKL(str(tmp_path), batch=3), images()
    again = build(json.loads(json.dumps(describe(latents))), weights=False)
    torch.testing.assert_close(again.encode(x, None), latents.encode(x, None))


def test_bad_input_is_refused(tmp_path):
    saved(tmp_path)
    with pytest.raises(FileNotFoundError, match="AutoencoderKL: .*give the local folder"):
        AutoencoderKL("stabilityai/sd-vae-ft-ema")
    for shape in ([3, 17, 16], [2, 16, 16]):
        with pytest.raises(ValueError, match=r"expected image_shape \[3, H, W\] with sides that are multiples of 2"):
            AutoencoderKL(str(tmp_path), shape)
    with pytest.raises(ValueError, match="batch: expected a number of at least 1, got 0"):
        AutoencoderKL(str(tmp_path), batch=0)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"_class_name": "VQModel"}))
    with pytest.raises(ValueError, match="of a VQModel"):
        AutoencoderKL(str(tmp_path))
