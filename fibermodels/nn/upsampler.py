"""A cheap network of maps: it works on coarse maps and draws the fine ones in a few convolutions.

    [state in squares of 4 x 4, condition] -> blocks at H/4 -> [., state in squares of 2 x 2] -> blocks at H/2 -> H

The condition enters as it is, divided by its root mean square, and the squares of 4 x 4 pixels through few channels:
where the state is noise, a network that has to learn first what to ignore is slow. Most of the computation takes place
at a sixteenth of the pixels, so a step costs a small part of a UNet's. For objectives that generate in one call.

A condition that is a map finer than H/4 enters in squares, too, so nothing of it is lost. A condition that is a vector
says nothing about places, and convolutions see only their neighbours. So for vectors a perceptron adds a first map, in
which every place knows of all the others:

    layout(condition, sqrt(places) * mean of the squares)

The mean over places of standard normal noise, times that root, is standard normal, too.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import pixel_unshuffle

from fibermodels.checks import check_numbers
from fibermodels.nn.conv_block import ConvBlock, conv
from fibermodels.nn.feature_map import at_places
from fibermodels.nn.network import Network
from fibermodels.nn.residual_mlp import zeroed
from fibermodels.nn.time_embedding import TimeEmbedding


class Upsampler(Network):
    """A network over maps `(C, H, W)`, for `H` and `W` in multiples of 4.

    Args:
        width: channels at `H/4`, a multiple of 16; there are half as many at `H/2`.
        blocks: residual blocks at each of these resolutions.
        head: channels of the last convolutions.
        time_dim: dimensions of the embedding of each time, even.
    """

    def __init__(self, width: int = 128, blocks: int = 2, head: int = 32, time_dim: int = 32) -> None:
        super().__init__()
        check_numbers("Upsampler", {"width": width, "blocks": blocks, "head": head}, least=1)
        if width % 16:
            raise ValueError(f"Upsampler: width: expected a multiple of 16, got {width}")
        self.width, self.blocks, self.head, self.time_dim = width, blocks, head, time_dim

    def create(self, shape: tuple[int, ...], times: int, differentiated: bool) -> None:
        if len(shape) != 3 or shape[1] % 4 or shape[2] % 4:
            raise ValueError(
                f"Upsampler: expected latents that are maps (C, H, W) whose sides are multiples of 4, got {list(shape)}"
            )
        self.shape, half, few = shape, self.width // 2, self.width // 8
        colours, self.size = shape[0], (shape[1] // 4, shape[2] // 4)
        self.fold = self._fold()
        told = (self.feature_shape[0] + 1) * self.fold**2 if self.feature_shape else 0
        self.time = TimeEmbedding(self.time_dim)
        self.moment = zeroed(nn.Linear(times * self.time_dim, self.width))
        self.squares = conv(16 * colours, few, 1)
        self.enter = conv(few + told, self.width)
        if len(self.feature_shape) == 1:
            inner = nn.Linear(told + 16 * colours, self.width)
            self.layout = nn.Sequential(inner, nn.SiLU(), nn.Linear(self.width, self.width * math.prod(self.size)))
        self.coarse = nn.Sequential(*(ConvBlock(self.width) for _ in range(self.blocks)))
        self.widen = nn.Sequential(nn.SiLU(), conv(self.width, 4 * half), nn.PixelShuffle(2))
        self.join = conv(4 * colours, half, 1)
        self.middle = nn.Sequential(*(ConvBlock(half) for _ in range(self.blocks)))
        self.draw = nn.Sequential(
            nn.SiLU(),
            conv(half, 4 * self.head),
            nn.PixelShuffle(2),
            nn.SiLU(),
            conv(self.head, self.head),
            nn.SiLU(),
            zeroed(conv(self.head, colours)),
        )

    def _fold(self) -> int:
        """The side of the squares of a condition that is so many times as fine as the coarse maps; else 1."""
        if len(self.feature_shape) != 3:
            return 1
        times, left = divmod(self.feature_shape[1], self.size[0])
        whole = times > 1 and not left and self.feature_shape[2] == times * self.size[1]
        return times if whole else 1

    def encode(self, h: Tensor) -> Tensor:
        fine = (self.fold * self.size[0], self.fold * self.size[1])
        maps = at_places(h, tuple(self.feature_shape), fine, self.moment.weight.dtype)
        return pixel_unshuffle(maps, self.fold) if self.fold > 1 else maps

    def _laid_out(self, squares: Tensor, condition: Tensor | None) -> Tensor | float:
        if condition is None or len(self.feature_shape) != 1:
            return 0.0
        whole = squares.mean((2, 3)) * math.prod(self.size) ** 0.5
        first: Tensor = self.layout(torch.cat((condition.mean((2, 3)), whole), 1))
        return first.unflatten(1, (self.width, *self.size))

    def forward(self, z: Tensor, times: tuple[Tensor, ...], condition: Tensor | None) -> Tensor:
        state = z.unflatten(1, self.shape)
        squares = pixel_unshuffle(state, 4)
        moment = self.moment(torch.cat([self.time(t) for t in times], 1))[:, :, None, None]
        few = self.squares(squares)
        given = few if condition is None else torch.cat((few, condition), 1)
        coarse = self.coarse(self.enter(given) + moment + self._laid_out(squares, condition))
        fine = self.middle(self.widen(coarse) + self.join(pixel_unshuffle(state, 2)))
        output: Tensor = self.draw(fine)
        return output.flatten(1)
