"""What an objective trains: a network of a state, one or two times and a condition. It knows no objective."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Self, final

from torch import Tensor, nn

from fibermodels.checks import check_feature_shape
from fibermodels.component import Component
from fibermodels.nn.standardise import Standardise

Residuals = tuple[tuple[Tensor, ...], Tensor]
"""What is added to a UNet's skips, from fine to coarse, and to its middle."""

Control = Callable[[Tensor, Tensor, Tensor | None], Residuals]
"""From what a UNet is given, its input `(B, C, H, W)`, its time steps `(B,)` and the embedding of a prompt (None where
it reads no text), to the residuals that steer it."""


class Network(Component, ABC):
    """A function of states `(B, D)`, times and a condition, to vectors `(B, D)`. It starts as the zero function.

    The constructor takes hyperparameters alone. An objective knows the shapes, and calls `build` for the layers.
    """

    feature_shape: tuple[int, ...]
    """Of the representations that the condition is made of; empty for an unconditional network."""
    standardise: Standardise
    """Of representations; an unconditional network has none."""

    forward_mode: bool = True
    """Whether forward-mode derivatives (`torch.func.jvp`) go through the network."""

    @final
    def build(
        self, shape: Sequence[int], feature_shape: Sequence[int], times: int = 1, differentiated: bool = False
    ) -> Self:
        """A network with these hyperparameters and with layers; this one stays without.

        Args:
            shape: of the latents: `(D,)` for vectors, `(C, H, W)` for maps.
            feature_shape: of representations; empty for an unconditional network.
            times: how many times the network is given, 1 or 2.
            differentiated: whether the objective contains the derivative in time: training is unstable where the
                network varies fast in time.
        """
        built = type(self)(**self.arguments)
        built.feature_shape = tuple(feature_shape)
        if feature_shape:
            built.standardise = Standardise(feature_shape)
        built.create(tuple(shape), times, differentiated)
        return built

    @abstractmethod
    def create(self, shape: tuple[int, ...], times: int, differentiated: bool) -> None:
        """Makes the layers; arguments as in `build`."""

    @final
    def condition(self, h: Tensor | None, told: Tensor | None = None) -> Any:
        """What `forward` takes as the condition. A sampler computes it once, and not in every step.

        Args:
            h: representations `(B, *feature_shape)`; an unconditional network ignores them.
            told: which rows the network is told, `(B,)`; the others are hidden: their standardised representations
                are zero, as no real one is. None tells all.
        """
        if not self.feature_shape:
            return None
        standard = self.standardise(check_feature_shape(type(self).__name__, h, self.feature_shape))
        if told is not None:
            standard = standard * told.to(standard.dtype).view(-1, *([1] * len(self.feature_shape)))
        return self.encode(standard)

    @abstractmethod
    def encode(self, h: Tensor) -> Any:
        """The condition, from standardised representations `(B, *feature_shape)`."""

    @abstractmethod
    def forward(self, z: Tensor, times: tuple[Tensor, ...], condition: Any) -> Tensor:
        """The output `(B, D)`.

        Args:
            z: states `(B, D)`; maps are flat, row by row.
            times: as many as the network was built for, each `(B,)` in [0, 1].
            condition: what `condition` returned for the same rows.
        """


class Steerable(Network, ABC):
    """A network around a UNet that a ControlNet can steer by residuals."""

    @property
    @abstractmethod
    def unet(self) -> nn.Module:
        """A diffusers `UNet2DConditionModel`, which a ControlNet copies."""

    @abstractmethod
    def forward(self, z: Tensor, times: tuple[Tensor, ...], condition: Any, control: Control | None = None) -> Tensor:
        """As in `Network`; `control` is called once, with what the UNet is given, and steers it."""
