"""Variational latent spaces whose encoder sees every channel of an image through one dictionary of spatial patterns."""

from abc import ABC, abstractmethod

from torch import Tensor, nn

from fibermodels.checks import check_number
from fibermodels.latents.variational import Variational, deviation


class Dictionary(Variational, ABC):
    """A variational latent space with such an encoder; arguments as in `VAE`."""

    def __init__(self, image_shape: list[int], dim: int, patterns: int) -> None:
        super().__init__(image_shape, dim)
        check_number(type(self).__name__, "patterns", patterns, least=1)
        self.look = nn.Linear(self.pixels, patterns)
        self.gate = nn.Linear(patterns, patterns)

    @abstractmethod
    def _encode(self, patterns: Tensor, shape: Tensor, h: Tensor | None) -> tuple[Tensor, Tensor]:
        """Means and raw log-deviations `(B, dim)`.

        Args:
            patterns: the weight of each pattern in each channel, `(B, C, patterns)`.
            shape: the weight in the whole image, independent of the channels' colours, `(B, patterns)`.
            h: representations, or None if there is no subject.
        """

    def moments(self, x: Tensor, h: Tensor | None) -> tuple[Tensor, Tensor]:
        patterns = self.look(x.flatten(2) - 0.5)  # (B, C, patterns)
        shape = (patterns * self.gate(patterns).tanh()).mean(1)  # a channel's contrast may have either sign
        mean, log_std = self._encode(patterns, shape, h)
        return mean, deviation(log_std)
