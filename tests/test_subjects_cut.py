"""A user's own network, cut anywhere: what it gives against what the network computes."""

import pytest
import torch
from brought import Convolutional
from cases import images
from safetensors.torch import save_file

from fibermodels.component import fingerprint
from fibermodels.config import build, describe
from fibermodels.core import together
from fibermodels.subjects import Cut
from fibermodels.subjects.layers import token_grid

STATISTICS = {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.25, 0.3]}


@pytest.fixture(autouse=True)
def trusted(monkeypatch):
    monkeypatch.setenv("FIBERMODELS_IMPORTS", "brought")


def cut(layer, network="Convolutional", **options):
    torch.manual_seed(0)
    return Cut(f"brought.{network}", layer, [3, 32, 32], **STATISTICS | options)


def normalised(x):
    return (x - torch.tensor(STATISTICS["mean"]).view(3, 1, 1)) / torch.tensor(STATISTICS["std"]).view(3, 1, 1)


def stages(net, x):
    """Every place of `Convolutional`, computed by hand."""
    stem = net.stem(normalised(x))
    maps = net.stage(stem.relu()).relu()
    hidden = net.hidden(maps.mean((2, 3)))
    return {
        "stem": stem,
        "relu": maps,
        "spatial": maps,
        "hidden": hidden,
        "pooled": hidden.tanh(),
        "logits": net.linear(hidden.tanh()),
    }


@pytest.mark.parametrize("layer", ["stem", "relu", "spatial", "hidden", "pooled", "logits"])
def test_a_cut_gives_what_the_network_computes_there(layer):
    x = images(2).repeat(1, 1, 2, 2)[..., :32, :32]
    phi = cut(layer)
    truth = stages(phi.network, x)[layer]
    assert phi.feature_shape == tuple(truth.shape[1:])
    torch.testing.assert_close(phi(x), truth)


def test_layers_of_one_network_are_read_in_one_pass():
    """Other weights and another input are passes of their own; the order is that of the subjects."""
    x, names = torch.rand(2, 3, 32, 32), ["relu", "logits", "stem", "pooled"]
    subjects = [cut(name) for name in names]
    other, darker = cut("stem"), cut("stem", mean=[0.1, 0.1, 0.1])
    with torch.no_grad():
        other.network.stem.weight.mul_(2)
    everyone = [*subjects[:2], other, darker, *subjects[2:], cut("stem", units=[2, 0])]
    passes = []
    for each in everyone:
        each.network.stem.register_forward_hook(lambda *_: passes.append(1))
    found = together(everyone, x)
    assert len(passes) == 3
    for each, h in zip(everyone, found, strict=True):
        torch.testing.assert_close(h, each(x))


def test_nothing_behind_the_layer_runs():
    phi = cut("stem")
    phi.network.stage = None  # would fail if it were called
    assert phi(torch.rand(1, 3, 32, 32)).shape == (1, 4, 16, 16)


def test_a_hook_is_gone_when_the_forward_pass_ends():
    phi = cut("stem")
    phi(torch.rand(1, 3, 32, 32))
    assert not phi.network.stem._forward_hooks
    assert phi.network(torch.rand(1, 3, 32, 32)).shape == (1, 3)


@pytest.mark.parametrize("layer", ["spatial", "pooled", "logits"])
def test_units_are_channels_or_entries_in_their_order(layer):
    x = torch.rand(2, 3, 32, 32)
    chosen = cut(layer, units=[2, 0])
    assert chosen.feature_shape[0] == 2
    torch.testing.assert_close(chosen(x), cut(layer)(x)[:, [2, 0]])


def test_the_gradient_is_the_networks_own():
    x = torch.rand(2, 3, 32, 32, requires_grad=True)
    phi = cut("spatial")
    weights = torch.randn(8, 8, 8)
    (ours,) = torch.autograd.grad((weights * phi(x)).sum(), x)
    (truth,) = torch.autograd.grad((weights * stages(phi.network, x)["spatial"]).sum(), x)
    torch.testing.assert_close(ours, truth)
    assert ours.abs().amin((0, 1)).count_nonzero() > 900  # of 1024 pixels
    assert not any(p.requires_grad for p in phi.parameters())


@pytest.mark.parametrize("layer", ["spatial", "block"])
def test_tokens_become_a_map_without_those_before_them(layer):
    phi = cut(layer, "Tokens", prefix_tokens=2)
    net, x = phi.network, torch.rand(2, 3, 32, 32)
    patches = net.patches(normalised(x)).flatten(2).transpose(1, 2)
    tokens = net.block(torch.cat([net.prefix.expand(2, -1, -1), patches], 1))[0]
    h = phi(x)
    assert phi.feature_shape == (6, 4, 4)
    torch.testing.assert_close(h[:, :, 1, 3], tokens[:, 2 + 4 + 3])


