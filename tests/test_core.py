"""Contracts that hold for whatever is built on them."""

import pytest
import torch
from cases import LATENT, flow_matching, subject, vae

from fibermodels.checks import check_feature_shape, check_images
from fibermodels.component import fingerprint
from fibermodels.config import build, describe, import_class, public_path
from fibermodels.core import FiberModel, FiberSamples
from fibermodels.noise import seeded, target_noise


@pytest.mark.parametrize("shape", [(3,), (54,), (3, 8, 8)])
def test_noise_of_a_target_does_not_depend_on_the_batch(shape):
    whole = target_noise(4, 10, shape, seeded(0))
    generator = seeded(0)
    parts = [target_noise(4, count, shape, generator) for count in (1, 6, 3)]
    assert torch.equal(whole, torch.cat(parts, 1))


def test_noise_is_standard_normal_and_independent():
    noise = target_noise(50, 200, (16,), seeded(1)).flatten()
    assert noise.mean().abs() < 0.01
    assert noise.std().item() == pytest.approx(1, abs=0.01)
    assert not torch.equal(target_noise(1, 2, (5,), seeded(1))[0, 0], target_noise(1, 2, (5,), seeded(1))[0, 1])


def test_seeds_are_unrelated():
    streams = [torch.rand(4, generator=seeded(*parts)) for parts in ((0,), (1,), (0, 1), ("a", 0), (10,), (1, 0))]
    assert all(not torch.equal(a, b) for i, a in enumerate(streams) for b in streams[:i])


def test_contracts_cannot_be_instantiated():
    with pytest.raises(TypeError):
        FiberModel()


def test_a_subject_is_frozen_and_differentiable():
    phi = subject().train()
    assert not phi.training
    assert not any(p.requires_grad for p in phi.parameters())
    x = torch.rand(2, 3, 28, 28, requires_grad=True)
    (gradient,) = torch.autograd.grad(phi(x).sum(), x)
    assert gradient.isfinite().all()
    assert gradient.abs().sum() > 0


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.rand(2, 1, 28, 28), r"expected shape \(B, 3, 28, 28\), got \(2, 1, 28, 28\)"),
        (torch.rand(3, 28, 28), "expected shape"),
        (torch.full((1, 3, 28, 28), 2.0), r"expected values in \[0, 1\], got \[2, 2\]"),
        (torch.full((1, 3, 28, 28), float("nan")), r"expected values in \[0, 1\]"),
        (torch.zeros(1, 3, 28, 28, dtype=torch.uint8), "expected floating point"),
    ],
)
def test_bad_images_are_named(images, message):
    with pytest.raises(ValueError, match=message):
        check_images(images, (3, 28, 28))


def test_a_subject_takes_images_alone():
    phi, images = subject(), torch.rand(2, 3, 28, 28)
    assert phi(images).shape == (2, *phi.feature_shape)
    with pytest.raises(ValueError, match=r"images: expected shape \(B, 3, 28, 28\), got one image: give image\[None\]"):
        phi(images[0])
    with pytest.raises(ValueError, match=r"images: expected shape \(B, 3, 28, 28\), got \(2, 1, 28, 28\)"):
        phi(images[:, :1])
    with pytest.raises(ValueError, match="expected floating point"):
        phi((255 * images).byte())
    with pytest.raises(ValueError, match=r"expected torch\.float32 as of its weights, got torch\.float64"):
        phi(images.double())


def test_what_a_model_cannot_sample_from():
    model = flow_matching(latents=vae(), feature_shape=[48])
    h = torch.rand(2, 48)
    assert model.sample(h).shape == (1, 2, 3, 28, 28)
    for bad, message in (
        (h[0], r"got one without a batch, \[48\]: give h\[None\]"),
        (h.long(), r"h: expected representations \(B, \.\.\.\) of floating point, got torch\.int64"),
        (h / 0, r"h: expected finite numbers, got NaN or infinity first in row 0"),
        (torch.tensor(1.0), r"h: expected representations \(B, \.\.\.\)"),
    ):
        with pytest.raises(ValueError, match=message):
            model.sample(bad)
    for x, message in (
        (255 * torch.rand(2, 3, 28, 28), r"x: expected values in \[0, 1\]"),
        (torch.rand(3, 3, 28, 28), r"x: expected as many queries as the 2 targets, got 3"),
    ):
        with pytest.raises(ValueError, match=message):
            model.sample(h, x=x)


