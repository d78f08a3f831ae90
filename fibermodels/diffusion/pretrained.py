"""Pretrained diffusion models as priors: any pipeline of diffusers with a UNet or a DiT, in a local folder.

They are over pixels or, where the pipeline has an autoencoder, over its latents; they predict noise, data, v or flow.
Estimates of the data are clipped where the scheduler says `clip_sample`, as diffusers does in its samplers: without it,
guided samples of a small DDPM are saturated colours.
"""

from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from fibermodels.core import MapLatents
from fibermodels.diffusion.foreign import Foreign, check_null
from fibermodels.diffusion.parametrisation import PredictionName
from fibermodels.diffusion.pipelines import NETWORKS, read_network, read_parametrisation
from fibermodels.diffusion.prior import Controllable
from fibermodels.diffusion.prompts import embed, read_embeddings
from fibermodels.diffusion.samplers import Estimate
from fibermodels.diffusion.schedule import Spacing
from fibermodels.latents import AutoencoderKL, Identity
from fibermodels.latents.folders import local_folder, read_json
from fibermodels.nn import Control


class Pretrained(Foreign):
    """Any pipeline that is understood, as an unconditional prior. For a ControlNet, see `PretrainedUNet`.

    Args:
        path: the pipeline's folder, with `unet` or `transformer`, `scheduler` and, where there are any, `vae`,
            `tokenizer` and `text_encoder`. Weights are safetensors files; nothing is fetched.
        image_shape: `(C, H, W)`; None takes the size that the network was trained on.
        prompt: of a text-conditional network.
        negative_prompt: what stands for no prompt.
        embeddings: a safetensors file with `prompt_embeds` and `negative_prompt_embeds`, in place of the prompts.
        class_label: of a class-conditional network.
        null_label: the label that it was trained to take for no class; a DiT has one of its own.
        guidance_scale: of classifier-free guidance: 1 follows the condition, 0 ignores it, more exaggerates.
        prediction_type: `epsilon`, `sample`, `v_prediction` or `flow`; None believes the scheduler.
        spacing: how samplers go through time: `angle`, as they do elsewhere here (see `Schedule.times`), or `even` in
            time, on the steps that the network was trained with.
        latents: the latent space, where it is not in the folder.
        dtype: what the network computes in: `float32`, `bfloat16` or `float16`; the autoencoder stays in float32.
        variant: the middle of the weights' file names, say `fp16`.
        checkpointing: compute activations again in the backward pass, block by block: less memory, more time.

    Raises:
        FileNotFoundError: no such folder. The name of a repository on a hub is not a folder.
        ValueError: parts that are missing, damaged or not understood, or options that do not fit them.
    """

    networks: ClassVar[tuple[str, ...]] = tuple(sorted(set(NETWORKS.values())))
    """Classes that are taken."""

    def __init__(
        self,
        path: str,
        image_shape: list[int] | None = None,
        prompt: str = "",
        negative_prompt: str = "",
        embeddings: str | None = None,
        class_label: int | None = None,
        null_label: int | None = None,
        guidance_scale: float = 1.0,
        prediction_type: PredictionName | None = None,
        spacing: Spacing = "angle",
        latents: MapLatents | None = None,
        dtype: str = "float32",
        variant: str | None = None,
        checkpointing: bool = False,
    ) -> None:
        own = type(self).__name__
        folder = local_folder(own, path)
        parametrisation = read_parametrisation(own, folder, prediction_type, spacing)
        network = read_network(own, folder, dtype, variant)
        if type(network).__name__ not in self.networks:
            raise ValueError(
                f"{own}: '{path}' has a {type(network).__name__}: expected {' or '.join(self.networks)}; "
                f"Pretrained takes any of {sorted(set(NETWORKS.values()))}"
            )
        config = network.config
        super().__init__(
            network,
            _latents(own, folder, config, image_shape) if latents is None else latents,
            parametrisation,
            _text(own, folder, config, prompt, negative_prompt, embeddings),
            _labels(own, config, class_label, null_label),
            guidance_scale,
            checkpointing,
        )
        _check(own, config, self.latents, image_shape)


class PretrainedUNet(Pretrained, Controllable):
    """A pipeline with a `UNet2DConditionModel`, which a ControlNet can steer; arguments as in `Pretrained`.

    `controlled` is one call of the network, without classifier-free guidance.

    Raises:
        ValueError: another network, or what `Pretrained` refuses.
    """

    networks = ("UNet2DConditionModel",)

    def controlled(self, z_t: Tensor, t: Tensor, control: Control, prompted: Tensor | None = None) -> Estimate:
        row = torch.ones_like(t, dtype=torch.bool) if prompted is None else prompted
        if not row.all():
            check_null(type(self).__name__, self.labels)
        maps, steps = self._asked(z_t, t)
        output = self._call(maps, steps, row, control(maps, steps, self._told(row)))
        return self.parametrisation.estimates(output.flatten(1), z_t, t)


