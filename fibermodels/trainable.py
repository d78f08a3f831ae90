"""Contracts of trainable objects: losses on inputs, and FiberModels that are densities over a latent space."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Literal, Self, final

import torch
from torch import Tensor, nn

from fibermodels.component import Component, fingerprint
from fibermodels.core import LatentSpace, Pushforward
from fibermodels.spaces import HasInputSpace


class Trainable(HasInputSpace, ABC):
    """An object that the training loop can train: it has a loss on inputs and their representations."""

    feature_shape: tuple[int, ...] = ()
    """The shape of its condition; `()` if it has none."""

    @abstractmethod
    def loss(self, x: Tensor, h: Tensor | None) -> dict[str, Tensor]:
        """Weighted terms, each `(B,)`; the objective is the mean of their sum.

        Args:
            x: inputs `(B, *input_shape)`.
            h: their representations `(B, *feature_shape)`; None if there is no subject yet.
        """

    def scores(self, x: Tensor, h: Tensor | None) -> dict[str, Tensor]:
        """Further numbers that validation reports, each `(B,)`."""
        return {}

    product_split: Literal["train", "val"] = "train"
    """The split whose batches `product` gets."""

    def product(self, batches: Iterable[dict[str, Tensor]]) -> Component:
        """The object to publish after training, completed with batches of `product_split`; by default itself."""
        return self


class Supervised(Trainable, ABC):
    """An object that is trained on labels: the batch's `y` replaces the representations."""

    @abstractmethod
    def loss(self, x: Tensor, y: Tensor | None) -> dict[str, Tensor]:
        """As in `Trainable`, with labels `(B,)` or `(B, K)`."""

    product_split: Literal["train", "val"] = "val"
    """Calibration uses the validation split, because a network is overconfident on its training images."""

    @abstractmethod
    def predict(self, x: Tensor) -> Tensor:
        """The predictions `(B, K)` that are compared with labels."""

    @abstractmethod
    def split_scores(self, predictions: Tensor, y: Tensor) -> dict[str, float]:
        """Scores of a whole split that are not means over batches, from its predictions `(N, K)` and labels."""


class TrainableFiberModel(Pushforward, Trainable, ABC):
    """A density over a frozen latent space that is learned from data. It maps noise to a latent, and this to an input.

    Args:
        latents: the latent space; it is frozen here.
        feature_shape: the shape of the condition.
    """

    def __init__(self, latents: LatentSpace, feature_shape: Sequence[int] = ()) -> None:
        super().__init__()
        self.latents, self.feature_shape = latents.requires_grad_(False).eval(), tuple(feature_shape)
        self.input_space = latents.input_space
        self.noise_shape = latents.latent_shape

    def train(self, mode: bool = True) -> Self:
        """The frozen parts stay in evaluation mode."""
        super().train(mode)
        for part in self.frozen_parts().values():
            part.eval()
        return self

    def frozen_parts(self) -> dict[str, nn.Module]:
        """The parts that the model gets from outside and does not train, by the attribute's name."""
        return {"latents": self.latents}

    def density(self) -> tuple[dict[str, Tensor], dict[str, str]]:
        """State and metadata that `load_density` reads: weights without the frozen parts, and fingerprints of these."""
        parts = self.frozen_parts()
        given = tuple(f"{name}." for name in parts)
        state = {name: value for name, value in self.state_dict().items() if not name.startswith(given)}
        return state, {name: fingerprint(part) for name, part in parts.items()}

    def load_density(self, weights: str | None) -> None:
        """Loads all weights but those of the frozen parts from an exported file; constructors call it.

        Raises:
            FileNotFoundError: the file does not exist.
            ValueError: another kind of file, another architecture, or other frozen parts.
        """
        if weights is None:
            return
        given = tuple(f"{name}." for name in self.frozen_parts())
        self.check_parts(self.load_weights(weights, given=given), weights)

    def check_parts(self, theirs: dict[str, str], weights: str) -> None:
        """Refuses weights that were trained over other frozen parts.

        Args:
            theirs: the metadata of their file.
            weights: its path.
        """
        for name, part in self.frozen_parts().items():
            if theirs.get(name) != (mine := fingerprint(part)):
                kind = {"latents": "latent space"}.get(name, name)
                raise ValueError(
                    f"{type(self).__name__}: weights: expected the {kind} with fingerprint {theirs.get(name)}, over "
                    f"which '{weights}' was trained, got one with {mine}"
                )

    @abstractmethod
    def transport(self, noise: Tensor, h: Tensor) -> Tensor:
        """Latents `(B, *latent_shape)` from noise `(B, *noise_shape)`, differentiable in both arguments
        and in the parameters."""

    @final
    def push(self, noise: Tensor, h: Tensor) -> Tensor:
        return self.latents.decode(self.transport(noise, h), h)

    @abstractmethod
    def latent_loss(self, z: Tensor, h: Tensor) -> dict[str, Tensor]:
        """Weighted terms, each `(B,)`, on latents `(B, *latent_shape)`."""

    def drawn_loss(self, z: Tensor, h: Tensor) -> tuple[dict[str, Tensor], Tensor | None]:
        """`latent_loss`, and the inputs of `h` that it drew, `(draws, B, *input_shape)`, which the fiber loss takes
        instead of new ones; None if it drew none."""
        return self.latent_loss(z, h), None

    @final
    def loss(self, x: Tensor, h: Tensor | None) -> dict[str, Tensor]:
        if h is None:
            raise ValueError(f"{type(self).__name__}: h: expected representations, got None; give a subject")
        return self.latent_loss(self.draw_latents(x, h), h)

    @torch.no_grad()
    def draw_latents(self, x: Tensor, h: Tensor) -> Tensor:
        """A sample of `q(z | x, h)`, on which the density is trained."""
        mean, std = self.latents.moments(x, h)
        return self.latents.posterior_sample(mean, std, torch.randn_like(std))


class Stepped(TrainableFiberModel, ABC):
    """A model that goes from noise (`t = 1`) to data (`t = 0`) in steps of time.

    Its states are those of a variance-preserving schedule, `z_t = alpha z_0 + sigma e` with `alpha^2 + sigma^2 = 1`.
    """

    @abstractmethod
    def transport(self, noise: Tensor, h: Tensor, last_steps: int | None = None) -> Tensor:
        """As in `TrainableFiberModel`. If `last_steps` is given, gradients flow through this many last steps only."""

    @abstractmethod
    def noised(self, z: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """The state `alpha z + sigma noise` at times `t` `(B,)`."""

    @abstractmethod
    def estimate(self, z_t: Tensor, t: Tensor, h: Tensor) -> Tensor:
        """The clean latent that one network call estimates from `z_t`: the conditional mean if the model learns
        velocities or noise, the end of the trajectory if it learns a flow map."""
