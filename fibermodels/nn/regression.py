"""The linear prediction of latents from a representation, measured once on the training set.

    L(h) = mean(z) + W (h - mean(h)),    W = argmin sum |z - L(h)|^2 + n lambda |W s|^2

where `s` are the standard deviations of the entries of `h` (ridge regression, Hoerl & Kennard, Technometrics 12, 1970).
Of latents that are maps it predicts thumbnails, and enlarges them. lambda is the one with the least error in a
cross-validation of two halves of the rows.
"""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, interpolate

from fibermodels.checks import check_feature_shape
from fibermodels.nn.measured import Measured

THUMBNAIL = 8
"""The largest side of what is predicted of a map."""

RIDGES = (1e-4, 1e-3, 1e-2, 0.1, 1.0, 10.0)
"""The candidates for lambda."""


class Regression(Measured):
    """Vectors `(B, D)` to latents `(B, prod(shape))`. It is zero until it is measured.

    Args:
        shape: of the latents: `(K,)`, or `(C, H, W)` for maps, whose latents are flat, row by row.
        feature_shape: of one representation, `(D,)`.

    Raises:
        ValueError: representations that are not vectors.
    """

    weight: Tensor
    bias: Tensor
    thumbnail: tuple[int, ...]

    def __init__(self, shape: Sequence[int], feature_shape: Sequence[int]) -> None:
        super().__init__()
        if len(feature_shape) != 1:
            raise ValueError(
                f"Regression: feature_shape: expected that of a vector, [D], got {list(feature_shape)}; maps tell "
                "places by themselves"
            )
        self.latent_shape, self.shape = tuple(shape), tuple(feature_shape)
        self.thumbnail = (shape[0], *(min(side, THUMBNAIL) for side in shape[1:]))
        size = torch.Size(self.thumbnail).numel()
        self.register_buffer("weight", torch.zeros(feature_shape[0], size))
        self.register_buffer("bias", torch.zeros(size))

    def forward(self, h: Tensor) -> Tensor:
        check_feature_shape("Regression", h, self.shape)
        found = h.to(self.weight.dtype) @ self.weight + self.bias
        if self.thumbnail == self.latent_shape:
            return found
        maps = interpolate(found.unflatten(1, self.thumbnail), self.latent_shape[1:], mode="bicubic")
        return maps.flatten(1)

    @torch.no_grad()
    def measure(self, pairs: Iterable[tuple[Tensor, Tensor]]) -> None:
        """Fits it to batches of representations `(n, D)` and latents `(n, prod(shape))`.

        Raises:
            ValueError: fewer than four rows, or rows that are not finite.
        """
        halves = [_Moments(), _Moments()]
        for h, z in pairs:
            small = z if self.thumbnail == self.latent_shape else self._thumbnails(z)
            for part, moments in enumerate(halves):
                moments.add(h[part::2].double().cpu(), small[part::2].double().cpu())
        whole = halves[0] + halves[1]
        if min(each.count for each in halves) < 2 or not whole.second.isfinite().all():
            raise ValueError(f"Regression: expected at least four finite rows to measure, got {whole.count}")
        errors = [sum(other.error(*own.solve(ridge)) for own, other in (halves, halves[::-1])) for ridge in RIDGES]
        weight, bias = whole.solve(RIDGES[min(range(len(RIDGES)), key=errors.__getitem__)])
        self.weight.copy_(weight)
        self.bias.copy_(bias)
        self.measured = self.settled = True

    def _thumbnails(self, z: Tensor) -> Tensor:
        height, width = self.thumbnail[1:]
        return adaptive_avg_pool2d(z.unflatten(1, self.latent_shape), (height, width)).flatten(1)


class _Moments:
    """Count and sums of `[1, h, z]` and of their products, of which ridge regression and its error are made."""

    def __init__(self, count: int = 0, second: Tensor | None = None, inputs: int = 0) -> None:
        self.count, self.inputs = count, inputs
        self.second = torch.zeros(()) if second is None else second

    def add(self, h: Tensor, z: Tensor) -> None:
        rows = torch.cat((torch.ones_like(h[:, :1]), h, z), 1)
        self.count, self.inputs = self.count + len(rows), h.shape[1]
        self.second = self.second + rows.mT @ rows

    def __add__(self, other: "_Moments") -> "_Moments":
        return _Moments(self.count + other.count, self.second + other.second, self.inputs)

    def solve(self, ridge: float) -> tuple[Tensor, Tensor]:
        """The weight `(D, K)` and the bias `(K,)` for a lambda."""
        n, end = self.count, 1 + self.inputs
        mean = self.second[0] / n
        covariance = self.second / n - mean[:, None] * mean
        std = covariance.diagonal()[1:end].clamp(min=0).sqrt()
        std = torch.where(std > 0, std, 1)
        gram = covariance[1:end, 1:end] / std / std[:, None] + ridge * torch.eye(self.inputs, dtype=std.dtype)
        weight = torch.linalg.solve(gram, covariance[1:end, end:] / std[:, None]) / std[:, None]
        return weight, mean[end:] - mean[1:end] @ weight

    def error(self, weight: Tensor, bias: Tensor) -> float:
        """The sum of squared errors of a regression on these rows."""
        own = torch.cat((-bias[None], -weight, torch.eye(len(bias), dtype=bias.dtype)))
        return float((own * (self.second @ own)).sum())
