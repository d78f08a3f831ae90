"""Vision encoders of the transformers library, from a local folder: `pip install fibermodels[transformers]`.

Examples are DINOv2, DINOv3, CLIP, SigLIP, and the vision tower of a vision-language model.
"""

import inspect
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from fibermodels.config import locate
from fibermodels.subjects.layers import PLACES, Reading, as_representation, at_layer, find_layer
from fibermodels.subjects.networked import Networked
from fibermodels.subjects.preprocess import Interpolation, Preprocess


class Transformers(Networked):
    """A vision encoder of transformers, or the vision tower of a larger model.

    Args:
        source: a folder of `save_pretrained` or with the files of a hub, in the working directory or below the data
            root; or a configuration with `model_type`, for random weights.
        layer: `spatial` (the last tokens as a map, after the merger if there is one), `pooled` (the encoder's pooled
            vector, or the mean of the merger's tokens), or the name of a module of the encoder.
        image_shape: `[C, H, W]` of the images; one channel is repeated.
        weights: None starts at random; `pretrained` takes those in the folder.
        units: channels of the map, or entries of the vector, in this order; None takes all.
        input_size: pixels per side of the encoder's input; None takes that of the folder's image processor.
        mean, std: statistics of the input; None takes those of the folder's image processor.

    Raises:
        FileNotFoundError: the folder does not exist, or has no weights.
        ImportError: transformers is not installed.
        ValueError: the folder has no vision encoder, `mean` and `std` are missing, or an unknown layer or unit.
    """

    def __init__(
        self,
        source: str | dict[str, Any],
        layer: str = "spatial",
        image_shape: list[int] = [3, 256, 256],  # noqa: B006 - never changed, and jsonargparse shows it
        weights: str | None = None,
        units: list[int] | None = None,
        input_size: int | None = None,
        mean: list[float] | None = None,
        std: list[float] | None = None,
    ) -> None:
        tower = _tower(source, weights)
        patches = "grid_thw" in inspect.signature(tower.forward).parameters
        preprocess = _preprocess(source, tower.config, list(image_shape), input_size, mean, std)
        network = _Patchified(tower) if patches else _Plain(tower, preprocess.input_shape[-2:])
        example = torch.zeros(1, *preprocess.input_shape)
        super().__init__(network.eval(), preprocess, _reading(network, layer, example), units)


class _Plain(nn.Module):
    """Tokens or a map, and the pooled vector, of an image encoder."""

    def __init__(self, tower: Any, size: tuple[int, ...]) -> None:
        super().__init__()
        self.tower = tower
        known = "interpolate_pos_encoding" in inspect.signature(tower.forward).parameters
        other = vars(tower.config).get("image_size") not in (None, size[0])
        self.options = {"interpolate_pos_encoding": True} if known and other else {}

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        output = self.tower(images, **self.options)
        tokens: Tensor = output.last_hidden_state
        pooled = output.get("pooler_output")
        return tokens, (tokens[:, 0] if pooled is None else pooled).flatten(1)


