"""Vision encoders of transformers, tiny and at random, against what the library computes itself."""

import sys

import pytest
import torch
from PIL import Image
from sklearn.datasets import load_sample_images

from fibermodels.config import build, describe
from fibermodels.subjects import Transformers

transformers = pytest.importorskip("transformers")

TINY = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
DINOV2 = {"model_type": "dinov2", "image_size": 56, "patch_size": 14} | TINY
DINOV3 = {"model_type": "dinov3_vit", "image_size": 64, "patch_size": 16, "num_register_tokens": 4} | TINY
CLIP_TOWER = {"model_type": "clip_vision_model", "image_size": 64, "patch_size": 16} | TINY
CLIP = {"model_type": "clip", "vision_config": CLIP_TOWER}
LLAVA = {"model_type": "llava", "vision_config": CLIP_TOWER}
QWEN = {
    "model_type": "qwen2_vl",
    "vision_config": {"depth": 1, "embed_dim": 32, "hidden_size": 24, "num_heads": 2, "patch_size": 14},
    "text_config": TINY | {"vocab_size": 64, "num_key_value_heads": 1, "bos_token_id": 0, "eos_token_id": 1},
}
STATISTICS = {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.25, 0.3]}


def made(source, layer="spatial", size=64, **options):
    torch.manual_seed(0)
    return Transformers(source, layer, [3, size, size], **STATISTICS | options)


@pytest.mark.parametrize(
    ("source", "prefix", "side"),
    [(DINOV2, 1, 4), (DINOV3, 5, 4), (CLIP, 1, 4), (LLAVA, 1, 4)],
    ids=lambda s: str(s)[:28],
)
def test_places_are_what_the_library_computes(source, prefix, side):
    x = torch.rand(2, 3, 64, 64)
    spatial, pooled = made(source), made(source, "pooled")
    output = spatial.network.tower(spatial.preprocess(x))
    h = spatial(x)
    assert h.shape == (2, *spatial.feature_shape) == (2, 32, side, side)
    torch.testing.assert_close(h[:, :, 1, 2], output.last_hidden_state[:, prefix + side + 2])
    torch.testing.assert_close(pooled(x), output.pooler_output)


def test_a_named_layer_is_a_hidden_state():
    phi = made(DINOV2, "encoder.layer.0")
    x = torch.rand(1, *phi.image_shape)
    states = phi.network.tower(phi.preprocess(x), output_hidden_states=True).hidden_states
    torch.testing.assert_close(phi(x)[:, :, 0, 3], states[1][:, 4])


@pytest.mark.parametrize("source", [DINOV2, DINOV3, CLIP, QWEN], ids=lambda s: s["model_type"])
def test_the_gradient_reaches_the_image(source):
    x = (0.2 + 0.6 * torch.rand(1, 3, 64, 64)).requires_grad_()
    h = made(source)(x)
    (gradient,) = torch.autograd.grad((h * torch.randn_like(h)).sum(), x)
    assert gradient.isfinite().all()
    assert gradient.abs().amax((0, 1)).count_nonzero() > 3900  # of 4096 pixels


@pytest.mark.parametrize("source", [DINOV2, CLIP], ids=lambda s: s["model_type"])
def test_other_input_sizes_resample_the_position_embedding(source):
    patch = 14 if source is DINOV2 else 16
    phi = made(source, input_size=6 * patch)
    assert phi.feature_shape == (32, 6, 6)


def test_patches_of_a_vision_language_model_are_the_librarys(tmp_path):
    """Qwen2-VL's tower: our image, patched on the way, against the library's processor on a photograph."""
    processor = transformers.Qwen2VLImageProcessor()
    processor.save_pretrained(tmp_path)
    transformers.AutoConfig.for_model(**QWEN).save_pretrained(tmp_path)
    image = Image.fromarray(load_sample_images().images[0]).resize((112, 84))  # sides it does not change
    x = torch.tensor(list(image.tobytes())).view(84, 112, 3).permute(2, 0, 1)[None] / 255
    torch.manual_seed(0)
    spatial = Transformers(str(tmp_path), "spatial", [3, 84, 112])
    batch = processor(images=[image], return_tensors="pt")
    output = spatial.network.tower(batch["pixel_values"], grid_thw=batch["image_grid_thw"]).pooler_output
    h = spatial(x)[0]
    assert h.shape == (24, 3, 4)
    torch.testing.assert_close(h.flatten(1).T, output, atol=1e-5, rtol=1e-4)
    assert output.std(0).mean() > 0.01
    pooled = made(QWEN, "pooled")
    y = torch.rand(2, 3, 64, 64)
    torch.testing.assert_close(pooled(y), made(QWEN)(y).mean((2, 3)))


def test_a_folder_brings_weights_and_preprocessing(tmp_path, monkeypatch):
    torch.manual_seed(3)
    theirs = transformers.AutoModel.from_config(transformers.AutoConfig.for_model(**CLIP)).eval()
    theirs.save_pretrained(tmp_path / "clip")
    statistics = {"image_mean": [0.1, 0.2, 0.3], "image_std": [0.3, 0.2, 0.1]}
    size = {"size": {"shortest_edge": 70}, "crop_size": {"height": 64, "width": 64}}
    processor = transformers.CLIPImageProcessor(**size, **statistics)
    processor.save_pretrained(tmp_path / "clip")
    monkeypatch.setenv("FIBERMODELS_DATA", str(tmp_path))
    image = Image.fromarray(load_sample_images().images[0]).resize((100, 90))
    x = torch.tensor(list(image.tobytes())).view(90, 100, 3).permute(2, 0, 1)[None] / 255
    phi = Transformers("clip", "spatial", [3, 90, 100], "pretrained")
    inputs = processor(images=[image], return_tensors="pt")["pixel_values"]
    difference = (phi.preprocess(x) - inputs).abs() * torch.tensor(statistics["image_std"]).view(3, 1, 1) * 255
    assert difference.max() < 2.5
    truth = theirs.vision_model(phi.preprocess(x)).last_hidden_state[:, 1:]
    torch.testing.assert_close(phi(x).flatten(2).transpose(1, 2), truth)
    again = build(describe(phi), weights=False)
    again.load_state_dict(phi.state_dict())
    torch.testing.assert_close(again(x), phi(x))
    (tmp_path / "clip" / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match="weights: there are none in 'clip'"):
        Transformers("clip", "spatial", [3, 90, 100], "pretrained")


@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        (DINOV2, {"layer": "encoder.layers.0"}, r"no 'encoder.layers.0'.*did you mean \['encoder.layer.0'"),
        (DINOV2, {"layer": "logits"}, "an encoder has no 'logits'"),
        (DINOV2, {"mean": None}, "mean, std: expected both"),
        (DINOV2, {"weights": "file.safetensors"}, "weights: expected null or 'pretrained'"),
        (DINOV2, {"weights": "pretrained"}, "weights: null with it"),
        (QWEN, {"input_size": 60}, "input_size: expected a multiple of 28, got 60"),
        (QWEN, {"layer": "blocks.0"}, "for a tower of patches"),
        ({"model_type": "bert"}, {}, "a bert has no vision encoder"),
    ],
)
def test_bad_arguments_are_named(source, options, message):
    with pytest.raises(ValueError, match=message):
        made(source, **options)


def test_the_extra_is_named_where_it_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ImportError, match=r"pip install fibermodels\[transformers\]"):
        made(DINOV2)
