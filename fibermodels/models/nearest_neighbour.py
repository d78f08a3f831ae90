"""The training inputs nearest in representation: what a data set alone can show."""

from typing import Self, final

import torch
from torch import Tensor

from fibermodels.checks import check_finite, check_number
from fibermodels.core import FiberModel, Inputs, Remembers

ROWS, VALUES, MARGIN = 512, 2**26, 16
"""How many targets are compared at once, how many stored numbers are read at once, and how many extra candidates are
compared exactly."""


@final
class NearestNeighbour(FiberModel, Remembers):
    """The `n` training inputs nearest in representation.

    It stores the `N D` numbers of the representations of N inputs, and reads those that it shows.

    Args:
        exclude_below: images whose representation differs from the target's by less than this mean square are left
            out, for targets that are among the training images.

    Reference: the audits of arXiv 2603.21782 leave out images nearer than 1e-4.
    """

    network_calls = 0

    def __init__(self, exclude_below: float = 0.0) -> None:
        super().__init__()
        check_number("NearestNeighbour", "exclude_below", exclude_below, least=0)
        self.exclude_below = exclude_below
        self.gallery: Tensor | Inputs = torch.empty(0)
        self.representations = torch.empty(0)

    def remember(self, images: Inputs | Tensor, representations: Tensor) -> Self:
        """Keeps the representations `(N, *feature_shape)` of N inputs: `(N, *input_shape)`, or a split that returns the
        same ones whenever it is asked.

        Raises:
            ValueError: no inputs, other numbers of them, or values that are not finite.
        """
        if isinstance(images, Tensor):
            check_finite(images, "NearestNeighbour.remember")
        if len(images) != len(representations) or not len(images):
            raise ValueError(
                f"NearestNeighbour: expected as many images as representations and at least one, "
                f"got {len(images)} and {len(representations)}"
            )
        check_finite(representations, "NearestNeighbour.remember: representations")
        self.gallery, self.representations = images, representations.flatten(1)
        return self

    def _sample(self, h: Tensor, n: int, generator: torch.Generator | None, x: Tensor | None) -> Tensor:
        _, index = self.nearest(h, n, self.exclude_below)
        return self.pictures(index.T)

    def pictures(self, index: Tensor) -> Tensor:
        """The remembered inputs of indices of any shape, `(*shape, *input_shape)`, on the device of the indices; each
        is fetched once."""
        wanted, place = index.unique(return_inverse=True)
        wanted = wanted.cpu()
        images = self.gallery[wanted] if isinstance(self.gallery, Tensor) else self.gallery.inputs(wanted)
        return images.to(index.device)[place]

    def nearest(self, h: Tensor, k: int = 1, exclude_below: float = 0.0) -> tuple[Tensor, Tensor]:
        """Distances and indices `(B, k)` of the nearest remembered representations, nearest first.

        Args:
            h: targets `(B, *feature_shape)`.
            k: how many.
            exclude_below: leave out those whose mean square distance is below it: the target itself, and its copies.
        """
        count = len(self.representations)
        if not count:
            raise ValueError("NearestNeighbour: nothing remembered yet; call remember(images, representations)")
        if not 1 <= k <= count:
            raise ValueError(f"NearestNeighbour: expected 1 to {count} samples per target, got {k}")
        flat = h.flatten(1).to(torch.promote_types(h.dtype, torch.float32))
        considered = min(count, k + MARGIN)
        while True:
            index = candidates(flat, self.representations, considered).sort(1).values  # equals stay in their order
            rows = [self._distances(row, own) for row, own in zip(flat, index, strict=True)]
            distance = torch.stack(rows) if rows else flat.new_empty(0, considered)
            distance[distance.square() < exclude_below * flat.shape[1]] = torch.inf
            distance, order = distance.sort(dim=1, stable=True)
            if distance[:, k - 1].isfinite().all():
                return distance[:, :k], index.gather(1, order)[:, :k]
            if considered == count:
                raise ValueError(
                    f"NearestNeighbour: fewer than {k} of the {count} remembered images differ from a target by a "
                    f"mean square of {exclude_below} or more"
                )
            considered = min(count, 4 * considered)

    def _distances(self, target: Tensor, index: Tensor) -> Tensor:
        known = self.representations[index.to(self.representations.device)].to(target)
        return torch.linalg.vector_norm(known - target, dim=1)


def candidates(h: Tensor, known: Tensor, k: int) -> Tensor:
    """Indices `(B, k)` of the `k` of N representations that are nearest, up to the rounding of matrix products.

    Args:
        h: targets `(B, D)`.
        known: representations `(N, D)`, read block by block to the targets' device.
        k: how many, at most N.
    """
    size = max(1, VALUES // max(known.shape[1], ROWS))
    centre = known[:size].to(h).mean(0)  # what all have in common would cost digits in the products
    h = h - centre
    best = [(part.new_empty(len(part), 0), torch.empty(len(part), 0).to(part.device).long()) for part in h.split(ROWS)]
    for start in range(0, len(known), size):
        block = known[start : start + size].to(h) - centre
        for row, part in enumerate(h.split(ROWS)):
            distance = torch.cat((best[row][0], torch.cdist(part, block)), 1)
            index = torch.arange(start, start + len(block), device=h.device).expand(len(part), -1)
            nearest = distance.topk(min(k, distance.shape[1]), largest=False)
            best[row] = nearest.values, torch.cat((best[row][1], index), 1).gather(1, nearest.indices)
    return torch.cat([index for _, index in best])
