"""The checkpoints of guided-diffusion, OpenAI's ADM, converted to diffusers' `UNet2DModel` when they are loaded.

Levels, channels and attention are read off the names and shapes of the tensors of one file, say
`256x256_diffusion_uncond.pt`; the size of a head is not in them. The names, where `i` counts the blocks:

    input_blocks.0.0             the first convolution
    input_blocks.i.0, .1         residual block, attention; after each level but the last one block that halves
    middle_block.0, .1, .2       residual block, attention, residual block
    output_blocks.i.0, .1, .2    residual block, attention, at the end of each level but the last one that doubles
    out.0, out.2                 norm and last convolution, of twice the channels where the variance is learned

The rows of a `qkv` go head by head, each its query, key and value; of checkpoints with "new attention order" queries,
keys and values go one after the other.

References: Dhariwal & Nichol, arXiv 2105.05233; the layout is that of its published code (MIT).
"""

import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fibermodels.checks import check_choice
from fibermodels.config import locate
from fibermodels.diffusion.foreign import Foreign
from fibermodels.diffusion.parametrisation import Parametrisation
from fibermodels.diffusion.pipelines import beta_table, network_class
from fibermodels.diffusion.schedule import Spacing, spaced
from fibermodels.latents import Identity
from fibermodels.latents.folders import DTYPES

State = dict[str, Tensor]

RESIDUAL = {
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
}
OUTER = {
    "time_embed.0": "time_embedding.linear_1",
    "time_embed.2": "time_embedding.linear_2",
    "input_blocks.0.0": "conv_in",
    "out.0": "conv_norm_out",
    "out.2": "conv_out",
    "label_emb": "class_embedding",
}


class GuidedDiffusion(Foreign):
    """A prior over pixels from a checkpoint of guided-diffusion.

    Args:
        path: the `.pt` file; read as weights only, so that it can run no code.
        image_shape: `(C, H, W)`.
        head_channels: channels of an attention head.
        new_attention_order: how the rows of a `qkv` go; the published models were trained with False.
        class_label: of a class-conditional one.
        cosine: betas of the cosine schedule (the model for 64x64) instead of the linear one.
        spacing, dtype, checkpointing: as in `Pretrained`.

    Raises:
        FileNotFoundError: no such file.
        ValueError: another kind of file, or images that do not fit it.
    """

    def __init__(
        self,
        path: str,
        image_shape: list[int] = [3, 256, 256],  # noqa: B006 (read only; a tuple would not be a YAML list)
        head_channels: int = 64,
        new_attention_order: bool = False,
        class_label: int | None = None,
        cosine: bool = False,
        spacing: Spacing = "angle",
        dtype: str = "float32",
        checkpointing: bool = False,
    ) -> None:
        check_choice("GuidedDiffusion", "dtype", dtype, DTYPES)
        state = _read(locate(path))
        try:
            config, state = convert(state, head_channels, new_attention_order)
            network = network_class("UNet2DModel")(sample_size=tuple(image_shape[1:]), **config)
            network.load_state_dict(state)
        except (KeyError, RuntimeError, ValueError) as error:
            first = " ".join(line.strip()[:200] for line in str(error).splitlines()[:2])
            raise ValueError(f"GuidedDiffusion: '{path}' is no checkpoint of guided-diffusion: {first}") from error
        classes, multiple = config["num_class_embeds"], 2 ** (len(config["block_out_channels"]) - 1)
        if image_shape[0] != config["in_channels"] or any(side % multiple for side in image_shape[1:]):
            raise ValueError(
                f"GuidedDiffusion: '{path}' is for images [{config['in_channels']}, H, W] with sides that are "
                f"multiples of {multiple}, got {list(image_shape)}"
            )
        if (class_label is None) != (classes is None) or not 0 <= (class_label or 0) < (classes or 1):
            known = f"{classes} classes" if classes else "no classes"
            raise ValueError(f"GuidedDiffusion: class_label {class_label}: the network knows {known}")
        table = beta_table({"beta_schedule": "squaredcos_cap_v2" if cosine else "linear"})
        super().__init__(
            network.to(DTYPES[dtype]),
            Identity((image_shape[0], image_shape[1], image_shape[2])),
            Parametrisation(spaced(table, spacing), "epsilon", table, table.steps),
            labels=None if class_label is None else torch.tensor([-1, class_label]),
            checkpointing=checkpointing,
        )


