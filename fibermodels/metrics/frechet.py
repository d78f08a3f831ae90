"""The Frechet distance between two sets of images in the features of a network.

Both sets of features are treated as Gaussian, so only their means and covariances are stored. The estimate is biased:
finite sets do not score 0, and fewer images score higher. Compare only scores of equal numbers of images, and compare
each with its floor, the score of as many other real images.

Reference: Heusel et al., NeurIPS 2017 (FID, with Inception's pooled features); Nash et al., arXiv 2103.03841 (sFID).
"""

import torch
from torch import Tensor

SPATIAL_DIMENSIONS = 2048
"""The largest number of entries of a feature map in the spatial distance (2023 of Inception's in the reference)."""


class Moments:
    """Number, mean and covariance of vectors that come in batches, in float64."""

    def __init__(self) -> None:
        self.count = 0
        self.mean = self._scatter = torch.zeros(0, dtype=torch.double)
        self._root: Tensor | None = None

    def update(self, features: Tensor) -> None:
        """Adds features `(B, D)`.

        The scatter about the mean is merged batch by batch (Chan, Golub & LeVeque, 1979), which is precise even if the
        mean is large compared with the spread.
        """
        own = features.detach().double()
        mean, count = own.mean(0), len(own)
        scatter, self._root = (own - mean).T @ (own - mean), None
        if not self.count:
            self.count, self.mean, self._scatter = count, mean, scatter
            return
        total, step = self.count + count, mean - self.mean
        self._scatter = self._scatter + scatter + torch.outer(step, step) * (self.count * count / total)
        self.mean = self.mean + step * (count / total)
        self.count = total

    @property
    def covariance(self) -> Tensor:
        """The unbiased covariance `(D, D)`.

        Raises:
            ValueError: there are fewer than two vectors.
        """
        if self.count < 2:
            raise ValueError(f"a covariance needs at least 2 vectors, got {self.count}")
        return self._scatter / (self.count - 1)

    @property
    def root(self) -> Tensor:
        """The symmetric square root of the covariance."""
        if self._root is None:
            values, vectors = torch.linalg.eigh(self.covariance)
            self._root = (vectors * values.clamp(min=0).sqrt()) @ vectors.T
        return self._root


def frechet_distance(first: Moments, second: Moments) -> float:
    """`|m1 - m2|^2 + tr(S1 + S2 - 2 (S1^(1/2) S2 S1^(1/2))^(1/2))`, at least 0.

    The trace of the root comes from two symmetric eigendecompositions, which are stable for singular covariances, such
    as those of fewer vectors than dimensions.
    """
    middle = torch.linalg.eigvalsh(first.root @ second.covariance @ first.root).clamp(min=0)
    spread = first.covariance.trace() + second.covariance.trace() - 2 * middle.sqrt().sum()
    distance = (first.mean - second.mean).square().sum() + spread
    return max(0.0, distance.item())


def first_channels(maps: Tensor) -> Tensor:
    """The part of feature maps `(B, C, h, w)` that the spatial distance uses: the first channels, flattened, as many as
    fit into `SPATIAL_DIMENSIONS` (at least one)."""
    channels = max(1, SPATIAL_DIMENSIONS // maps[0, 0].numel())
    return maps[:, :channels].flatten(1)
