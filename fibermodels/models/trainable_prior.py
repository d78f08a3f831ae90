"""What the models that learn a denoiser share: the sampler, the path from data to noise, the regression."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from fibermodels.checks import check_feature_shape, check_number
from fibermodels.core import LatentSpace
from fibermodels.diffusion import Controllable, Denoiser, Estimate, Prior, Prompted, Sampler, Schedule, unguided
from fibermodels.diffusion.parametrisation import Prediction
from fibermodels.nn import Control, Network, Steerable, spread_times
from fibermodels.trainable import Stepped


class TrainablePrior(Stepped, Prior, ABC):
    """A fiber model with a denoiser, which one sampler takes from noise to a latent, in training with a fiber loss and
    after it. With few steps that loss is affordable, and the model learns to be right in just these steps.

    Args:
        latents: the frozen latent space.
        feature_shape: of the representations that the model is told; empty for an unconditional prior.
        schedule: of the denoiser.
        sampler: from noise to data.
    """

    def __init__(
        self, latents: LatentSpace, feature_shape: Sequence[int], schedule: Schedule, sampler: Sampler
    ) -> None:
        super().__init__(latents, feature_shape)
        self.schedule, self.sampler = schedule, sampler
        self.network_calls = sampler.calls
        self.noise_shape = sampler.noise_shape(latents.latent_shape)

    def noised(self, z: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        return self.schedule.noised(z, noise, t)

    def estimate(self, z_t: Tensor, t: Tensor, h: Tensor) -> Tensor:
        return self.denoiser(h)(z_t, t)[0]

    def transport(self, noise: Tensor, h: Tensor, last_steps: int | None = None) -> Tensor:
        return self.sampler(unguided(self.denoiser(h)), self.schedule, noise, last_steps)


class NetworkPrior(TrainablePrior, Controllable, Prompted, ABC):
    """A denoiser that is a network, trained by regression on what the network should say of known data and noise.

    With `guidance_scale` s, the output is `u + s (c - u)`, from `c` with and `u` without the representation. For s > 1
    the samples have not the law of the data: they are more typical of their representation and less diverse.

    Args:
        latents, feature_shape, schedule, sampler: as in `TrainablePrior`.
        network, weights, drop_condition, guidance_scale: as in `Diffusion`.
        prediction: what the network predicts.

    Raises:
        ValueError: a number out of its range; a scale other than 1 of a network that knows no hidden representations.

    Reference: Ho & Salimans, arXiv 2207.12598, eq. 6 (where the scale is w + 1).
    """

    objective: str = "velocity"
    """The name of the loss."""

    def __init__(
        self,
        latents: LatentSpace,
        feature_shape: Sequence[int],
        network: Network,
        schedule: Schedule,
        sampler: Sampler,
        prediction: Prediction,
        weights: str | None,
        drop_condition: float = 0.0,
        guidance_scale: float = 1.0,
    ) -> None:
        super().__init__(latents, feature_shape, schedule, sampler)
        name = type(self).__name__
        check_number(name, "drop_condition", drop_condition, least=0, below=1)
        check_number(name, "guidance_scale", guidance_scale, least=0)
        if drop_condition and not feature_shape:
            raise ValueError(f"{name}: drop_condition: expected 0 for an unconditional model, got {drop_condition}")
        if guidance_scale != 1 and not drop_condition:
            raise ValueError(
                f"{name}: guidance_scale: expected 1 for a model that is always told its representation "
                f"(drop_condition 0), got {guidance_scale}"
            )
        self.drop_condition, self.guidance_scale = drop_condition, guidance_scale
        if guidance_scale != 1:
            self.network_calls = 2 * sampler.calls
        self.prediction = prediction
        self.network = network.build(latents.shape, feature_shape)
        self.load_density(weights)

    def predict(self, z_t: Tensor, t: Tensor, condition: Any, *control: Control) -> Tensor:
        """The network's output `(B, D)` in states `(B, D)` at times `(B,)`; a `Steerable` takes a control."""
        states, times = self.prediction.given(self.schedule, z_t, t)
        output: Tensor = self.network(states, (times,), condition, *control)
        return output

    def denoiser(self, h: Tensor | None = None) -> Denoiser:
        condition, scale = self.network.condition(h), self.guidance_scale
        hidden = (
            self.network.condition(h, torch.zeros(len(h), device=h.device)) if h is not None and scale != 1 else None
        )

        def denoise(z: Tensor, t: Tensor) -> Estimate:
            if h is not None and self.feature_shape and len(h) != len(z):
                raise ValueError(
                    f"{type(self).__name__}: h: expected one representation for each of {len(z)} states, got {len(h)}"
                )
            output = self.predict(z, t, condition)
            if hidden is not None:
                output = torch.lerp(self.predict(z, t, hidden), output, scale)
            return self.prediction.estimates(output, z, *self.schedule.shares(t))

        return denoise

    def prompts(self, h: Tensor) -> Tensor:
        name = type(self).__name__
        if not self.feature_shape:
            raise ValueError(f"{name}: expected a conditional model, got one that is told nothing (feature_shape [])")
        check_feature_shape(name, h, tuple(self.feature_shape))
        return torch.stack((self.network.standardise.inverse(torch.zeros_like(h)), h), 1)  # the mean: hidden, for it

    def denoise_prompted(self, z: Tensor, t: Tensor, prompts: Tensor) -> Estimate:
        null, prompt = (self.network.condition(each) for each in prompts.unbind(1))
        output = self.predict(z, t, prompt)
        if self.guidance_scale != 1:
            output = torch.lerp(self.predict(z, t, null), output, self.guidance_scale)
        return self.prediction.estimates(output, z, *self.schedule.shares(t))

    @property
    def unet(self) -> nn.Module:  # type: ignore[override]  # a property: the state would hold an attribute twice
        if not isinstance(self.network, Steerable):
            raise ValueError(
                f"{type(self).__name__}: network: expected one that a ControlNet can steer, as fibermodels.nn.UNet, "
                f"got {type(self.network).__name__}"
            )
        return self.network.unet

    def controlled(self, z_t: Tensor, t: Tensor, control: Control, prompted: Tensor | None = None) -> Estimate:
        return self.prediction.estimates(self.predict(z_t, t, None, control), z_t, *self.schedule.shares(t))

    def latent_loss(self, z: Tensor, h: Tensor) -> dict[str, Tensor]:
        noise, t = torch.randn_like(z), spread_times(z)
        told = torch.rand(len(z), device=z.device) >= self.drop_condition if self.drop_condition else None
        output = self.predict(self.noised(z, noise, t), t, self.network.condition(h, told))
        error = output - self.prediction.target(z, noise, *self.schedule.shares(t))
        return {self.objective: self.weight(t) * error.square().mean(1)}

    @abstractmethod
    def weight(self, t: Tensor) -> Tensor:
        """Of the squared error at times `(B,)`."""