def test_tokens_of_no_grid_say_how_many_to_drop():
    with pytest.raises(ValueError, match=r"18 tokens without prefix_tokens 0 form no grid.*; prefix_tokens 2 would"):
        cut("block", "Tokens")


@pytest.mark.parametrize(
    ("tokens", "size", "grid"),
    [(196, (224, 224), (14, 14)), (12, (96, 128), (3, 4)), (12, (128, 96), (4, 3)), (197, (224, 224), None)],
)
def test_a_grid_of_tokens_has_the_aspect_of_the_image(tokens, size, grid):
    assert token_grid(tokens, size) == grid


def test_maps_laid_out_as_nhwc_are_turned(monkeypatch):
    monkeypatch.setattr(Convolutional, "forward", lambda net, x: net.relu(net.stem(x).permute(0, 2, 3, 1)))
    assert cut("relu", channels_last=True).feature_shape == (4, 16, 16)


def test_another_input_size_is_resized_to():
    phi = cut("spatial", input_size=[16, 24])
    assert phi.feature_shape == (8, 4, 6)


@pytest.mark.parametrize("suffix", ["safetensors", "pth"])
def test_weights_come_from_a_file(tmp_path, suffix, monkeypatch):
    monkeypatch.setenv("FIBERMODELS_DATA", str(tmp_path))
    theirs, path = Convolutional(6), tmp_path / f"net.{suffix}"
    if suffix == "pth":
        torch.save({"state_dict": theirs.state_dict(), "epoch": 3}, path)
    else:
        save_file(theirs.state_dict(), path)
    phi = cut("logits", network_args={"width": 6}, weights=path.name)
    x = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(phi(x), theirs(normalised(x)))


def test_a_checkpoint_builds_it_again(tmp_path):
    save_file(Convolutional(6).state_dict(), tmp_path / "net.safetensors")
    phi = cut("spatial", network_args={"width": 6}, weights=str(tmp_path / "net.safetensors"), units=[1, 5])
    again = build(describe(phi), weights=False)
    assert fingerprint(again) != fingerprint(phi)
    again.load_state_dict(phi.state_dict())
    x = torch.rand(1, 3, 32, 32)
    torch.testing.assert_close(again(x), phi(x))


def test_foreign_files_are_refused(tmp_path):
    save_file(Convolutional(6).state_dict(), tmp_path / "wide.safetensors")
    (tmp_path / "text.safetensors").write_text("nothing")
    torch.save({"net": Convolutional()}, tmp_path / "pickled.pth")
    with pytest.raises(ValueError, match=r"does not fit a Convolutional: .* of another shape .*not \[8, 4, 3, 3\]"):
        cut("spatial", weights=str(tmp_path / "wide.safetensors"))
    for name in ("text.safetensors", "pickled.pth"):
        with pytest.raises(ValueError, match="neither a safetensors file nor one of tensors"):
            cut("spatial", weights=str(tmp_path / name))
    with pytest.raises(FileNotFoundError, match="nothing at"):
        cut("spatial", weights="nowhere.safetensors")


@pytest.mark.parametrize(
    ("layer", "options", "message"),
    [
        ("stagee", {}, r"no 'stagee' in Convolutional; did you mean \['stage'.*named_modules"),
        ("unused", {}, "'unused' does not run"),
        ("stem", {"units": [4]}, r"units: expected numbers from 0 to 3, got \[4\]"),
        ("stem", {"units": []}, "units"),
        ("stem", {"network_args": {"depth": 3}}, "network_args: cannot build brought.Convolutional.*depth"),
        ("stem", {"mean": [0.5]}, r"mean, std: expected 3 numbers each"),
        ("stem", {"interpolation": "nearest"}, "interpolation: expected bilinear or bicubic"),
        ("stem", {"input_size": [32]}, r"input_size: expected \[height, width\]"),
        ("stem", {"network": "Convolutionl"}, r"no class 'brought.Convolutionl'; did you mean \['Convolutional'\]"),
        ("stem", {"network": "Labelled"}, "no class 'brought.Labelled': that is not an nn.Module"),
    ],
)
def test_bad_arguments_are_named(layer, options, message):
    with pytest.raises(ValueError, match=message):
        cut(layer, **options)


def test_only_allowed_packages_are_imported(monkeypatch):
    monkeypatch.setenv("FIBERMODELS_IMPORTS", "")
    with pytest.raises(ValueError, match="'brought.Tokens' is outside the allowed import paths.*FIBERMODELS_IMPORTS"):
        cut("spatial", "Tokens")
