"""Networks of timm and torchvision, cut anywhere, against what those libraries compute themselves."""

import urllib.error

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file
from sklearn.datasets import load_sample_images
from torchvision import models

from fibermodels.config import build, describe
from fibermodels.subjects import Timm, Torchvision

SMALL = {"test_resnet": (96, 5, 5), "test_vit": (64, 10, 10), "test_convnext": (64, 5, 5)}


def made(model, layer="spatial", **options):
    torch.manual_seed(0)
    return Timm(model, layer, **{"image_shape": [3, 96, 128]} | options)


def photograph(height, width):
    image = Image.fromarray(load_sample_images().images[1]).resize((width, height), Image.Resampling.BICUBIC)
    return image, torch.from_numpy(np.array(image)).permute(2, 0, 1)[None] / 255


@pytest.mark.parametrize("model", SMALL)
def test_places_are_what_timm_computes(model):
    x = torch.rand(2, 3, 96, 128)
    spatial, pooled, logits = (made(model, layer) for layer in ("spatial", "pooled", "logits"))
    net, inputs = spatial.network, spatial.preprocess(x)
    features = net.forward_features(inputs)
    maps = features if features.ndim == 4 else features[:, 1:].transpose(1, 2).unflatten(2, (10, 10))
    assert spatial.feature_shape == SMALL[model]
    torch.testing.assert_close(spatial(x), maps)
    torch.testing.assert_close(pooled(x), net.forward_head(features, pre_logits=True))
    torch.testing.assert_close(logits(x), net(inputs))
    assert (pooled.feature_shape, logits.feature_shape) == ((SMALL[model][0],), (1000,))


@pytest.mark.parametrize(
    ("model", "layer", "index"),
    [("test_resnet", "layer2", 2), ("test_vit", "blocks.2", 2), ("test_convnext", "stages.1", 1)],
)
def test_a_named_layer_is_timms_intermediate(model, layer, index):
    x = torch.rand(1, 3, 96, 128)
    phi = made(model, layer)
    truth = phi.network.forward_intermediates(phi.preprocess(x), indices=[index], intermediates_only=True)[0]
    torch.testing.assert_close(phi(x), truth)


def test_maps_of_swin_are_turned():
    torch.manual_seed(0)
    options = {"image_shape": [3, 64, 64], "input_size": 64}
    spatial, stage = (Timm("swinv2_tiny_window8_256", layer, **options) for layer in ("spatial", "layers.1"))
    assert spatial.feature_shape[1:] == (2, 2)
    assert stage.feature_shape == (192, 8, 8)
    x = torch.rand(1, 3, 64, 64)
    features = spatial.network.forward_features(spatial.preprocess(x))
    assert features.shape[1:] == (2, 2, 768)
    torch.testing.assert_close(spatial(x)[:, 5], features[..., 5])


@pytest.mark.parametrize("model", SMALL)
def test_the_gradient_reaches_the_image(model):
    x = (0.2 + 0.6 * torch.rand(1, 3, 96, 96)).requires_grad_()
    h = made(model, image_shape=[3, 96, 96])(x)
    (gradient,) = torch.autograd.grad((h * torch.randn_like(h)).sum(), x)
    assert (gradient[..., 4:-4, 4:-4] != 0).all()


@pytest.mark.parametrize("size", [(427, 640), (256, 256), (300, 200)])
@pytest.mark.parametrize("model", ["test_resnet", "test_vit"])
def test_preprocesses_as_timm_does(model, size):
    image, x = photograph(*size)
    phi = made(model, image_shape=[3, *size])
    config = timm.data.resolve_data_config({}, model=phi.network)
    truth = timm.data.create_transform(**config)(image)
    difference = (phi.preprocess(x)[0] - truth).abs() * torch.tensor(config["std"]).view(3, 1, 1) * 255
    assert difference.max() < 2.5
    assert difference.mean() < 0.5


