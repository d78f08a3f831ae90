"""The subjects that work by name: each file of `configs/parts/subjects`, at its real size with random weights."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from jsonargparse import ArgumentParser
from PIL import Image
from sklearn.datasets import load_sample_images

from fibermodels.config import build, describe
from fibermodels.core import Subject
from fibermodels.subjects import Timm, Torchvision

PARTS = Path(__file__).parents[1] / "configs" / "parts" / "subjects"

SHAPES = {
    "resnet50": (2048, 7, 7),
    "convnext_base": (1024, 7, 7),
    "swinv2_base": (1024, 12, 12),
    "inception_v3": (2048,),
    "dinov2": (768,),
    "dinov3": (768, 16, 16),
    "clip": (512,),
    "biomedclip": (512,),
    "convnext_tiny": (14,),
    "convnextv2_tiny": (5,),
    "chexpert": (5,),
}
"""What each gives."""

QUICK = {"resnet50"}
NAMES = [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in SHAPES]


def part(name, **options):
    torch.manual_seed(0)
    description = yaml.safe_load((PARTS / f"{name}.yaml").read_text())
    phi = build({**description, "init_args": description["init_args"] | options})
    for parameter in phi.parameters():
        if not parameter.any():  # residual branches that start at zero let nothing through
            parameter.data += 0.1 * torch.randn(parameter.shape)
    return phi


def photograph(shape):
    """A photograph of a subject's image shape as Pillow has it, and as a tensor `(1, C, H, W)`."""
    channels, height, width = shape
    image = Image.fromarray(load_sample_images().images[0]).crop((100, 20, 500, 420)).resize((width, height))
    if channels == 1:
        image = image.convert("L")
    pixels = torch.from_numpy(np.array(image)).view(height, width, channels)
    return image.convert("RGB"), pixels.permute(2, 0, 1)[None] / 255


def published(phi):
    """The transform that the network's library publishes with its weights, and the deviations it divides by."""
    if isinstance(phi, Torchvision):
        from torchvision.models import get_model_weights

        transform = get_model_weights(phi.arguments["model"]).DEFAULT.transforms()
        return transform, transform.std
    from timm.data import create_transform, resolve_data_config

    given = {name: phi.arguments[name] for name in ("crop_pct", "mean", "std") if phi.arguments[name] is not None}
    if phi.arguments["input_size"]:
        given["input_size"] = (3, phi.arguments["input_size"], phi.arguments["input_size"])
    config = resolve_data_config(given, model=phi.network)
    return create_transform(**config), config["std"]


def test_every_file_is_in_the_table():
    assert {path.stem for path in PARTS.glob("*.yaml")} == set(SHAPES)
    assert all(path.read_text().startswith("# ") for path in PARTS.glob("*.yaml"))


@pytest.mark.parametrize("name", SHAPES)
def test_the_command_line_reads_every_file(name):
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(Subject, "subject")
    read = parser.parse_args(["--subject", str(PARTS / f"{name}.yaml")]).subject
    assert read.class_path.startswith("fibermodels.subjects.")
    assert read.init_args.weights is None


def test_the_command_line_reads_a_configuration_and_a_users_network():
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(Subject, "subject")
    given = {"class_path": "Transformers", "init_args": {"source": {"model_type": "dinov2", "image_size": 56}}}
    given["init_args"] |= {"layer": "spatial", "mean": [0.5], "std": [0.5]}
    read = parser.parse_args(["--subject", json.dumps(given)]).subject
    assert read.init_args.source == {"model_type": "dinov2", "image_size": 56}
    statistics = {"mean": [0.5], "std": [0.5], "image_shape": [1, 8, 8], "layer": "conv"}
    given = {"class_path": "Cut", "init_args": {"network": "brought.Tokens", "network_args": {"width": 3}} | statistics}
    assert parser.parse_args(["--subject", json.dumps(given)]).subject.init_args.network_args == {"width": 3}


@pytest.mark.parametrize("name", NAMES)
def test_a_named_subject_keeps_the_contract(name):
    """Shapes, a gradient at the image, and the preprocessing of its own library, on a photograph."""
    phi = part(name)
    network = phi if isinstance(phi, Timm | Torchvision) else phi.encoder
    image, x = photograph(phi.image_shape)
    x.requires_grad_()
    h = phi(x)
    assert h.shape == (1, *phi.feature_shape) == (1, *SHAPES[name])
    assert h.isfinite().all()
    (gradient,) = torch.autograd.grad((h * torch.randn_like(h)).sum(), x)
    assert (gradient.abs().amax((0, 1)) > 0).float().mean() > 0.7  # a crop of 224 of 256 sees 77 %
    assert not any(p.requires_grad for p in phi.parameters())

    transform, std = published(network)
    difference = (network.preprocess(x)[0] - transform(image)).abs() * torch.tensor(std).view(3, 1, 1) * 255
    assert difference.max() < 2.5
    assert difference.mean() < 0.5

    again = build(describe(phi), weights=False)
    again.load_state_dict(phi.state_dict())
    torch.testing.assert_close(again(x.detach()), h.detach())


@pytest.mark.slow
def test_dinov2_and_swin_at_other_sizes():
    assert part("dinov2", layer="spatial").feature_shape == (768, 16, 16)
    assert part("dinov2", layer="spatial", input_size=518, crop_pct=1.0).feature_shape == (768, 37, 37)
    assert part("swinv2_base", model="swinv2_base_window12to16_192to256").feature_shape == (1024, 8, 8)
