"""Conversion of guided-diffusion's checkpoints, against that network written anew from the published description."""

import pytest
import torch
from guided_diffusion import Reference, reference

from fibermodels.diffusion import GuidedDiffusion
from fibermodels.diffusion.guided_diffusion import convert
from fibermodels.diffusion.pipelines import network_class


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"new_order": True},
        {"updown": False},
        {"scaled": False},
        {"classes": 5},
        {"sigma": False},
        {"blocks": 1},
        {"attended": {4}},
        {"attended": set(), "mult": (1, 2)},
        {"mult": (1,), "attended": {1}},
    ],
    ids=str,
)
@torch.no_grad()
def test_the_converted_network_is_the_same_function(options):
    theirs = reference(**options)
    config, state = convert(theirs.state_dict(), 16, options.get("new_order", False))
    ours = network_class("UNet2DModel")(sample_size=16, **config).eval()
    ours.load_state_dict(state)
    x, steps = torch.randn(3, 3, 16, 16), torch.tensor([0.0, 17.5, 999.0])
    label = torch.tensor([0, 3, 4]) if "classes" in options else None
    expected = theirs(x, steps, label)
    assert expected.std() > 0.01
    torch.testing.assert_close(ours(x, steps, class_labels=label).sample, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("classes", "millions"), [(1000, 554), (None, 553)])
def test_the_published_network_fits_at_full_size(classes, millions):
    """By names and shapes, without its memory; 554 M parameters in table 4 of the paper, with classes."""
    with torch.device("meta"):
        theirs = Reference(256, (1, 1, 2, 2, 4, 4), 2, {8, 16, 32}, 64, classes=classes)
        config, state = convert(theirs.state_dict(), 64)
        ours = network_class("UNet2DModel")(sample_size=256, **config)
    ours.load_state_dict(state, assign=True)
    assert round(sum(p.numel() for p in ours.parameters()) / 1e6) == millions
    assert sum(p.numel() for p in ours.parameters()) == sum(p.numel() for p in theirs.parameters())


class TestPrior:
    @pytest.fixture
    def path(self, tmp_path):
        torch.save(reference().state_dict(), tmp_path / "tiny.pt")
        return str(tmp_path / "tiny.pt")

    @torch.no_grad()
    def test_it_predicts_the_noise_that_the_network_does(self, path):
        prior = GuidedDiffusion(path, [3, 16, 16], head_channels=16)
        z, t = torch.randn(2, 768), torch.tensor([0.5, 1.0])
        data, noise = prior.denoiser()(z, t)
        expected = reference()(z.unflatten(1, (3, 16, 16)), 1000 * t - 1)[:, :3].flatten(1)
        torch.testing.assert_close(noise, expected, atol=1e-5, rtol=1e-5)
        alpha, sigma = prior.schedule.alpha(t)[:, None], prior.schedule.sigma(t)[:, None]
        torch.testing.assert_close(alpha * data + sigma * noise, z)

    def test_the_betas_are_those_of_the_paper(self, path):
        betas = torch.linspace(1e-4, 0.02, 1000, dtype=torch.double)
        prior = GuidedDiffusion(path, [3, 16, 16], head_channels=16)
        t = torch.arange(1, 1001, dtype=torch.double) / 1000
        torch.testing.assert_close(prior.schedule.alpha(t) ** 2, (1 - betas).cumprod(0), atol=1e-6, rtol=1e-4)

    def test_bad_input_is_refused(self, path, tmp_path):
        with pytest.raises(ValueError, match=r"multiples of 4, got \[3, 18, 16\]"):
            GuidedDiffusion(path, [3, 18, 16], head_channels=16)
        with pytest.raises(ValueError, match="class_label 3: the network knows no classes"):
            GuidedDiffusion(path, [3, 16, 16], head_channels=16, class_label=3)
        with pytest.raises(FileNotFoundError, match="nothing at"):
            GuidedDiffusion(str(tmp_path / "other.pt"))
        with pytest.raises(ValueError, match="no checkpoint of guided-diffusion"):
            GuidedDiffusion(path, [3, 16, 16], head_channels=48)
        state = reference().state_dict()
        for change in ({"extra.weight": torch.zeros(1)}, {"input_blocks.99.0.bias": torch.zeros(1)}):
            torch.save(state | change, path)
            with pytest.raises(ValueError, match="no checkpoint of guided-diffusion"):
                GuidedDiffusion(path, [3, 16, 16], head_channels=16)
        torch.save({"a": {"b": torch.zeros(1)}}, path)
        with pytest.raises(ValueError, match="expected tensors by name"):
            GuidedDiffusion(path)
        with open(path, "wb") as file:
            file.write(b"damaged")
        with pytest.raises(ValueError, match="damaged or not weights"):
            GuidedDiffusion(path)
