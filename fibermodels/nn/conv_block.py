"""A residual block of two convolutions."""

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