class _Patchified(nn.Module):
    """Tokens after the merger, and their mean, of Qwen's towers, which take a list of patches.

    Each patch is repeated `temporal_patch_size` times, as in a still video; patches that are merged follow one another.
    """

    def __init__(self, tower: Any) -> None:
        super().__init__()
        self.tower = tower

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        config = self.tower.config
        p, m, frames = config.patch_size, config.spatial_merge_size, config.temporal_patch_size
        batch, channels, height, width = images.shape
        rows, columns = height // p, width // p
        patches = images.reshape(batch, channels, rows // m, m, p, columns // m, m, p).permute(0, 2, 5, 3, 6, 1, 4, 7)
        patches = patches.unsqueeze(6).expand(-1, -1, -1, -1, -1, -1, frames, -1, -1)
        flat = patches.reshape(batch * rows * columns, channels * frames * p * p)
        grid = torch.tensor([[1, rows, columns]] * batch, device=images.device)
        merged: Tensor = self.tower(flat, grid_thw=grid).pooler_output
        tokens = merged.unflatten(0, (batch, -1))
        return tokens, tokens.mean(1)


def _pooled(network: nn.Module, inputs: Tensor) -> Tensor:
    vector: Tensor = network(inputs)[1]
    return vector


def _spatial(network: nn.Module, inputs: Tensor, prefix_tokens: int) -> Tensor:
    size = (inputs.shape[-2], inputs.shape[-1])
    return as_representation(network(inputs)[0], size, prefix_tokens, False, "the encoder")


def _library() -> Any:
    try:
        import transformers
    except ImportError as error:
        raise ImportError("Transformers: transformers is missing: pip install fibermodels[transformers]") from error
    return transformers


def _tower(source: str | dict[str, Any], weights: str | None) -> Any:
    """The encoder alone, in evaluation mode."""
    library = _library()
    if weights not in (None, "pretrained"):
        raise ValueError(f"weights: expected null or 'pretrained' (those in the folder), got '{weights}'")
    if isinstance(source, dict):
        options = dict(source)
        if "model_type" not in options or weights is not None:
            raise ValueError("source: expected a configuration with model_type, and weights: null with it")
        config = library.AutoConfig.for_model(**options)
    else:
        config = library.AutoConfig.from_pretrained(locate(source), local_files_only=True)
    if weights is not None and isinstance(source, str):
        try:
            whole = library.AutoModel.from_pretrained(locate(source), local_files_only=True, dtype=torch.float32)
        except OSError as error:
            raise FileNotFoundError(f"weights: there are none in '{source}': {str(error).splitlines()[0]}") from error
    else:
        with torch.device("meta"):
            whole = library.AutoModel.from_config(config)
    kind = vars(config).get("vision_config")
    towers = [
        module
        for module in whole.modules()
        if isinstance(module, library.PreTrainedModel)
        and module.config.model_type == (config if kind is None else kind).model_type
    ]
    if not towers or (kind is None and towers[0].main_input_name != "pixel_values"):
        raise ValueError(f"source: a {config.model_type} has no vision encoder")
    tower = towers[0]
    return (type(tower)(tower.config) if weights is None else tower).eval()


def _preprocess(
    source: str | dict[str, Any],
    config: Any,
    image_shape: list[int],
    input_size: int | None,
    mean: list[float] | None,
    std: list[float] | None,
) -> Preprocess:
    """The preprocessing of the folder's image processor; arguments that are given replace its values."""
    processor = None
    if isinstance(source, str) and any(
        (locate(source) / f"{n}_config.json").is_file() for n in ("preprocessor", "processor")
    ):
        processor = _library().AutoImageProcessor.from_pretrained(locate(source), local_files_only=True)
        mean, std = mean or list(processor.image_mean), std or list(processor.image_std)
    if mean is None or std is None:
        raise ValueError("mean, std: expected both, because there is no preprocessor_config.json with their values")
    interpolation: Interpolation = "bilinear" if processor is not None and int(processor.resample) == 2 else "bicubic"
    merge = vars(config).get("spatial_merge_size")
    if merge is not None:
        size = _smart_size(processor, image_shape, merge * config.patch_size, input_size)
        return Preprocess(image_shape, mean, std, size=size, interpolation=interpolation)
    if input_size is not None or processor is None:
        pixels = input_size or config.image_size
        return Preprocess(image_shape, mean, std, pixels, crop=(pixels, pixels), interpolation=interpolation)
    resize, cropped = processor.size, processor.crop_size if processor.do_center_crop else None
    fixed = None if resize.shortest_edge else (resize.height, resize.width)
    crop = (cropped.height, cropped.width) if cropped else fixed
    if not processor.do_resize:
        return Preprocess(image_shape, mean, std, crop=crop, interpolation=interpolation)
    return Preprocess(image_shape, mean, std, resize.shortest_edge, fixed, crop, interpolation)


def _smart_size(processor: Any, image_shape: list[int], factor: int, input_size: int | None) -> tuple[int, int]:
    """The nearest height and width that are multiples of merged patches, as in Qwen's processor."""
    from transformers.models.qwen2_vl.image_processing_qwen2_vl import smart_resize

    if input_size is not None:
        if input_size % factor:
            raise ValueError(f"input_size: expected a multiple of {factor}, got {input_size}")
        return input_size, input_size
    limits = {}
    if processor is not None:
        limits = {"min_pixels": processor.size.shortest_edge, "max_pixels": processor.size.longest_edge}
    height, width = smart_resize(image_shape[1], image_shape[2], factor, **limits)
    return height, width


def _reading(network: Any, layer: str, example: Tensor) -> Reading:
    with torch.no_grad():
        tokens, _ = network(example)
    prefix = 0
    if tokens.ndim == 3 and isinstance(network, _Plain):
        patch = network.tower.config.patch_size
        prefix = tokens.shape[1] - (example.shape[-2] // patch) * (example.shape[-1] // patch)
    if layer in ("spatial", "pooled"):
        return _pooled if layer == "pooled" else partial(_spatial, prefix_tokens=prefix)
    if layer == "logits":
        raise ValueError(f"layer: an encoder has no 'logits'; expected one of {list(PLACES[:2])} or a module's name")
    if isinstance(network, _Patchified):
        raise ValueError(f"layer: expected one of {list(PLACES[:2])} for a tower of patches, got '{layer}'")
    find_layer(network.tower, layer, "Transformers(...).network.tower")
    return at_layer(network, f"tower.{layer}", example, "Transformers(...).network", prefix)
