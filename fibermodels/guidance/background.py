"""What an optimisation leaves as it was: the part of the image outside of a region.

With the image `x_0` where it starts, the region's mask `m` and a decoded sample `D(z)`, the sample becomes

    x = m D(z) + (1 - m) x_0

behind the decoder, and the objective gains the masked distance

    w ||(1 - m) (D(z) - x_0)||^2,

the sum of squares over the pixels of `D(z)`, before it is replaced.

Reference: Augustin et al., DiG-IN, arXiv 2311.17833, eqs. 18 and 19, and eq. 22 with the region's `outside`. Its
distance in the latents is left out; its blending in the first steps is done behind the decoder here.
"""

import torch
from torch import Tensor

from fibermodels.checks import check_number
from fibermodels.component import Component
from fibermodels.guidance.regions import Region


class Background(Component):
    """Holds the image outside of a region, or pulls it back, or both.

    Args:
        region: what may change.
        weight: `w` of the masked distance, at least 0; the paper has 250 for images of 512 pixels.
        held: replace the sample outside of the region by the image where the optimisation starts.

    Raises:
        ValueError: a negative weight, or neither a weight nor `held`.
    """

    def __init__(self, region: Region, weight: float = 0.0, held: bool = True) -> None:
        super().__init__()
        check_number("Background", "weight", weight, least=0)
        if not weight and not held:
            raise ValueError("Background: expected held, or a weight above 0, got neither: nothing would be kept")
        self.region, self.weight, self.held = region, weight, held

    def hold(self, images: Tensor, start: Tensor, mask: Tensor) -> Tensor:
        """`m D(z) + (1 - m) x_0`, `(B, C, H, W)`, where `held`; bit-equal to `start` where the mask is 0."""
        return torch.lerp(start, images, mask) if self.held else images

    def distance(self, images: Tensor, start: Tensor, mask: Tensor) -> Tensor:
        """`w ||(1 - m) (D(z) - x_0)||^2`, `(B,)`."""
        return self.weight * ((1 - mask) * (images - start)).square().flatten(1).sum(1)
