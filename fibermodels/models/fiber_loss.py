"""The fiber loss, once for every model that pushes noise to an image.

    lambda * d(phi(push(noise, h)), h),   noise ~ N(0, I)

Gradients run through the subject, the decoder and the whole sampler into the model's parameters;
subject and decoder stay as they are.

Reference: arXiv 2603.21782, eq. 3 and section 3.1 (for flows and free-form flows; there the distance
is `rms`, the weight 1 to 100 and the warm-up linear).
"""

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from fibermodels.core import Component, Pushforward, Subject
from fibermodels.distances import DISTANCES, DistanceName


class FiberLoss(Component):
    """The weighted term `(rows,)` of the objective; its mean over rows is unbiased for any `rows`.

    Args:
        weight: lambda.
        distance: of representations: `rms` (as in the reference), `squared`, or `cosine`.
        warmup: share of the training over which the weight rises linearly from 0.
        rows: how many rows of a batch to push; None takes all. Fewer make a step cheaper.
        checkpointing: recompute the sampler in the backward pass instead of keeping it in memory.
    """

    def __init__(
        self,
        weight: float = 0.0,
        distance: DistanceName = "rms",
        warmup: float = 0.0,
        rows: int | None = None,
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        if not weight >= 0:
            raise ValueError(f"fiber.weight: expected a number of at least 0, got {weight}")
        if distance not in DISTANCES:
            raise ValueError(f"fiber.distance: expected one of {list(DISTANCES)}, got '{distance}'")
        if not 0 <= warmup <= 1:
            raise ValueError(f"fiber.warmup: expected a share of the training in [0, 1], got {warmup}")
        if rows is not None and rows < 1:
            raise ValueError(f"fiber.rows: expected at least 1, got {rows}")
        self.weight, self.warmup, self.rows, self.checkpointing = weight, warmup, rows, checkpointing
        self.distance = DISTANCES[distance]

    def forward(self, model: Pushforward, subject: Subject, h: Tensor, progress: float = 1.0) -> Tensor:
        """`weight * d(phi(push(noise, h)), h)` for the first `rows` of `h`, from fresh noise.

        Args:
            progress: share of the training that is done, in [0, 1]; 1 applies the full weight.
        """
        h = h[: self.rows]
        noise = torch.randn(len(h), *model.noise_shape, device=h.device, dtype=h.dtype)
        if self.checkpointing:
            images = checkpoint(model.push, noise, h, use_reentrant=False)
        else:
            images = model.push(noise, h)
        ramp = min(1.0, progress / self.warmup) if self.warmup else 1.0
        return self.weight * ramp * self.distance(h, subject(images))
