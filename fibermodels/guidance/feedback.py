"""Condition feedback: correct what a model is told until it hits the target.

With its noise held fixed, `phi(push(noise, h'))` of a conditional model depends only on the told condition `h'`, and
for a good model it is nearly `h'` itself. So

    h' <- h' + s (h - phi(push(noise, h')))

is a Newton step with the identity for a Jacobian: one call of the model and one of the subject, no gradients. It
converges where the model's error changes less than `h'` does, |d(error)/dh'| < 1. A step is kept only where it brings
the row nearer; otherwise the row tries a smaller one. The sample moves across fibers, not along them.

Where the density is over a latent space whose decoder sees `h`, the correction can be confined to the decoder,
`phi(D(z, h'))` with the latent `z` that the density drew for `h`: the law of `z` stays what it was, and a correction
costs a call of the decoder and none of the density.

With `memory` the secants of the last steps correct the identity (Anderson's mixing, type II):

    h' <- h' + r - (dH + dR) c,    c = argmin |r - dR c|,    r = h - phi(push(noise, h')).

References: our own; Anderson, J. ACM 12 (1965) 547; Walker & Ni, SIAM J. Numer. Anal. 49 (2011), section 2.
"""

from collections.abc import Callable
from typing import Literal, cast, get_args

import torch
from torch import Tensor

from fibermodels.checks import check_choice, check_finite, check_number, check_numbers
from fibermodels.core import Pushforward, Subject
from fibermodels.guidance.gauss_newton import rms
from fibermodels.guidance.objective import check_fits, each
from fibermodels.spaces import HasInputSpace
from fibermodels.trainable import TrainableFiberModel

Over = Literal["model", "decoder"]


class ConditionFeedback(Pushforward, HasInputSpace):
    """A conditional model whose told condition is corrected.

    Args:
        model: any model that pushes noise and a condition to an input.
        subject: the network whose fibers are sampled.
        steps: corrections, each one call of model and subject.
        step_size: `s` of the first correction, in (0, 2]; a correction that fails is tried again with half of it.
        memory: how many secants correct the direction.
        tolerance: a row whose fiber RMS is at most this is left alone.
        over: what is told the corrected condition: the whole `model`, or only its `decoder`.

    Raises:
        ValueError: a number out of its range; `decoder` for a model that has no density over a latent space.
    """

    def __init__(
        self,
        model: Pushforward,
        subject: Subject,
        steps: int = 3,
        step_size: float = 1.0,
        memory: int = 0,
        tolerance: float = 0.0,
        over: Over = "model",
    ) -> None:
        super().__init__()
        check_numbers("ConditionFeedback", {"steps": steps, "memory": memory, "tolerance": tolerance}, least=0)
        check_number("ConditionFeedback", "step_size", step_size, above=0, most=2)
        check_choice("ConditionFeedback", "over", over, get_args(Over))
        if over == "decoder" and not isinstance(model, TrainableFiberModel):
            raise ValueError(
                "ConditionFeedback: over: 'decoder' expects a density over a latent space, got a "
                f"{type(model).__name__}"
            )
        self.model, self.subject = model, subject
        self.over: Over = over
        self.steps, self.step_size, self.memory, self.tolerance = steps, step_size, memory, tolerance
        self.input_space, self.noise_shape = subject.input_space, model.noise_shape
        self.network_calls = model.network_calls * (steps + 1 if over == "model" else 1)

    def push(self, noise: Tensor, h: Tensor) -> Tensor:
        told, paint = h, self._paint(noise, h)
        images, residual = self._look(paint(told), h)
        check_finite(images, f"ConditionFeedback: samples of {type(self.model).__name__}")
        check_finite(residual, f"ConditionFeedback: their representations by {type(self.subject).__name__}")
        error = rms(residual)
        step = torch.full_like(error, self.step_size)
        secants: list[tuple[Tensor, Tensor]] = []
        for _ in range(self.steps):
            if not (error > self.tolerance).any():
                break
            trial = told + each(step, h) * self._direction(residual, secants)
            trial_images, trial_residual = self._look(paint(trial), h)
            trial_error = rms(trial_residual)
            if self.memory:  # a failed trial is a secant, too
                secants = [*secants[1 - self.memory :], (trial - told, trial_residual - residual)][-self.memory :]
            better = (trial_error < error) & (error > self.tolerance)
            images = torch.where(each(better, images), trial_images, images)
            told = torch.where(each(better, h), trial, told)
            residual = torch.where(each(better, h), trial_residual, residual)
            error = torch.where(better, trial_error, error)
            step = torch.where(better, step, step / 2)
        return images

    def _paint(self, noise: Tensor, h: Tensor) -> Callable[[Tensor], Tensor]:
        """Images as a function of the told condition."""
        if self.over == "model":
            return lambda told: self.model.push(noise, told)
        model = cast(TrainableFiberModel, self.model)
        z = model.transport(noise, h)
        return lambda told: model.latents.decode(z, told)

    def _look(self, images: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        """The images and the residuals of their representations."""
        check_fits(self, self.subject, images.shape[1:], "the model")
        return images, h - self.subject(images)

    @staticmethod
    def _direction(residual: Tensor, secants: list[tuple[Tensor, Tensor]]) -> Tensor:
        """The correction of the told condition for `s = 1`, `(B, *feature_shape)`."""
        if not secants:
            return residual
        told = torch.stack([pair[0].flatten(1) for pair in secants], 2)  # (B, F, m)
        change = torch.stack([pair[1].flatten(1) for pair in secants], 2)
        flat = residual.flatten(1)[..., None]
        gram = change.mT @ change
        ridge = 1e-8 * gram.diagonal(dim1=1, dim2=2).mean(1).clamp(min=1e-20)[:, None, None]
        share = torch.linalg.solve(gram + ridge * torch.eye(len(secants)).to(gram), change.mT @ flat)
        return (flat - (told + change) @ share)[..., 0].view_as(residual)