def _latents(owner: str, folder: Path, config: Any, image_shape: list[int] | None) -> MapLatents:
    """The latent space of a pipeline: its autoencoder's, else pixels in [-1, 1]."""
    size = config["sample_size"]
    if image_shape is None and size is None:
        raise ValueError(f"{owner}: '{folder}' does not say the size of its images: give image_shape")
    sides = [size, size] if isinstance(size, int) else list(size or [])
    if (folder / "vae").is_dir():
        own = read_json(owner, folder / "vae" / "config.json")
        factor = 2 ** (len(own.get("block_out_channels", [64])) - 1)
        return AutoencoderKL(str(folder), image_shape or [own.get("in_channels", 3), *(factor * n for n in sides)])
    channels, height, width = image_shape or [config["in_channels"], *sides]
    return Identity((channels, height, width))


def _check(owner: str, config: Any, latents: MapLatents, image_shape: list[int] | None) -> None:
    """Refuses a network that does not understand the maps of its latent space, or the time."""
    if config.get("time_embedding_type", "positional") != "positional":
        raise ValueError(f"{owner}: a network that embeds time as '{config['time_embedding_type']}' is not understood")
    if config.get("addition_embed_type") is not None or config.get("class_embed_type") is not None:
        raise ValueError(f"{owner}: a network with further embeddings (as SDXL's) is not understood")
    if image_shape is not None and tuple(image_shape) != latents.image_shape:
        raise ValueError(f"{owner}: image_shape {image_shape}, but the latents are of images {latents.image_shape}")
    channels, *sides = latents.map_shape
    if channels != config["in_channels"]:
        raise ValueError(
            f"{owner}: the network takes maps of {config['in_channels']} channels, the latents have {channels}"
        )
    fixed = "patch_size" in config  # its embeddings of positions are for one size
    multiple = config["sample_size"] if fixed else 2 ** (len(config["block_out_channels"]) - 1)
    if any(side % multiple for side in sides) or (fixed and sides != [multiple, multiple]):
        raise ValueError(
            f"{owner}: the network takes maps whose sides are {'' if fixed else 'multiples of '}{multiple}, got {sides}"
        )


def _text(
    owner: str, folder: Path, config: Any, prompt: str, negative_prompt: str, embeddings: str | None
) -> Tensor | None:
    """Embeddings `(2, L, D)` of no prompt and of the prompt; None for a network that reads none."""
    kinds = [*config.get("down_block_types", []), config.get("mid_block_type"), *config.get("up_block_types", [])]
    if "cross_attention_dim" not in config or not any("CrossAttn" in str(kind) for kind in kinds):
        if prompt or negative_prompt or embeddings:
            raise ValueError(f"{owner}: prompt '{prompt or negative_prompt or embeddings}': the network reads no text")
        return None
    if embeddings is not None and (prompt or negative_prompt):
        raise ValueError(f"{owner}: give prompts or embeddings, not both")
    if embeddings is not None:
        text = read_embeddings(owner, embeddings)
    elif (folder / "text_encoder").is_dir():
        text = embed(owner, folder, prompt, negative_prompt)
    else:
        raise FileNotFoundError(f"{owner}: '{folder}' has no text_encoder: give embeddings")
    width = config["cross_attention_dim"]
    if isinstance(width, int) and config.get("encoder_hid_dim") is None and text.shape[-1] != width:
        raise ValueError(f"{owner}: the network reads embeddings of width {width}, got {text.shape[-1]}")
    return text


def _labels(owner: str, config: Any, label: int | None, null: int | None) -> Tensor | None:
    """The label of no class, -1 where it is not known, and the class, `(2,)`; None for a network without classes."""
    own = config.get("num_embeds_ada_norm")  # of a DiT: its label of no class comes after the classes
    count = config.get("num_class_embeds") if own is None else own + 1
    if count is None:
        if label is not None or null is not None:
            raise ValueError(f"{owner}: class_label {label}, null_label {null}: the network knows no classes")
        return None
    null = own if null is None else null
    if label is None and null is None:
        raise ValueError(f"{owner}: the network knows {count} classes: give class_label, or null_label for none")
    label = null if label is None else label
    for name, value in (("class_label", label), ("null_label", null)):
        if value is not None and not 0 <= value < count:
            raise ValueError(f"{owner}: {name} must be from 0 to {count - 1}, got {value}")
    return torch.tensor([-1 if null is None else null, label])
