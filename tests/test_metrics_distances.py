"""Distances between sets of images, against scipy, torchmetrics and laws whose distance is known."""

import math

import numpy as np
import pytest
import scipy.linalg
import torch
from torch import nn

from fibermodels.metrics.diversity import Spread
from fibermodels.metrics.frechet import Moments, first_channels, frechet_distance
from fibermodels.metrics.kid import kernel, kernel_distance
from fibermodels.noise import seeded


def moments(features, size=64):
    own = Moments()
    for part in features.split(size):
        own.update(part)
    return own


def gaussian(count, dims, seed, shift=0.0, scale=1.0):
    """Correlated normal vectors `(count, dims)`."""
    generator = seeded("gaussian", seed)
    mix = torch.randn(dims, dims, generator=generator, dtype=torch.double) / dims**0.5
    return shift + scale * torch.randn(count, dims, generator=generator, dtype=torch.double) @ mix


def by_scipy(x, y):
    """The formula of Heusel et al., with scipy's matrix root."""
    x, y = x.numpy(), y.numpy()
    one, two = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    root = scipy.linalg.sqrtm(one @ two).real
    return ((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(one + two - 2 * root)


@pytest.mark.parametrize("size", [1, 7, 500])
def test_streamed_moments_are_those_of_the_whole(size):
    features = gaussian(500, 6, 0, shift=1e4).float()
    own = moments(features, size)
    np.testing.assert_allclose(own.mean, features.double().numpy().mean(0), rtol=1e-12)
    np.testing.assert_allclose(own.covariance, np.cov(features.double().numpy(), rowvar=False), rtol=1e-7)
    assert own.count == 500


def test_one_vector_has_no_covariance():
    with pytest.raises(ValueError, match="at least 2 vectors, got 1"):
        _ = moments(torch.zeros(1, 3)).covariance


@pytest.mark.parametrize(("count", "dims"), [(300, 8), (20, 40)], ids=["full rank", "singular"])
def test_frechet_distance_is_that_of_scipy(count, dims):
    x, y = gaussian(count, dims, 1), gaussian(count, dims, 2, shift=0.3, scale=1.5)
    expected = by_scipy(x, y)
    assert frechet_distance(moments(x), moments(y)) == pytest.approx(expected, rel=1e-5)
    assert frechet_distance(moments(y), moments(x)) == pytest.approx(expected, rel=1e-5)
    assert frechet_distance(moments(x), moments(x)) == pytest.approx(0, abs=1e-5)


def test_frechet_distance_of_gaussians_in_closed_form():
    """Between N(0, diag(a^2)) and N(m, diag(b^2)): |m|^2 + sum (a - b)^2, up to sampling."""
    a, b, m = torch.tensor([1.0, 2.0, 0.5]), torch.tensor([1.5, 1.0, 0.5]), torch.tensor([0.0, 0.3, -0.4])
    x = a * torch.randn(200_000, 3, generator=seeded("x"))
    y = m + b * torch.randn(200_000, 3, generator=seeded("y"))
    expected = m.square().sum() + (a - b).square().sum()
    assert frechet_distance(moments(x, 50_000), moments(y, 50_000)) == pytest.approx(expected.item(), rel=0.01)


class Flat(nn.Module):
    """Uint8 images as torchmetrics hands them over, to vectors."""

    def forward(self, images):
        return images.flatten(1).double() / 255


def uint8_images(seed, count=60):
    return torch.randint(0, 256, (count, 3, 2, 2), generator=seeded("images", seed), dtype=torch.uint8)


@pytest.mark.filterwarnings("ignore:Metric `Kernel")
def test_torchmetrics_agrees():
    from torchmetrics.image.fid import FrechetInceptionDistance
    from torchmetrics.image.kid import KernelInceptionDistance

    x, y = uint8_images(1), uint8_images(2) // 2
    theirs = [FrechetInceptionDistance(Flat(), input_img_size=(3, 2, 2)).set_dtype(torch.double)]
    theirs.append(KernelInceptionDistance(Flat(), subsets=1, subset_size=len(x)))
    for metric in theirs:
        metric.update(x, real=True), metric.update(y, real=False)
    fid, (kid, _) = (metric.compute() for metric in theirs)
    one, two = Flat()(x), Flat()(y)
    assert frechet_distance(moments(one), moments(two)) == pytest.approx(fid.item(), rel=1e-6)
    assert kernel_distance(one, two) == pytest.approx(kid.item(), rel=1e-6)


def test_kernel_distance_by_hand():
    x, y = torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([[1.0, 1.0], [0.0, 0.0]])
    assert kernel(x, y).tolist() == [[1.5**3, 1.0], [1.5**3, 1.0]]
    assert kernel_distance(x, y) == pytest.approx(1 + 1 - 2 * (1.5**3 + 1) / 2)
    assert kernel_distance(x, y, paired=True) == pytest.approx(1 + 1 - 2 * (1.5**3 + 1) / 2)
    assert kernel_distance(x, x, paired=True) == 0


def test_kernel_distance_of_pairs_is_unbiased_and_of_independent_sets_alike():
    """Samples of the targets' own law score 0 on average, though each resembles its target."""
    generator = seeded("pairs")
    dependent, wrongly = [], []
    for _ in range(400):
        x, fresh = torch.randn(2, 12, 3, generator=generator)
        y = 0.8 * x + 0.6 * fresh  # N(0, 1) again
        dependent.append(kernel_distance(x, y, paired=True))
        wrongly.append(kernel_distance(x, y))
    right, wrong = torch.tensor(dependent), torch.tensor(wrongly)
    error = right.std() / len(right) ** 0.5
    assert abs(right.mean()) < 3 * error
    assert wrong.mean() < -3 * error


@pytest.mark.parametrize(("one", "two", "paired"), [(1, 5, False), (5, 1, False), (4, 5, True)])
def test_too_few_or_unequal_sets(one, two, paired):
    with pytest.raises(ValueError, match="at least 2 vectors each"):
        kernel_distance(torch.zeros(one, 3), torch.zeros(two, 3), paired)


def test_the_spatial_distance_sees_as_many_channels_as_its_reference():
    """Seven of Inception's maps of 17 x 17 (Nash et al.)."""
    assert first_channels(torch.zeros(2, 768, 17, 17)).shape == (2, 2023)
    maps = torch.arange(24.0).view(1, 6, 2, 2)
    assert torch.equal(first_channels(maps), maps.flatten(1))
    assert first_channels(torch.zeros(1, 3, 50, 50)).shape == (1, 2500)


@pytest.mark.parametrize("shape", [(5, 3, 2), (5,)], ids=["maps", "vectors"])
def test_spread_is_the_mean_over_pairs(shape):
    features = torch.randn(4, 3, *shape, generator=seeded("spread"), dtype=torch.double)
    own = Spread()
    for slot in features:
        own.update(slot)
    unit = nn.functional.normalize(features, dim=2)
    pairs = [(unit[i] - unit[j]).square().sum(1).reshape(3, -1).mean(1) for i in range(4) for j in range(i)]
    torch.testing.assert_close(own.mean(), torch.stack(pairs).mean(0))


def test_spread_of_equal_opposite_and_single_samples():
    one = torch.randn(2, 5, 3, 3, generator=seeded("one"))
    same, opposite, single = Spread(), Spread(), Spread()
    for factor in (1, 7):
        same.update(factor * one), opposite.update((4 - factor) * one)
    single.update(one)
    assert same.mean().tolist() == pytest.approx([0, 0], abs=1e-12)
    assert opposite.mean().tolist() == pytest.approx([4, 4])
    assert all(math.isnan(value) for value in single.mean())
