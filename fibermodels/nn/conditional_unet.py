"""A UNet on maps, made by diffusers, that sees times and a representation: a vector, or a map with places."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from fibermodels.nn.feature_map import FeatureMap
from fibermodels.nn.time_embedding import TimeEmbedding

Residuals = tuple[tuple[Tensor, ...], Tensor]


class ConditionalUNet(nn.Module):
    """Maps `(B, C, H, W)`, with times and representations, to maps of that shape. It starts as the zero function.

    A representation enters by two ways. As a vector (a map's mean over places) it joins the embedding of the time,
    which scales and shifts every normalisation, as in RCDM. As a map, resized, it is added to what the first
    convolution makes of the input, as in ControlNet: what belongs to a place is told there. Both ways start at
    zero, so a UNet that was given the weights of an unconditional one is that one, and learns from there.

    References: Dhariwal & Nichol, arXiv 2105.05233 (scale and shift); Bordes et al., arXiv 2112.09164 (RCDM).

    Args:
        map_shape: `(C, H, W)`.
        feature_shape: `(D,)` or `(C_f, h, w)`; empty for none.
        channels: channels of the levels, from fine to coarse, each a multiple of 16; every level halves the last.
        blocks: residual blocks per level.
        patch: pixels of a square that is seen as one, with `patch^2` times the channels.
        attention: how many of the coarsest levels have self-attention.
        duration: whether it sees a second time, the length of a step.
        frequency: of the time's fastest sine, in radians from `t = 0` to 1.
        checkpointing: compute the blocks again in the backward pass instead of keeping what they made.
    """

    def __init__(
        self,
        map_shape: tuple[int, ...],
        feature_shape: tuple[int, ...],
        channels: list[int],
        blocks: int = 1,
        patch: int = 1,
        attention: int = 0,
        duration: bool = False,
        frequency: float = 10.0,
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        colours, height, width = map_shape
        step = patch * 2 ** (len(channels) - 1)
        if patch < 1 or not channels or height % step or width % step:
            raise ValueError(
                f"ConditionalUNet: {len(channels)} levels on patches of {patch} need maps whose sides are multiples "
                f"of {step}, got {height} x {width}"
            )
        if any(number < 1 or number % 16 for number in channels):
            raise ValueError(f"ConditionalUNet: channels must be multiples of 16, got {channels}")
        if not 0 <= attention <= len(channels):
            raise ValueError(f"ConditionalUNet: attention must be from 0 to {len(channels)} levels, got {attention}")
        if len(feature_shape) not in (0, 1, 3):
            raise ValueError(f"ConditionalUNet: feature_shape must be [], [D] or [C, H, W], got {list(feature_shape)}")
        size = height // patch, width // patch
        self.patch, self.frequency, self.feature_shape = patch, frequency, tuple(feature_shape)
        embedding = 4 * channels[0]  # diffusers' choice
        self.context = _vector_encoder(feature_shape[0], embedding) if feature_shape else None
        spatial = len(feature_shape) == 3
        self.places = FeatureMap(feature_shape, channels[0], size, channels[0]) if spatial else None
        self.length = _length_encoder(frequency, embedding) if duration else None
        told = bool(feature_shape) or duration
        network = _network(colours * patch**2, size, tuple(channels), blocks, attention, told)
        if checkpointing:
            network.enable_gradient_checkpointing()
        self.network = network

    def forward(
        self,
        maps: Tensor,
        t: Tensor,
        h: Tensor | None = None,
        duration: Tensor | None = None,
        control: Callable[[Tensor, Tensor, Tensor | None], Residuals] | None = None,
    ) -> Tensor:
        """The network's output.

        Args:
            maps: `(B, C, H, W)`.
            t: `(B,)` in [0, 1].
            h: `(B, *feature_shape)`.
            duration: the second time `(B,)`.
            control: adds residuals to the skips and to the middle (see `fibermodels.diffusion.Control`).
        """
        squares, times = nn.functional.pixel_unshuffle(maps, self.patch), self.frequency * t
        down, middle = control(squares, times, None) if control else (None, None)
        embedding = None
        if self.context is not None and h is not None:
            embedding = self.context(h.flatten(2).mean(2) if h.ndim > 2 else h)
        if self.length is not None and duration is not None:
            length = self.length(duration)
            embedding = length if embedding is None else embedding + length
        if self.places is not None and h is not None:
            squares = torch.cat((squares, self.places(h)), 1)
        output: Tensor = self.network(
            squares,
            times,
            None,
            class_labels=embedding,
            down_block_additional_residuals=down,
            mid_block_additional_residual=middle,
            return_dict=False,
        )[0]
        return nn.functional.pixel_shuffle(output, self.patch)


class Entrance(nn.Conv2d):
    """A first convolution that takes what is to be added to its output along with its input, as further channels:
    so the UNet around it needs no change, and has the weights of one that is told nothing."""

    def forward(self, input: Tensor) -> Tensor:
        own = super().forward(input[:, : self.in_channels])
        return own + input[:, self.in_channels :] if input.shape[1] > self.in_channels else own


def _length_encoder(frequency: float, out: int) -> nn.Module:
    return nn.Sequential(TimeEmbedding(64, max(1.0, frequency / math.pi)), _zero(nn.Linear(64, out)))


def _vector_encoder(dim: int, out: int) -> nn.Module:
    return nn.Sequential(nn.Linear(dim, out), nn.SiLU(), _zero(nn.Linear(out, out)))


def _zero(layer: nn.Linear) -> nn.Linear:
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def _network(
    own: int, size: tuple[int, int], channels: tuple[int, ...], blocks: int, attention: int, told: bool
) -> Any:
    from diffusers import UNet2DConditionModel

    kinds = ["Attn" if level >= len(channels) - attention else "" for level in range(len(channels))]
    network = UNet2DConditionModel(
        sample_size=size,
        in_channels=own,
        out_channels=own,
        layers_per_block=blocks,
        block_out_channels=channels,
        down_block_types=tuple(f"{kind}DownBlock2D" for kind in kinds),
        mid_block_type="UNetMidBlock2D",
        up_block_types=tuple(f"{kind}UpBlock2D" for kind in reversed(kinds)),
        norm_num_groups=16,
        attention_head_dim=16,
        class_embed_type="identity" if told else None,
        resnet_time_scale_shift="scale_shift",
    )
    network.conv_in = Entrance(own, channels[0], 3, padding=1)
    nn.init.zeros_(network.conv_out.weight)
    nn.init.zeros_(network.conv_out.bias)
    return network
