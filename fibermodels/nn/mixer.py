"""A network of small maps, in which every place sees all the others from the first block on.

    u = W [state, condition] + layout(condition),   m = moment(t, condition)
    u <- u + gate_1(m) T(scale_1(m) norm(u) + shift_1(m)),   over the places, for each channel
    u <- u + gate_2(m) C(scale_2(m) norm(u) + shift_2(m)),   over the channels, for each place

For maps of a few hundred places, such as the representations of a late layer: there, convolutions need many blocks to
see a whole map, and a UNet has no coarser map to go to. Its places are learned apart, so it knows one size of maps.
Time and a condition that is a vector modulate every block; a condition that is a map enters at its places.

References: Tolstikhin et al., MLP-Mixer, arXiv 2105.01601, section 2; Peebles & Xie, arXiv 2212.09748, section 3.2
(adaLN-Zero: the modulation, whose gates start at zero).
"""

import math

import torch
from torch import Tensor, nn

from fibermodels.checks import check_numbers
from fibermodels.nn.feature_map import at_places
from fibermodels.nn.network import Network
from fibermodels.nn.residual_mlp import zeroed
from fibermodels.nn.time_embedding import TimeEmbedding


def modulated(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """`(1 + scale) * norm(x) + shift` over the channels of tokens `(B, places, width)`."""
    return (1 + scale) * nn.functional.layer_norm(x, x.shape[-1:]) + shift


class MixerBlock(nn.Module):
    """A modulated step over the places, then one over the channels; it starts as the identity.

    Args:
        places, width: of the tokens `(B, places, width)`.
    """

    def __init__(self, places: int, width: int) -> None:
        super().__init__()
        self.over_places = nn.Sequential(nn.Linear(places, 2 * places), nn.SiLU(), nn.Linear(2 * places, places))
        self.over_channels = nn.Sequential(nn.Linear(width, 3 * width), nn.SiLU(), nn.Linear(3 * width, width))
        self.modulation = zeroed(nn.Linear(width, 6 * width))

    def forward(self, x: Tensor, moment: Tensor) -> Tensor:
        scale, shift, gate, later_scale, later_shift, later_gate = self.modulation(moment)[:, None].chunk(6, 2)
        x = x + gate * self.over_places(modulated(x, scale, shift).mT).mT
        return x + later_gate * self.over_channels(modulated(x, later_scale, later_shift))


class Mixer(Network):
    """A network over maps `(C, H, W)`; its parameters grow with the square of the places.

    Args:
        width: channels of a place, at least 1.
        blocks: at least 1.
        time_dim: dimensions of the embedding of each time, even.
    """

    def __init__(self, width: int = 192, blocks: int = 8, time_dim: int = 64) -> None:
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
            self.whole = nn.Linear(told, self.width)
            self.layout = nn.Linear(told, places * self.width)
            nn.init.normal_(self.layout.weight, std=0.02)
        self.deepen = nn.Sequential(nn.SiLU(), nn.Linear(self.width, self.width), nn.SiLU())
        self.mix = nn.ModuleList(MixerBlock(places, self.width) for _ in range(self.blocks))
        self.last = zeroed(nn.Linear(self.width, 2 * self.width))
        self.leave = zeroed(nn.Linear(self.width, shape[0]))

    def encode(self, h: Tensor) -> Tensor:
        return at_places(h, tuple(self.feature_shape), self.shape[1:], self.place.dtype)

    def forward(self, z: Tensor, times: tuple[Tensor, ...], condition: Tensor | None) -> Tensor:
        tokens = z.unflatten(1, self.shape).flatten(2).mT
        given = tokens if condition is None else torch.cat((tokens, condition.flatten(2).mT), 2)
        moment = self.moment(torch.cat([self.time(t) for t in times], 1))
        x = self.enter(given) + self.place
        if condition is not None and len(self.feature_shape) == 1:
            whole = condition.mean((2, 3))
            moment = moment + self.whole(whole)
            x = x + self.layout(whole).unflatten(1, self.place.shape)
        moment = self.deepen(moment)
        for block in self.mix:
            x = block(x, moment)
        output: Tensor = self.leave(modulated(x, *self.last(moment)[:, None].chunk(2, 2))).mT
        return output.flatten(1)
