"""A residual block of two convolutions, and the two ends of an autoencoder that are made of it."""

from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn

from fibermodels.nn.residual_mlp import zeroed


def conv(inputs: int, outputs: int, size: int = 3, circular: bool = False) -> nn.Conv2d:
    """A convolution that keeps height and width.

    Args:
        inputs, outputs: channels.
        size: of the kernel, odd.
        circular: whether the image goes on at its other side, as on a torus, or is 0 outside.
    """
    mode: Literal["circular", "zeros"] = "circular" if circular else "zeros"
    return nn.Conv2d(inputs, outputs, size, padding=size // 2, padding_mode=mode)


class ConvBlock(nn.Module):
    """`x + conv(silu(conv(silu(norm(x)))))` on maps `(B, width, H, W)`; it starts as the identity.

    Args:
        width: channels, a multiple of 8.
        circular: as in `conv`.
    """

    def __init__(self, width: int, circular: bool = False) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(8, width)
        self.inner = conv(width, width, circular=circular)
        self.outer = zeroed(conv(width, width, circular=circular))

    def forward(self, x: Tensor) -> Tensor:
        inner = self.inner(nn.functional.silu(self.norm(x)))
        return x + self.outer(nn.functional.silu(inner))


PATCH = 4
"""Pixels along the side of what one place of the maps sees."""


def patch_grid(owner: str, image_shape: Sequence[int], channels: int) -> tuple[int, int, int]:
    """The shape of the maps of an image's patches.

    Raises:
        ValueError: an image size that patches do not tile, or channels that are no multiple of 8; it names `owner`.
    """
    _, height, width = image_shape
    if height % PATCH or width % PATCH or channels % 8:
        raise ValueError(
            f"{owner}: expected an image size in multiples of {PATCH} and channels in multiples of 8, got "
            f"{height} x {width} and {channels}"
        )
    return channels, height // PATCH, width // PATCH


def patch_encoder(colours: int, channels: int, blocks: int, circular: bool) -> nn.Sequential:
    """Images `(B, colours, H, W)` to vectors `(B, D)`, the maps of their patches."""
    return nn.Sequential(
        nn.Conv2d(colours, channels, PATCH, PATCH),
        *(ConvBlock(channels, circular) for _ in range(blocks)),
        nn.Flatten(),
    )


def patch_decoder(grid: tuple[int, int, int], colours: int, blocks: int, circular: bool) -> nn.Sequential:
    """Vectors `(B, D)`, flattened maps of the shape `grid`, to images `(B, colours, H, W)`."""
    channels = grid[0]
    return nn.Sequential(
        nn.Unflatten(1, grid),
        *(ConvBlock(channels, circular) for _ in range(blocks)),
        nn.SiLU(),
        conv(channels, 2 * channels, circular=circular),
        nn.PixelShuffle(2),
        nn.SiLU(),
        conv(channels // 2, 4 * colours, 5, circular),
        nn.PixelShuffle(2),
    )