def test_other_input_sizes_and_statistics_are_timms_too():
    image, x = photograph(256, 256)
    options = {"crop_pct": 0.8, "mean": [0.1, 0.2, 0.3], "std": [0.3, 0.2, 0.1]}
    phi = made("test_vit", image_shape=[3, 256, 256], input_size=96, **options)
    config = timm.data.resolve_data_config({"input_size": (3, 96, 96), **options}, model=phi.network)
    difference = (phi.preprocess(x)[0] - timm.data.create_transform(**config)(image)).abs()
    assert phi.feature_shape == (64, 6, 6)
    assert difference.max() < 2.5 / 255 / 0.1


def test_grey_images_enter_a_network_of_colours():
    x = torch.rand(2, 1, 96, 96)
    grey, colour = (made("test_resnet", image_shape=[c, 96, 96]) for c in (1, 3))
    torch.testing.assert_close(grey(x), colour(x.repeat(1, 3, 1, 1)))


def test_units_of_a_classifier():
    x = torch.rand(1, 3, 96, 128)
    torch.testing.assert_close(made("test_vit", "logits", units=[7, 3])(x), made("test_vit", "logits")(x)[:, [7, 3]])


def test_weights_come_from_timms_file(tmp_path):
    torch.manual_seed(1)
    theirs, path = timm.create_model("test_vit").eval(), str(tmp_path / "vit.safetensors")
    save_file(theirs.state_dict(), path)
    phi = made("test_vit", "logits", weights=path)
    x = torch.rand(1, 3, 96, 128)
    torch.testing.assert_close(phi(x), theirs(phi.preprocess(x)))
    headless = made("test_vit", "pooled", weights=path, num_classes=0)
    torch.testing.assert_close(headless(x), theirs.forward_head(theirs.forward_features(phi.preprocess(x)), True))
    assert headless.network.pretrained_cfg.get("state_dict") is None
    with pytest.raises(ValueError, match=r"does not fit test_vit.*head.*give its num_classes, or 0"):
        made("test_vit", "logits", weights=path, num_classes=5)
    save_file({name: value for name, value in theirs.state_dict().items() if "blocks.1" not in name}, path)
    with pytest.raises(ValueError, match=r"does not fit test_vit.*blocks\.1"):
        made("test_vit", weights=path, num_classes=0)


def test_an_openclip_file_gives_its_tower_of_timm(tmp_path):
    """As BiomedCLIP is published: a tower of timm under `visual.trunk`, a projection beside it, a text encoder."""
    torch.manual_seed(1)
    theirs = timm.create_model("test_vit", num_classes=0).eval()
    state = {f"visual.trunk.{name}": value for name, value in theirs.state_dict().items()}
    projection = torch.randn(12, 64)
    torch.save(state | {"visual.head.proj.weight": projection, "text.weight": torch.ones(2)}, tmp_path / "clip.bin")
    phi = made("test_vit", "logits", weights=str(tmp_path / "clip.bin"), num_classes=12)
    x = torch.rand(1, 3, 96, 128)
    torch.testing.assert_close(phi(x), theirs(phi.preprocess(x)) @ projection.T)


def test_a_checkpoint_builds_it_again(tmp_path):
    path = str(tmp_path / "net.safetensors")
    save_file(timm.create_model("test_resnet", num_classes=4).state_dict(), path)
    phi = made("test_resnet", "logits", weights=path, num_classes=4, units=[1, 3])
    again = build(describe(phi), weights=False)
    again.load_state_dict(phi.state_dict())
    x = torch.rand(1, 3, 96, 128)
    torch.testing.assert_close(again(x), phi(x))


def test_restricted_licences_are_said_with_the_weights(tmp_path):
    path = str(tmp_path / "net.safetensors")
    save_file(timm.create_model("convnextv2_atto", num_classes=0).state_dict(), path)
    with pytest.warns(UserWarning, match=r"convnextv2_atto have the licence 'cc-by-nc-4\.0'"):
        Timm("convnextv2_atto", "pooled", [3, 64, 64], path, num_classes=0)


