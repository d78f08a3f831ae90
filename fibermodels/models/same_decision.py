"""The training images of the same decision: exact samples of a fiber that many images share."""

from typing import Self, final

import torch
from torch import Tensor

from fibermodels.core import FiberModel, Inputs, Remembers
from fibermodels.noise import target_generators


@final
class SameDecision(FiberModel, Remembers):
    """Training images for which the subject decides as for the target, at random.

    The decision is the largest entry of the representation. This is rejection sampling: if the training images are
    drawn from a law, the samples are exactly drawn from it, given the decision.
    """

    network_calls = 0

    def __init__(self) -> None:
        super().__init__()
        self.gallery: Tensor | Inputs = torch.empty(0)
        self.decisions = torch.empty(0, dtype=torch.long)

    def remember(self, images: Inputs | Tensor, representations: Tensor) -> Self:
        """Keeps the decisions of N inputs: `(N, *input_shape)`, or a split that returns the same ones whenever it is
        asked.

        Raises:
            ValueError: other numbers of images and representations, or none.
        """
        if len(images) != len(representations) or not len(images):
            raise ValueError(
                f"SameDecision: expected as many images as representations and at least one, got {len(images)} and "
                f"{len(representations)}"
            )
        self.gallery, self.decisions = images, representations.flatten(1).argmax(1).cpu()
        return self

    def _sample(self, h: Tensor, n: int, generator: torch.Generator | None, x: Tensor | None) -> Tensor:
        rows = []
        for own, decision in zip(target_generators(len(h), generator), h.flatten(1).argmax(1).tolist(), strict=True):
            same = (self.decisions == decision).nonzero()[:, 0]
            if not len(same):
                raise ValueError(f"SameDecision: none of the {len(self.decisions)} remembered images has {decision}")
            rows.append(same[torch.randint(len(same), (n,), generator=own)])
        index = torch.stack(rows, 1) if rows else torch.empty(n, 0, dtype=torch.long)
        wanted, place = index.unique(return_inverse=True)
        images = self.gallery[wanted] if isinstance(self.gallery, Tensor) else self.gallery.inputs(wanted)
        return images.to(h.device)[place.to(h.device)]
