"""Maps, seen through their mean over places: what a pooling layer keeps of them."""

from torch import Tensor

from fibermodels.core import Subject


class SpatialMean(Subject):
    """`phi(x) = mean of x over places`: maps `(B, C, H, W)` or signals `(B, C, L)` to vectors `(B, C)`.

    Its fibers are all maps with the same pooled vector. A density over them, and a generator of images for a map,
    sample the images of a pooled vector in two stages (see `data.Representations`).

    Args:
        input_shape: `[C, H, W]` or `[C, L]`.

    Raises:
        ValueError: a shape without places.
    """

    def __init__(self, input_shape: list[int]) -> None:
        super().__init__()
        if len(input_shape) < 2:
            raise ValueError(f"SpatialMean: input_shape: expected [C, H, W] or [C, L], got {list(input_shape)}")
        self.input_shape = tuple(input_shape)
        self.feature_shape = (input_shape[0],)
        self.freeze()

    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(2).mean(2)
