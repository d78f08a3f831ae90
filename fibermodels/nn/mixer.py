"""A network of small maps, in which every place sees all the others from the first block on.

    u = W [state, condition] + layout(condition) + moment(t)
    u <- u + T(norm(u)),   over the places, for each channel
    u <- u + C(norm(u)),   over the channels, for each place

For maps of a few hundred places, such as the representations of a late layer: there, convolutions need many blocks to
see a whole map, and a UNet has no coarser map to go to. Its places are learned apart, so it knows one size of maps.

Reference: Tolstikhin et al., MLP-Mixer, arXiv 2105.01601, section 2; the time and the condition are our own.
"""

import math

import torch
from torch import Tensor, nn

from fibermodels.checks import check_numbers
from fibermodels.nn.feature_map import at_places
from fibermodels.nn.network import Network
from fibermodels.nn.residual_mlp import zeroed
from fibermodels.nn.time_embedding import TimeEmbedding


class MixerBlock(nn.Module):
    """`x + T(norm(x))` over the places, then `x + C(norm(x))` over the channels; it starts as the identity.

    Args:
        places, width: of the tokens `(B, places, width)`.
    """

    def __init__(self, places: int, width: int) -> None:
        super().__init__()
        self.over_places = nn.Sequential(
            nn.Linear(places, 2 * places), nn.SiLU(), zeroed(nn.Linear(2 * places, places))
        )
        self.over_channels = nn.Sequential(nn.Linear(width, 2 * width), nn.SiLU(), zeroed(nn.Linear(2 * width, width)))
        self.first, self.second = nn.LayerNorm(width), nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.over_places(self.first(x).mT).mT
        return x + self.over_channels(self.second(x))


class Mixer(Network):
    """A network over maps `(C, H, W)`; its parameters grow with the square of the places.

    Args:
        width: channels of a place, at least 1.
        blocks: at least 1.
        time_dim: dimensions of the embedding of each time, even.
    """

    def __init__(self, width: int = 128, blocks: int = 6, time_dim: int = 64) -> None:
        super().__init__()
        check_numbers("Mixer", {"width": width, "blocks": blocks}, least=1)
        self.width, self.blocks, self.time_dim = width, blocks, time_dim

    def create(self, shape: tuple[int, ...], times: int, differentiated: bool) -> None:
        if len(shape) != 3:
            raise ValueError(f"Mixer: expected latents that are maps (C, H, W), got {list(shape)}")
        self.shape, places = shape, math.prod(shape[1:])
        told = self.feature_shape[0] + 1 if self.feature_shape else 0
        self.time = TimeEmbedding(self.time_dim)
        self.moment = nn.Linear(times * self.time_dim, self.width)
        self.enter = nn.Linear(shape[0] + told, self.width)
        self.place = nn.Parameter(0.02 * torch.randn(places, self.width))
        if len(self.feature_shape) == 1:  # a vector says nothing about places
            self.layout = nn.Linear(told, places * self.width)
            nn.init.normal_(self.layout.weight, std=0.02)
        self.mix = nn.Sequential(*(MixerBlock(places, self.width) for _ in range(self.blocks)))
        self.leave = nn.Sequential(nn.LayerNorm(self.width), zeroed(nn.Linear(self.width, shape[0])))

    def encode(self, h: Tensor) -> Tensor:
        return at_places(h, tuple(self.feature_shape), self.shape[1:], self.place.dtype)

    def forward(self, z: Tensor, times: tuple[Tensor, ...], condition: Tensor | None) -> Tensor:
        tokens = z.unflatten(1, self.shape).flatten(2).mT
        given = tokens if condition is None else torch.cat((tokens, condition.flatten(2).mT), 2)
        moment = self.moment(torch.cat([self.time(t) for t in times], 1))
        x = self.enter(given) + self.place + moment[:, None]
        if condition is not None and len(self.feature_shape) == 1:
            x = x + self.layout(condition.mean((2, 3))).unflatten(1, self.place.shape)
        output: Tensor = self.leave(self.mix(x)).mT
        return output.flatten(1)