def convert(theirs: State, head_channels: int, new_attention_order: bool = False) -> tuple[dict[str, Any], State]:
    """Settings and state of the `UNet2DModel` that a checkpoint of guided-diffusion stands for.

    Raises:
        KeyError, ValueError: the tensors are not those of such a network.
    """
    outputs = _count(theirs, "output_blocks")
    ends = [i for i in range(outputs) if any(f"output_blocks.{i}.{j}.in_layers.0.weight" in theirs for j in (1, 2))]
    convolved = [i for i in range(outputs) for j in (1, 2) if f"output_blocks.{i}.{j}.conv.weight" in theirs]
    per_level = (ends + convolved + [outputs - 1])[0] + 1
    levels, kind = outputs // per_level, "resnet" if ends else "conv"
    if not outputs or outputs % per_level or _count(theirs, "input_blocks") != outputs:
        raise ValueError(f"{_count(theirs, 'input_blocks')} input blocks and {outputs} output blocks do not match")
    firsts = [1 + level * per_level for level in range(levels)]
    attended = [f"input_blocks.{first}.1.qkv.weight" in theirs for first in firsts]
    channels = [len(theirs[f"input_blocks.{first}.0.out_layers.3.weight"]) for first in firsts]
    scaled = len(theirs["middle_block.0.emb_layers.1.weight"]) == 2 * channels[-1]
    plain = ("ResnetDownsampleBlock2D", "ResnetUpsampleBlock2D") if kind == "resnet" else ("DownBlock2D", "UpBlock2D")
    config = {
        "in_channels": theirs["input_blocks.0.0.weight"].shape[1],
        "out_channels": len(theirs["out.2.weight"]),
        "layers_per_block": per_level - 1,
        "block_out_channels": tuple(channels),
        "down_block_types": tuple("AttnDownBlock2D" if each else plain[0] for each in attended),
        "up_block_types": tuple("AttnUpBlock2D" if each else plain[1] for each in reversed(attended)),
        "downsample_type": kind,
        "upsample_type": kind,
        "attention_head_dim": head_channels,
        "attn_norm_num_groups": 32,
        "resnet_time_scale_shift": "scale_shift" if scaled else "default",
        "num_class_embeds": len(theirs["label_emb.weight"]) if "label_emb.weight" in theirs else None,
    }
    ours: State = {}
    for name, value in theirs.items():
        place, rest = _place(name, per_level)
        ours |= _renamed(place, rest, value.float(), head_channels, new_attention_order)
    return config, ours


def _place(name: str, per_level: int) -> tuple[str, str]:
    """The place of a tensor in diffusers' network, and the rest of its name."""
    for start, place in OUTER.items():
        if name.startswith(start + "."):
            return place, name.removeprefix(start + ".")
    found = re.fullmatch(r"(input|middle|output)_blocks?\.(?:(\d+)\.)?(\d+)\.(.+)", name)
    if found is None:
        raise ValueError(f"unknown tensor '{name}'")
    part, number, layer, rest = found.groups()
    if part == "middle":
        return ("mid_block.attentions.0" if layer == "1" else f"mid_block.resnets.{int(layer) // 2}"), rest
    side = "down" if part == "input" else "up"
    level, i = divmod(int(number) - (part == "input"), per_level)
    halves = part == "input" and i == per_level - 1
    doubles = layer != "0" and not rest.startswith(("norm.", "qkv.", "proj_out."))
    if halves or doubles:
        return f"{side}_blocks.{level}.{side}samplers.0", rest
    return f"{side}_blocks.{level}.{'resnets' if layer == '0' else 'attentions'}.{i}", rest


def _renamed(place: str, rest: str, value: Tensor, head_channels: int, new_order: bool) -> State:
    """One tensor under its name in diffusers; a `qkv` becomes three."""
    layer, _, kind = rest.rpartition(".")
    if layer in RESIDUAL:
        return {f"{place}.{RESIDUAL[layer]}.{kind}": value}
    if layer == "qkv":
        value = value.flatten(1) if kind == "weight" else value
        split = value.chunk(3) if new_order else value.unflatten(0, (-1, 3, head_channels)).unbind(1)
        tail = value.shape[1:]
        return {f"{place}.to_{name}.{kind}": part.reshape(-1, *tail) for name, part in zip("qkv", split, strict=True)}
    if layer == "proj_out":
        return {f"{place}.to_out.0.{kind}": value.flatten(1) if kind == "weight" else value}
    names = {"norm": "group_norm", "op": "conv"}
    return {".".join(part for part in (place, names.get(layer, layer), kind) if part): value}


def _count(state: State, blocks: str) -> int:
    return len({name.split(".")[1] for name in state if name.startswith(blocks + ".")})


def _read(path: Path) -> State:
    """The tensors of a `.pt` file; a ValueError where it is damaged, or holds anything but tensors by name."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch reports damage and foreign content by many types
        raise ValueError(
            f"GuidedDiffusion: '{path}' is damaged or not weights: {str(error).splitlines()[0]}"
        ) from error
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ValueError(f"GuidedDiffusion: '{path}': expected tensors by name")
    return state