def test_samples_must_belong_together():
    x, h = torch.rand(4, 3, 2, 2), torch.rand(4, 6)
    FiberSamples(x, h, torch.rand(2, 4, 3, 2, 2), torch.rand(2, 4, 6))
    with pytest.raises(ValueError, match="do not belong together"):
        FiberSamples(x, h, torch.rand(2, 5, 3, 2, 2), torch.rand(2, 4, 6))
    with pytest.raises(ValueError, match="numbers of targets or samples"):
        FiberSamples(x, h, torch.rand(2, 4, 3, 2, 2), torch.rand(3, 4, 6))


@pytest.mark.parametrize("name", ["x_hat", "h_hat"])
def test_samples_must_be_finite_in_every_slot(name):
    parts = {"x_hat": torch.rand(3, 4, 3, 2, 2), "h_hat": torch.rand(3, 4, 6)}
    parts[name][2, 1].view(-1)[-1] = float("nan")
    with pytest.raises(ValueError, match=rf"{name}, slot 2, target 1: expected finite"):
        FiberSamples(torch.rand(4, 3, 2, 2), torch.rand(4, 6), **parts)


def test_one_representation_without_a_batch():
    with pytest.raises(ValueError, match=r"got one without a batch, \[6\]: give h\[None\]"):
        check_feature_shape("MLP", torch.zeros(6), (6,))


def test_describe_and_build_are_inverse():
    model = flow_matching(steps=3)
    description = describe(model)
    assert description["class_path"] == "fibermodels.models.FlowMatching"
    assert description["init_args"]["latents"]["init_args"]["dim"] == LATENT
    assert describe(build(description)) == description


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("os.system", "outside the allowed import paths"),
        ("fibermodels.models.flow_matching.FlowMaching", "did you mean.*FlowMatching"),
        ("fibermodels.diffusion.unguided", "no class"),
        ("fibermodels.nowhere.Model", "cannot import"),
    ],
)
def test_build_refuses_what_it_does_not_know(path, message):
    with pytest.raises(ValueError, match=message):
        build({"class_path": path, "init_args": {}})


def test_own_packages_can_be_allowed(monkeypatch):
    with pytest.raises(ValueError, match="FIBERMODELS_IMPORTS"):
        build({"class_path": "cases.Missing", "init_args": {}})
    monkeypatch.setenv("FIBERMODELS_IMPORTS", "cases")
    with pytest.raises(ValueError, match="no class"):
        build({"class_path": "cases.Missing", "init_args": {}})


def test_fingerprint_tells_weights_apart():
    assert fingerprint(subject(0)) == fingerprint(subject(0))
    assert fingerprint(subject(0)) != fingerprint(subject(1))


def test_weights_that_do_not_load(tmp_path):
    from safetensors.torch import save_file

    with pytest.raises(FileNotFoundError, match="no weights at"):
        vae(weights=str(tmp_path / "missing.safetensors"))
    foreign = tmp_path / "foreign.safetensors"
    save_file({"a": torch.zeros(1)}, foreign)
    with pytest.raises(ValueError, match="do not fit"):
        vae(weights=str(foreign))
    foreign.write_bytes(b"not a tensor in sight")
    with pytest.raises(ValueError, match="not a safetensors file"):
        vae(weights=str(foreign))


@pytest.mark.parametrize(
    ("home", "public"),
    [
        ("fibermodels.core.FiberModel", "fibermodels.FiberModel"),
        ("fibermodels.data.image_folder.ImageFolder", "fibermodels.data.ImageFolder"),
        ("fibermodels.models.flow_matching.FlowMatching", "fibermodels.models.FlowMatching"),
        ("fibermodels.suites.colour_digits.ColourDigits", "fibermodels.suites.ColourDigits"),
    ],
)
def test_names_that_are_imported_lazily_have_public_paths(home, public):
    """Packages import these classes on first use (`config.lazy`); files must not record where a class is defined."""
    cls = import_class(home, lambda found: isinstance(found, type), "a class")
    assert public_path(cls) == public
    assert import_class(public, lambda found: found is cls, "the same class") is cls


def test_names_of_weights_get_no_suggestion():
    from fibermodels.commands import nearest

    assert nearest("no option 'widht'") == "; did you mean 'width' instead of 'widht'?"
    assert nearest("MLP: the weights in 'a.safetensors' do not fit: Missing key(s): \"network.enter.bias\"") == ""
