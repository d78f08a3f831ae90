"""Preprocessing on tensors against the transforms on Pillow images that networks are published with."""

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_sample_images
from torchvision.transforms import v2

from fibermodels.subjects.preprocess import Preprocess

IMAGENET = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}


def photograph(height, width):
    """A photograph as Pillow has it, and as a tensor `(1, 3, H, W)`."""
    image = Image.fromarray(load_sample_images().images[0]).resize((width, height), Image.Resampling.BICUBIC)
    return image, torch.from_numpy(np.array(image)).permute(2, 0, 1)[None] / 255


@pytest.mark.parametrize("size", [(427, 640), (256, 256), (200, 150), (96, 128)])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_equals_torchvisions_transform_on_a_photograph(size, interpolation):
    image, x = photograph(*size)
    transform = v2.Compose(
        [
            v2.Resize(235, interpolation=v2.InterpolationMode(interpolation), antialias=True),
            v2.CenterCrop(224),
            v2.PILToTensor(),
            v2.ToDtype(torch.float32, scale=True),
        ]
    )
    preprocess = Preprocess([3, *size], [0, 0, 0], [1, 1, 1], shorter=235, crop=(224, 224), interpolation=interpolation)
    difference = 255 * (preprocess(x)[0] - transform(image)).abs()  # Pillow rounds to integers, twice
    assert difference.max() < 2.5
    assert difference.mean() < 0.5


def test_normalises_each_channel():
    x = torch.rand(2, 3, 8, 8)
    truth = v2.functional.normalize(x, **IMAGENET)
    torch.testing.assert_close(Preprocess([3, 8, 8], **IMAGENET)(x), truth)


def test_grey_images_are_repeated():
    x = torch.rand(2, 1, 20, 30)
    options = {"shorter": 16, "crop": (16, 16)}
    grey, colour = (Preprocess([c, 20, 30], **IMAGENET, **options) for c in (1, 3))
    torch.testing.assert_close(grey(x), colour(x.repeat(1, 3, 1, 1)))


def test_every_pixel_of_the_crop_gets_a_gradient():
    x = (0.2 + 0.6 * torch.rand(1, 3, 64, 64)).requires_grad_()
    preprocess = Preprocess([3, 64, 64], **IMAGENET, shorter=32, crop=(28, 28))
    output = preprocess(x)
    (gradient,) = torch.autograd.grad((output * torch.randn_like(output)).sum(), x)
    assert (gradient[..., 6:-6, 6:-6] != 0).all()


def test_a_crop_larger_than_the_image_is_refused():
    with pytest.raises(ValueError, match=r"crop: expected at most .* \[32, 32\], got \[40, 40\]"):
        Preprocess([3, 32, 32], **IMAGENET, crop=(40, 40))
    with pytest.raises(ValueError, match="image_shape: expected"):
        Preprocess([32, 32], **IMAGENET)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_images_of_16_bits_are_resized_on_a_cpu(interpolation):
    """In mixed precision, generated images have 16 bits."""
    x = torch.rand(2, 3, 20, 20)
    options = {"shorter": 32, "interpolation": interpolation}
    found = Preprocess([3, 20, 20], [0, 0, 0], [1, 1, 1], **options)(x.bfloat16())
    truth = Preprocess([3, 20, 20], [0, 0, 0], [1, 1, 1], **options)(x)
    torch.testing.assert_close(found.float(), truth, rtol=0, atol=0.01)
