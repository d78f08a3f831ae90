"""What FiberModels share that remember images: looking a representation up among them."""

from abc import ABC
from typing import Literal, Self

import torch
from torch import Tensor

from fibermodels.core import FiberModel, check_images

Bank = Literal["train", "targets"]


class Retrieval(FiberModel, ABC):
    """A FiberModel that answers from images whose representations it remembers.

    `bank` says which images it wants to remember: those of the training set, the targets themselves
    (for what transforms the query), or none.
    """

    network_calls = 0
    bank: Bank | None

    def __init__(self) -> None:
        super().__init__()
        self.images = torch.empty(0)
        self.representations = torch.empty(0)

    def remember(self, images: Tensor, representations: Tensor) -> Self:
        """Keeps images `(N, C, H, W)` and their representations `(N, *feature_shape)`."""
        check_images(images, tuple(images.shape[1:]), f"{type(self).__name__}.remember")
        if len(images) != len(representations) or not len(images):
            raise ValueError(
                f"{type(self).__name__}: expected as many images as representations and at least one, "
                f"got {len(images)} and {len(representations)}"
            )
        self.images, self.representations = images, representations.flatten(1)
        return self

    def nearest(self, h: Tensor, k: int = 1) -> tuple[Tensor, Tensor]:
        """Distances and indices `(B, k)` of the nearest remembered representations, nearest first."""
        if not len(self.images):
            raise ValueError(f"{type(self).__name__}: nothing remembered yet; call remember(images, representations)")
        if not 1 <= k <= len(self.images):
            raise ValueError(f"{type(self).__name__}: expected 1 to {len(self.images)} samples per target, got {k}")
        known = self.representations.to(h)
        parts = [torch.cdist(part, known).topk(k, largest=False) for part in h.flatten(1).split(512)]
        return torch.cat([p.values for p in parts]), torch.cat([p.indices for p in parts])

    def recall(self, h: Tensor) -> Tensor:
        """The remembered image of each representation.

        Raises:
            ValueError: a representation that none of the remembered images has.
        """
        _, index = self.nearest(h)
        index = index[:, 0]
        gap = (self.representations.to(h)[index] - h.flatten(1)).abs().amax(1)
        if gap.max() > 1e-3:
            raise ValueError(
                f"{type(self).__name__}: target {int(gap.argmax())} is not among the {len(self.images)} images it "
                f"remembers (off by {gap.max():.3g}); it answers for those alone"
            )
        return self.images[index.to(self.images.device)].to(h.device)
