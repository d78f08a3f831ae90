"""What FiberModels share that remember images: looking a representation up among them."""

from abc import ABC
from typing import Literal, Protocol, Self

import torch
from torch import Tensor

from fibermodels.checks import check_images
from fibermodels.core import FiberModel

Bank = Literal["train", "targets"]

ROWS, VALUES, MARGIN = 512, 2**26, 16
"""Targets that are compared at once, numbers of the remembered representations that are read at once, and how many
more than asked for are compared exactly."""


class Gallery(Protocol):
    """Images that are fetched when they are asked for: a split of a data set, say."""

    def __len__(self) -> int: ...

    def images(self, indices: Tensor) -> Tensor:
        """Images `(B, C, H, W)` in [0, 1]."""


class Retrieval(FiberModel, ABC):
    """A FiberModel that answers from images whose representations it remembers.

    `bank` says which images it wants to remember: those of the training set, the targets themselves
    (for what transforms the query), or none.
    """

    network_calls = 0
    bank: Bank | None

    def __init__(self) -> None:
        super().__init__()
        self.gallery: Tensor | Gallery = torch.empty(0)
        self.representations = torch.empty(0)

    def remember(self, images: Tensor | Gallery, representations: Tensor) -> Self:
        """Keeps the representations `(N, *feature_shape)` of N images: `(N, C, H, W)`, or a gallery that yields the
        same ones whenever it is asked."""
        if isinstance(images, Tensor):
            check_images(images, tuple(images.shape[1:]), f"{type(self).__name__}.remember")
        if len(images) != len(representations) or not len(images):
            raise ValueError(
                f"{type(self).__name__}: expected as many images as representations and at least one, "
                f"got {len(images)} and {len(representations)}"
            )
        self.gallery, self.representations = images, representations.flatten(1)
        return self

    def pictures(self, index: Tensor) -> Tensor:
        """The remembered images of indices of any shape, `(*shape, C, H, W)`, on the device of the indices; each is
        fetched once."""
        wanted, place = index.unique(return_inverse=True)
        wanted = wanted.cpu()
        images = self.gallery[wanted] if isinstance(self.gallery, Tensor) else self.gallery.images(wanted)
        return images.to(index.device)[place]

    def nearest(self, h: Tensor, k: int = 1, exclude_below: float = 0.0) -> tuple[Tensor, Tensor]:
        """Distances and indices `(B, k)` of the nearest remembered representations, nearest first.

        Args:
            h: targets `(B, *feature_shape)`.
            k: how many.
            exclude_below: leave out those whose mean square distance is below it: the target itself, and its copies.

        Raises:
            ValueError: there are not so many.
        """
        count = len(self.representations)
        if not count:
            raise ValueError(f"{type(self).__name__}: nothing remembered yet; call remember(images, representations)")
        if not 1 <= k <= count:
            raise ValueError(f"{type(self).__name__}: expected 1 to {count} samples per target, got {k}")
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
                    f"{type(self).__name__}: fewer than {k} of the {count} remembered images differ from a target by a "
                    f"mean square of {exclude_below} or more"
                )
            considered = min(count, 4 * considered)

    def _distances(self, target: Tensor, index: Tensor) -> Tensor:
        known = self.representations[index.to(self.representations.device)].to(target)
        return torch.linalg.vector_norm(known - target, dim=1)

    def recall(self, h: Tensor) -> Tensor:
        """The remembered image of each representation.

        Raises:
            ValueError: a representation that none of the remembered images has.
        """
        _, index = self.nearest(h)
        index = index[:, 0]
        known = self.representations[index.to(self.representations.device)].to(h)
        gap = (known - h.flatten(1)).abs().amax(1)
        if (gap / known.abs().amax(1).clamp(min=1)).max() > 1e-3:  # what another device or precision may differ by
            raise ValueError(
                f"{type(self).__name__}: target {int(gap.argmax())} is not among the {len(self.gallery)} images it "
                f"remembers (off by {gap.max():.3g}); it answers for those alone"
            )
        return self.pictures(index)


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
