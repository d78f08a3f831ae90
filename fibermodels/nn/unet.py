"""The network of maps: a UNet, made by diffusers, that sees times and a representation (a vector, or a map)."""

import math
from typing import Any, cast

import torch
from torch import Tensor, nn

from fibermodels.checks import check_number
from fibermodels.nn.feature_map import FeatureMap
from fibermodels.nn.network import Control, Steerable
from fibermodels.nn.residual_mlp import zeroed
from fibermodels.nn.time_embedding import TimeEmbedding

Condition = tuple[Tensor, Tensor | None]
"""What a UNet is told of a representation: what joins the embedding of the time, `(B, E)`, and what is added to the
output of the first convolution, `(B, C, H, W)`, or None for vectors."""


class UNet(Steerable):
    """A UNet over maps.

    A representation enters by two ways. As a vector (a map's mean over places) it joins the embedding of the time,
    which scales and shifts every normalisation, as in RCDM. As a map, resized, it is added to the output of the first
    convolution, as in ControlNet, so that a place of the map acts on its place of the image. A second time, the length
    of a step, enters by a third way. All three start at zero: a UNet with the weights of an unconditional one starts
    as that one.

    References: Dhariwal & Nichol, arXiv 2105.05233 (scale and shift); Bordes et al., arXiv 2112.09164 (RCDM).

    Args:
        channels: channels of the levels, from fine to coarse, each a multiple of 16; every level halves the last.
        blocks: residual blocks per level.
        patch: pixels of a square that is seen as one, with `patch^2` times the channels.
        attention: how many of the coarsest levels have self-attention.
        frequency: of the time's fastest sine, in radians from `t = 0` to 1.
        middle: residual blocks between the way down and the way up.
        scale_shift: whether the time and the representation scale and shift every normalisation, or only shift it.
        checkpointing: compute the blocks again in the backward pass instead of keeping their activations.
    """

    def __init__(
        self,
        channels: list[int] = [64, 128],  # noqa: B006 (read only; a tuple would not be a YAML list)
        blocks: int = 1,
        patch: int = 2,
        attention: int = 0,
        frequency: float = 10.0,
        middle: int = 1,
        scale_shift: bool = True,
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        if patch < 1 or not channels or any(number < 1 or number % 16 for number in channels):
            raise ValueError(
                f"UNet: channels must be multiples of 16 and patch at least 1, got channels {channels}, patch {patch}"
            )
        if not 0 <= attention <= len(channels):
            raise ValueError(f"UNet: attention must be from 0 to {len(channels)} levels, got {attention}")
        self.channels, self.blocks, self.patch, self.attention = tuple(channels), blocks, patch, attention
        check_number("UNet", "middle", middle, least=1)
        self.frequency, self.middle, self.scale_shift = frequency, middle, scale_shift
        self.checkpointing, self.forward_mode = checkpointing, not (attention or checkpointing)

    @property
    def unet(self) -> nn.Module:
        return self.network

    def create(self, shape: tuple[int, ...], times: int, differentiated: bool) -> None:
        step = self.patch * 2 ** (len(self.channels) - 1)
        if len(shape) != 3 or shape[1] % step or shape[2] % step:
            raise ValueError(
                f"UNet: {len(self.channels)} levels on patches of {self.patch} need latents that are maps (C, H, W) "
                f"whose sides are multiples of {step}, got {list(shape)}"
            )
        features = self.feature_shape
        if len(features) not in (0, 1, 3):
            raise ValueError(f"UNet: feature_shape must be [], [D] or [C, H, W], got {list(features)}")
        self.shape, size = shape, (shape[1] // self.patch, shape[2] // self.patch)
        first, embedding = self.channels[0], 4 * self.channels[0]  # diffusers' choice
        self.context = self.length = None
        if features:
            last = zeroed(nn.Linear(embedding, embedding))
            self.context = nn.Sequential(nn.Linear(features[0], embedding), nn.SiLU(), last)
        self.places = FeatureMap(features, first, size, first) if len(features) == 3 else None
        if times == 2:
            time = TimeEmbedding(64, max(1.0, self.frequency / math.pi))
            self.length = nn.Sequential(time, zeroed(nn.Linear(64, embedding)))
        self.network: Any = self._network(shape[0] * self.patch**2, size, bool(features) or times == 2)
        if self.checkpointing:
            self.network.enable_gradient_checkpointing()

    def encode(self, h: Tensor) -> Condition:
        context = cast(nn.Module, self.context)(h.flatten(2).mean(2) if h.ndim > 2 else h)
        return context, None if self.places is None else self.places(h)

    def forward(
        self, z: Tensor, times: tuple[Tensor, ...], condition: Condition | None, control: Control | None = None
    ) -> Tensor:
        squares = nn.functional.pixel_unshuffle(z.unflatten(1, self.shape), self.patch)
        steps = self.frequency * times[0]
        down, middle = control(squares, steps, None) if control else (None, None)
        embedding, places = condition or (None, None)
        if self.length is not None:
            embedding = self.length(times[1]) + (0 if embedding is None else embedding)
        if places is not None:
            squares = torch.cat((squares, places), 1)
        output: Tensor = self.network(
            squares,
            steps,
            None,
            class_labels=embedding,
            down_block_additional_residuals=down,
            mid_block_additional_residual=middle,
            return_dict=False,
        )[0]
        return nn.functional.pixel_shuffle(output, self.patch).flatten(1)

    def _network(self, own: int, size: tuple[int, int], told: bool) -> Any:
        from diffusers import UNet2DConditionModel
        from diffusers.models.unets.unet_2d_blocks import UNetMidBlock2D

        kinds = [""] * (len(self.channels) - self.attention) + ["Attn"] * self.attention
        modulation = "scale_shift" if self.scale_shift else "default"
        network = UNet2DConditionModel(
            sample_size=size,
            in_channels=own,
            out_channels=own,
            layers_per_block=self.blocks,
            block_out_channels=self.channels,
            down_block_types=tuple(f"{kind}DownBlock2D" for kind in kinds),
            mid_block_type="UNetMidBlock2D",
            up_block_types=tuple(f"{kind}UpBlock2D" for kind in reversed(kinds)),
            norm_num_groups=16,
            attention_head_dim=16,
            class_embed_type="identity" if told else None,
            resnet_time_scale_shift=modulation,
        )
        if self.middle > 1:  # diffusers' class has one block there
            network.mid_block = UNetMidBlock2D(
                self.channels[-1],
                4 * self.channels[0],
                num_layers=self.middle - 1,
                resnet_time_scale_shift=modulation,
                resnet_groups=16,
                add_attention=False,
            )
        network.conv_in = Entrance(own, self.channels[0], 3, padding=1)
        zeroed(network.conv_out)
        return network


class Entrance(nn.Conv2d):
    """A first convolution whose further input channels, where there are any, are added to its output.

    The UNet around it needs no change, and its weights are those of a UNet that is told nothing.
    """

    def forward(self, input: Tensor) -> Tensor:
        own = super().forward(input[:, : self.in_channels])
        return own + input[:, self.in_channels :] if input.shape[1] > self.in_channels else own
