"""What training trains, as contracts: a loss on images, and densities over a latent space that are FiberModels."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Literal, Self, final

import torch
from torch import Tensor, nn

from fibermodels.component import Component, fingerprint
from fibermodels.core import LatentSpace, Pushforward


class Trainable(Component, ABC):
    """What the training loop trains: anything with a loss on images and their representations."""

    image_shape: tuple[int, int, int]
    feature_shape: tuple[int, ...] = ()
    """The shape of the representations that it is told; `()` where it is told none."""

    @abstractmethod
    def loss(self, x: Tensor, h: Tensor | None) -> dict[str, Tensor]:
        """Weighted terms, each `(B,)`; the objective is the mean of their sum.

        Args:
            x: images `(B, *image_shape)` in [0, 1].
            h: their representations `(B, *feature_shape)`; None where no subject exists yet.
        """

    def scores(self, x: Tensor, h: Tensor | None) -> dict[str, Tensor]:
        """Figures that validation reports beside the loss, each `(B,)`."""
        return {}

    product_split: Literal["train", "val"] = "train"
    """The split that `product` gets."""

    def product(self, batches: Iterable[dict[str, Tensor]]) -> Component:
        """What is kept of the trained object, finished on batches of `product_split`: itself."""
        return self


class Supervised(Trainable, ABC):
    """What is trained on labelled images: the batch's `y` takes the place of representations."""

    @abstractmethod
    def loss(self, x: Tensor, y: Tensor | None) -> dict[str, Tensor]:
        """As in `Trainable`, with labels `(B,)` or `(B, K)`."""

    product_split: Literal["train", "val"] = "val"
    """Calibration on what a network was trained on would call it too sure."""

    @abstractmethod
    def predict(self, x: Tensor) -> Tensor:
        """What is compared with labels, `(B, K)`."""

    @abstractmethod
    def split_scores(self, predictions: Tensor, y: Tensor) -> dict[str, float]:
        """Figures of a whole split, which no mean over batches gives: its predictions `(N, K)` against its labels."""


class TrainableFiberModel(Pushforward, Trainable, ABC):
    """A density over a frozen latent space, learned from data: noise to latent to image.

    Args:
        latents: the latent space; it is frozen here.
        feature_shape: of the representations that the model is told.
    """

    def __init__(self, latents: LatentSpace, feature_shape: Sequence[int] = ()) -> None:
        super().__init__()
        self.latents, self.feature_shape = latents.requires_grad_(False).eval(), tuple(feature_shape)
        self.image_shape = latents.image_shape
        self.noise_shape = latents.latent_shape

    def train(self, mode: bool = True) -> Self:
        """The latent space is frozen: it stays in evaluation mode."""
        super().train(mode)
        self.latents.eval()
        return self

    def frozen_parts(self) -> dict[str, nn.Module]:
        """What the model is given and does not train, by the attribute's name."""
        return {"latents": self.latents}

    def density(self) -> tuple[dict[str, Tensor], dict[str, str]]:
        """What `load_density` reads: the state without the frozen parts, and the metadata that names the latter."""
        parts = self.frozen_parts()
        given = tuple(f"{name}." for name in parts)
        state = {name: value for name, value in self.state_dict().items() if not name.startswith(given)}
        return state, {name: fingerprint(part) for name, part in parts.items()}

    def load_density(self, weights: str | None) -> None:
        """What a constructor loads from a file that was exported: all but the frozen parts, which are given.

        Raises:
            FileNotFoundError: no such file.
            ValueError: not such a file, another architecture, or trained over other frozen parts.
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
                    f"{type(self).__name__}: '{weights}' was trained over another {kind} (fingerprint "
                    f"{theirs.get(name)}) than it is given ({mine})"
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

    @final
    def loss(self, x: Tensor, h: Tensor | None) -> dict[str, Tensor]:
        if h is None:
            raise ValueError(f"{type(self).__name__}: a fiber model trains on representations; give a subject")
        return self.latent_loss(self.draw_latents(x, h), h)

    @torch.no_grad()
    def draw_latents(self, x: Tensor, h: Tensor) -> Tensor:
        """A sample of `q(z | x, h)`: what a density model is trained on."""
        mean, std = self.latents.moments(x, h)
        return self.latents.posterior_sample(mean, std, torch.randn_like(std))


class Stepped(TrainableFiberModel, ABC):
    """A model that goes from noise (`t = 1`) to data (`t = 0`) step by step in time.

    Its states are those of a variance-preserving schedule, `z_t = alpha z_0 + sigma e` with `alpha^2 + sigma^2 = 1`.
    """

    @abstractmethod
    def transport(self, noise: Tensor, h: Tensor, last_steps: int | None = None) -> Tensor:
        """As in `TrainableFiberModel`; with `last_steps`, gradients run through so many last steps only."""

    @abstractmethod
    def noised(self, z: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """The state `alpha z + sigma noise` at times `t` `(B,)`."""

    @abstractmethod
    def estimate(self, z_t: Tensor, t: Tensor, h: Tensor) -> Tensor:
        """The clean latent as one network call sees it from `z_t`: where a model learns velocities or noise,
        its conditional mean; where it learns a flow map, the end of the trajectory."""
