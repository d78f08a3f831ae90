"""Base digits and their colours: shapes, the free column, splits, reproducibility, errors."""

import hashlib

import pytest
import torch
from cases import subject, vae, write_mnist

from fibermodels.data import digits
from fibermodels.data.cached import CachedLatents
from fibermodels.data.digits import load_digits
from fibermodels.suites import colour
from fibermodels.suites.colour_digits import ColourDigits


@pytest.fixture
def mnist_root(tmp_path):
    return write_mnist(tmp_path, 5200, 40)


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_bundled_digits(split):
    digits = load_digits("digits", split)
    assert digits.shape[1:] == (1, 28, 28)
    assert digits.min() >= 0
    assert digits.max() <= 1
    assert digits[..., 0].max() == 0, "the law needs a background column"
    assert digits.flatten(1).amax(1).min() > 0.8


def test_splits_are_disjoint_and_complete():
    parts = [load_digits("digits", split).flatten(1) for split in ("train", "val", "test")]
    assert sum(map(len, parts)) == 1797
    rows = {tuple(row.tolist()) for part in parts for row in part}
    assert len(rows) > 1790  # a few of the bundled digits are equal to one another


def test_mnist_first_column_is_background(mnist_root):
    digits = load_digits("mnist", "test", str(mnist_root))
    assert digits.shape == (40, 1, 28, 28)
    assert digits[..., 0].max() == 0
    assert digits[0, 0, 10, 1] == pytest.approx(200 / 255)  # moved, not erased
    assert len(load_digits("mnist", "train", str(mnist_root))) == 200


def test_sets_that_touch_the_border_are_padded(mnist_root):
    (mnist_root / "KMNIST").symlink_to(mnist_root / "MNIST")
    digits = load_digits("kmnist", "test", str(mnist_root))
    assert digits.shape == (40, 1, 32, 32)
    assert digits[..., 0].max() == 0


def test_missing_files_are_named(tmp_path, monkeypatch):
    from torchvision.datasets import MNIST

    def no_network(self):
        raise RuntimeError("Error downloading train-images-idx3-ubyte.gz")

    monkeypatch.setattr(MNIST, "download", no_network)
    with pytest.raises(FileNotFoundError, match=r"(?s)MNIST/raw/\{train,t10k\}-.*FIBERMODELS_DATA"):
        load_digits("mnist", "train", str(tmp_path))


def test_truncated_file_is_named(mnist_root):
    file = mnist_root / "MNIST" / "raw" / "train-images-idx3-ubyte"
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(ValueError, match="truncated or damaged"):
        load_digits("mnist", "train", str(mnist_root))


def test_a_published_file_with_other_bytes_is_damaged(mnist_root, monkeypatch):
    file = mnist_root / "MNIST" / "raw" / "t10k-images-idx3-ubyte"
    content = file.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    monkeypatch.setitem(digits.MNIST, file.name, (len(content), digest))
    load_digits("mnist", "test", str(mnist_root))
    file.write_bytes(content[:500] + b"\0\1\2\3" + content[504:])
    with pytest.raises(ValueError, match=r"t10k-images-idx3-ubyte' is damaged: it does not have the sha256"):
        load_digits("mnist", "test", str(mnist_root))


def test_digits_of_another_size(mnist_root):
    file = mnist_root / "MNIST" / "raw" / "t10k-images-idx3-ubyte"
    content = file.read_bytes()
    count = int.from_bytes(content[4:8], "big") * 784 // 1000
    file.write_bytes(
        content[:4] + b"".join(n.to_bytes(4, "big") for n in (count, 25, 40)) + content[16 : 16 + 1000 * count]
    )
    with pytest.raises(ValueError, match=r"expected images of 28 x 28 pixels under '.*', got \(25, 40\)"):
        load_digits("mnist", "test", str(mnist_root))


def test_unknown_base():
    with pytest.raises(ValueError, match="expected one of .*'digits'.*got 'mnits'"):
        load_digits("mnits", "train")


def test_colours_follow_from_seed_and_epoch():
    first, second = (ColourDigits(seed=3).split("train") for _ in range(2))
    torch.testing.assert_close(first.images(), second.images())
    start = first.factors.clone()
    first.set_epoch(1)
    assert not torch.equal(first.factors, start)
    first.set_epoch(0)
    assert torch.equal(first.factors, start)
    assert not torch.equal(ColourDigits(seed=4).split("train").factors, start)


def test_variants():
    """The colour of the digit follows from the background's, or is independent of it."""
    assert ColourDigits().split("test").factors.shape[1] == 3
    other = ColourDigits(variant="uncorrelated").split("test")
    assert torch.corrcoef(other.factors.unflatten(1, (2, 3)).transpose(0, 1).flatten(1))[0, 1].abs() < 0.1
    digit, own = other.contents[0].amax((1, 2)) == 1, other.factors[0, 3:]
    assert digit.all()
    strongest = other.contents[0, 0] == 1
    torch.testing.assert_close(other.images()[0][:, strongest][:, 0], colour.foreground(own), atol=1e-6, rtol=0)


def test_batches_are_those_of_an_epoch():
    data = ColourDigits(batch_size=100)
    loader = data.train_dataloader()
    loader.sampler.set_epoch(2)
    batch = next(iter(loader))["x"]
    assert batch.shape == (100, 3, 28, 28)
    data.split("train").set_epoch(2)
    order = list(iter(loader.sampler))[:100]
    torch.testing.assert_close(batch, data.split("train").images(torch.tensor(order)))


@pytest.mark.parametrize("option", [{"batch_size": 0}, {"variant": "corelated"}])
def test_bad_options(option):
    with pytest.raises(ValueError, match="expected"):
        ColourDigits(**option)


def test_other_images_are_another_cache(tmp_path):
    """Even from the same configuration: the code that makes them may have changed."""
    same, again, other = ColourDigits(), ColourDigits(), ColourDigits()
    other.split("train").contents = other.split("train").contents.roll(1, -1)
    files = [CachedLatents(data, vae(), subject(), 1, str(tmp_path)).file for data in (same, again, other)]
    assert files[0] == files[1] != files[2]


def test_cached_latents_are_those_of_the_images(tmp_path):
    data, latents, phi = ColourDigits(batch_size=64), vae().eval(), subject()
    cached = CachedLatents(data, latents, phi, draws=2, folder=str(tmp_path))
    cached.prepare_data()
    stamp = cached.file.stat().st_mtime_ns
    cached.prepare_data()
    assert cached.file.stat().st_mtime_ns == stamp, "encoded once"
    cached.setup("fit")
    loader = cached.train_dataloader()
    loader.sampler.set_epoch(1)
    batch = next(iter(loader))
    images = data.split("train")
    images.set_epoch(1)
    x = images.images(torch.tensor(list(iter(loader.sampler))[:64]))
    torch.testing.assert_close(batch["h"], phi(x), atol=1e-5, rtol=1e-4)
    mean, std = latents.moments(x, phi(x))
    standardised = (batch["z"] - mean) / std
    assert standardised.mean().abs() < 0.2
    assert standardised.std().item() == pytest.approx(1, abs=0.15)
