"""A representation as a map of conditions for a UNet: FeatInv's encoder, for spatial maps and for vectors.

    u = h / rms(h);   [u, log rms(h)] upsampled to (H, W);   three 3x3 convolutions with SiLU between

Reference: FeatInv (mapping from feature space to input space with conditional diffusion models), section 2: bilinear
upsampling and a shallow CNN, whose last convolution starts at zero. The division by the root mean square is our own.
"""

import torch
from torch import Tensor, nn

from fibermodels.checks import check_numbers
from fibermodels.nn.residual_mlp import zeroed

FLOOR = 1e-12
"""Below this mean square a representation counts as zero."""


class FeatureMap(nn.Module):
    """Representations `(B, *feature_shape)` to maps `(B, channels, *size)`.

    Each representation is divided by its root mean square over channels and places, whose logarithm is one more input
    channel. There is one factor for all places, since a map also says how strong a place is against the others.

    Args:
        feature_shape: `(C, h, w)` of a spatial map; `(D,)` of a vector, which is the same in every place.
        channels: of the output.
        size: `(H, W)` of the output.
        width: channels between the convolutions; FeatInv has 512.
        zero: the last convolution starts at zero, so what the map is added to starts unchanged.
    """

    def __init__(
        self,
        feature_shape: tuple[int, ...] | list[int],
        channels: int,
        size: tuple[int, int],
        width: int = 128,
        zero: bool = True,
    ) -> None:
        super().__init__()
        if len(feature_shape) not in (1, 3) or min(feature_shape) < 1:
            raise ValueError(f"FeatureMap: feature_shape must be [D] or [C, h, w], got {list(feature_shape)}")
        check_numbers("FeatureMap", {"channels": channels, "width": width}, least=1)
        self.feature_shape, self.size = tuple(feature_shape), size
        self.layers = nn.Sequential(
            nn.Conv2d(feature_shape[0] + 1, width, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(width, width, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(width, channels, 3, padding=1),
        )
        if zero:
            zeroed(self.layers[-1])

    def forward(self, h: Tensor) -> Tensor:
        return self.layers(at_places(h, self.feature_shape, self.size, next(self.parameters()).dtype))


def at_places(h: Tensor, feature_shape: tuple[int, ...], size: tuple[int, int], dtype: torch.dtype) -> Tensor:
    """Representations, divided by their root mean square, and its logarithm, at every place: `(B, C + 1, *size)`.

    Args:
        h: `(B, *feature_shape)`.
        feature_shape: `(C, h, w)` of a spatial map; `(D,)` of a vector, which is the same in every place.
        size: `(H, W)`.
        dtype: of the squares, which may exceed the range of half of it.

    Raises:
        ValueError: representations of another shape.
    """
    if h.shape[1:] != feature_shape:
        raise ValueError(
            f"FeatureMap: expected representations (B, {', '.join(map(str, feature_shape))}), got {tuple(h.shape)}"
        )
    maps = (h if h.ndim == 4 else h[:, :, None, None]).to(dtype)
    square = maps.square().mean((1, 2, 3), keepdim=True) + FLOOR
    scale = 0.5 * square.log().expand(-1, 1, *maps.shape[2:])
    given = torch.cat((maps * square.rsqrt(), scale), 1)
    # In float32 at least, which every device can. With antialiasing no place is left out where a map shrinks.
    given = given.to(torch.promote_types(given.dtype, torch.float32))
    return nn.functional.interpolate(given, size, mode="bilinear", antialias=True)
