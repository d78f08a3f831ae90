"""Samples of any FiberModel, moved nearer to the fiber in a latent space.

A move in pixels would reach the fiber as an adversarial example does, by changes that nobody sees. A move in the
latents of an autoencoder stays among images. With `latents.Identity` the same classes move in pixels.

Reference: arXiv 2603.21782, Algorithm 1 and figure 12.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor

from fibermodels import distances
from fibermodels.checks import check_finite, check_number
from fibermodels.core import FiberModel, LatentSpace, Subject
from fibermodels.guidance.objective import check_fits, gradient
from fibermodels.noise import ROWS, pushed, seeded, target_generators
from fibermodels.spaces import HasInputSpace
from fibermodels.trainable import TrainableFiberModel


class Refined(FiberModel, HasInputSpace, ABC):
    """A FiberModel whose samples are refined, each one by itself.

    Args:
        model: what draws the samples.
        subject: the network whose fibers are sampled.
        latents: the latent space to move in; samples are encoded there first. None takes the latent space in which
            the model has its density, and starts from the latents that it draws.
        steps: how many; 0 returns the model's own samples.

    Raises:
        ValueError: inputs that do not fit the subject; no latent space, and a model that has none; when sampling,
            results that are not finite.
    """

    noise_shape: tuple[int, ...] = (0,)
    """Shape of the standard normal noise that refining one sample takes."""

    def __init__(self, model: FiberModel, subject: Subject, latents: LatentSpace | None, steps: int) -> None:
        super().__init__()
        self.steps = steps
        self.model, self.subject = model, subject
        self.latents = None if latents is None else latents.requires_grad_(False).eval()
        self.input_space = self.space.input_space
        check_fits(self, subject, self.input_shape, "the latent space")
        self.network_calls = model.network_calls

    @property
    def space(self) -> LatentSpace:
        """The latent space to move in."""
        if self.latents is not None:
            return self.latents
        if isinstance(self.model, TrainableFiberModel):
            return self.model.latents
        raise ValueError(
            f"{type(self).__name__}: latents: expected a latent space to encode the samples of "
            f"{type(self.model).__name__} in, got None"
        )

    @abstractmethod
    def refine(self, z: Tensor, h: Tensor, noise: Tensor) -> Tensor:
        """Inputs `(B, *input_shape)` from latents `(B, D)`, row by row; called without gradients.

        Args:
            z: where to start.
            h: targets, one for each row.
            noise: standard normal, `(B, *noise_shape)`.
        """

    def _sample(self, h: Tensor, n: int, generator: torch.Generator | None, x: Tensor | None) -> Tensor:
        if not self.steps:
            return self.model.sample(h, n, generator, x)
        same = torch.Generator()
        same.set_state((torch.default_generator if generator is None else generator).get_state())
        # A function of the seeds by which the model draws, one per target: batches of targets make no difference.
        own = [seeded("refine", one.initial_seed()) for one in target_generators(len(h), generator)]
        fresh = [torch.randn(n, *self.noise_shape, generator=one) for one in own]
        noise = torch.stack(fresh, 1).flatten(0, 1) if fresh else torch.empty(0, *self.noise_shape)
        start, parts = self.start(h, n, same, x), []
        for rows in torch.arange(n * len(h), device=h.device).split(ROWS):
            again = h[rows % max(1, len(h))]
            parts.append(self.refine(start(rows, again), again, noise[rows.to(noise.device)].to(h.device, h.dtype)))
        images = torch.cat(parts)
        check_finite(images, f"{type(self).__name__}: refined samples")
        return images.unflatten(0, (n, len(h)))

    def start(
        self, h: Tensor, n: int, generator: torch.Generator, x: Tensor | None
    ) -> Callable[[Tensor, Tensor], Tensor]:
        """The latents to start from, as a function of rows and their targets."""
        if self.latents is None and isinstance(self.model, TrainableFiberModel):
            z = pushed(self.model.transport, self.model.noise_shape, h, n, generator).flatten(0, 1)
            return lambda rows, h: z[rows]
        images = self.model.sample(h, n, generator, x).flatten(0, 1)
        check_fits(self, self.subject, images.shape[1:], type(self.model).__name__)
        return lambda rows, h: self.space.encode(images[rows], h)


class LatentDescent(Refined):
    """Adam on the mean squared distance of `phi(decode(z, h))` to `h`.

    Args:
        model, subject, latents: as in `Refined`; with `latents.Identity` it is the descent in pixels.
        steps: steps of Adam; 0 leaves the samples alone.
        learning_rate: of Adam.
    """

    def __init__(
        self,
        model: FiberModel,
        subject: Subject,
        latents: LatentSpace | None = None,
        steps: int = 25,
        learning_rate: float = 0.01,
    ) -> None:
        super().__init__(model, subject, latents, steps)
        check_number("LatentDescent", "steps", steps, least=0)
        check_number("LatentDescent", "learning_rate", learning_rate, above=0)
        self.learning_rate = learning_rate

    def refine(self, z: Tensor, h: Tensor, noise: Tensor) -> Tensor:
        z = z.clone().requires_grad_()
        adam = torch.optim.Adam([z], self.learning_rate)  # every number has its own moments: rows do not mix
        for _ in range(self.steps):
            with torch.enable_grad():
                cost = distances.squared(h, self.subject(self.space.decode(z, h)))
            (z.grad,) = gradient(cost, z)
            adam.step()
        return self.space.decode(z.detach(), h)