def test_pretrained_weights_without_a_network_say_what_to_do(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(FileNotFoundError, match=r"the hub gives none for 'test_resnet'.*weights: FILE\.safetensors"):
        made("test_resnet", weights="pretrained")


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        ("resnet5", {}, r"has no 'resnet5'; did you mean \['resnet50'"),
        ("resnet50.a9_in1k", {}, r"no pretrained tag 'a9_in1k' of resnet50; expected one of .*resnet50\.a1_in1k"),
        ("test_resnet", {"layer": "layr4"}, r"no 'layr4' in ResNet; did you mean \['layer4'.*named_modules"),
        ("test_resnet", {"layer": "spatal"}, "did you mean .*'spatial'"),
        ("test_resnet", {"layer": "logits", "num_classes": 0}, "test_resnet has no classifier"),
        ("test_resnet", {"crop_pct": 1.5}, "crop_pct: expected a share"),
        ("test_resnet", {"units": [96]}, "units: expected numbers from 0 to 95"),
        ("test_resnet", {"image_shape": [4, 96, 96]}, "mean, std: expected 4 numbers"),
    ],
)
def test_bad_arguments_are_named(model, options, message):
    with pytest.raises(ValueError, match=message):
        made(model, **options)


def tv(layer, model="resnet18", **options):
    torch.manual_seed(0)
    return Torchvision(model, layer, **{"image_shape": [3, 64, 64]} | options)


def test_torchvisions_places_are_what_it_computes():
    x = torch.rand(1, 3, 64, 64)
    spatial = tv("spatial")
    net, inputs = spatial.network, spatial.preprocess(x)
    maps = net.layer4(net.layer3(net.layer2(net.layer1(net.maxpool(net.relu(net.bn1(net.conv1(inputs))))))))
    torch.testing.assert_close(spatial(x), maps)
    torch.testing.assert_close(tv("layer4")(x), maps)
    torch.testing.assert_close(tv("avgpool")(x), maps.mean((2, 3)))
    torch.testing.assert_close(tv("pooled")(x), maps.mean((2, 3)))
    torch.testing.assert_close(tv("logits")(x), net(inputs))


@pytest.mark.parametrize("size", [(427, 640), (256, 256)])
@pytest.mark.parametrize(("model", "tag"), [("regnet_y_400mf", None), ("regnet_y_400mf", "IMAGENET1K_V1")])
def test_preprocesses_as_torchvision_does(model, tag, size):
    image, x = photograph(*size)
    phi = tv("logits", model, tag=tag, image_shape=[3, *size])
    transform = models.get_model_weights(model)[tag or "DEFAULT"].transforms()
    difference = (phi.preprocess(x)[0] - transform(image)).abs() * 255 * torch.tensor(transform.std).view(3, 1, 1)
    assert difference.max() < 2.5
    assert difference.mean() < 0.5


def test_torchvisions_transformers_give_maps():
    phi = tv("spatial", "vit_b_32")
    inputs = phi.preprocess(torch.rand(1, 3, 64, 64))
    net = phi.network
    tokens = torch.cat([net.class_token, net._process_input(inputs)], 1)
    assert phi.feature_shape == (768, 7, 7)
    torch.testing.assert_close(phi.reading(net, inputs)[:, :, 1, 0], net.encoder(tokens)[:, 8])


def test_torchvisions_weights_come_from_a_file(tmp_path):
    theirs = models.resnet18(num_classes=7).eval()
    torch.save(theirs.state_dict(), tmp_path / "net.pth")
    phi = tv("logits", weights=str(tmp_path / "net.pth"), num_classes=7)
    x = torch.rand(1, 3, 64, 64)
    torch.testing.assert_close(phi(x), theirs(phi.preprocess(x)))
    with pytest.raises(ValueError, match="does not fit a ResNet.*give its num_classes"):
        tv("logits", weights=str(tmp_path / "net.pth"))


def test_torchvision_without_a_network_says_what_to_do(monkeypatch):
    def offline(*_, **__):
        raise urllib.error.URLError("no network")

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", offline)
    with pytest.raises(FileNotFoundError, match=r"resnet18.*no network.*weights: FILE\.pth"):
        tv("logits", weights="pretrained")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": "resnet_18"}, r"no 'resnet_18'; did you mean \['resnet18'"),
        ({"tag": "V1"}, r"tag: expected one of \['IMAGENET1K_V1'"),
        ({"layer": "layer5"}, r"no 'layer5' in ResNet; did you mean \['layer4'"),
    ],
)
def test_torchvisions_bad_arguments_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        tv(**{"layer": "logits"} | options)
