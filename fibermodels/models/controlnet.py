"""A frozen prior that a ControlNet makes conditional: FeatInv's inverter of spatial maps and of vectors.

The representation becomes a map (`nn.FeatureMap`), the map enters a trainable copy of the first half of the prior's
UNet, and the copy's outputs are added to the UNet's skips and middle. Only copy and encoder learn; at the start the
model is the prior. In some training rows map (zeros) and prompt ("no prompt") are left out together, so that sampling
can go away from what the model would draw without them,

    (z_0, e) = (z_0, e)_without + s ((z_0, e)_with - (z_0, e)_without),

which keeps `z_t = alpha z_0 + sigma e`. FeatInv trains on the noise alone; here the fiber loss joins it cheaply, on
the one-call estimate at small noise (`FiberLoss(estimate_below=...)`).

References: FeatInv (feature space to input space with conditional diffusion models), section 2; Zhang et al., arXiv
2302.05543 (ControlNet); Ho & Salimans, arXiv 2207.12598 (classifier-free guidance).
"""

from typing import Any, Literal, cast, get_args

import torch
from torch import Tensor, nn

from fibermodels.checks import check_choice, check_feature_shape, check_number
from fibermodels.core import MapLatents
from fibermodels.diffusion import DDIM, Controllable, Denoiser, Sampler
from fibermodels.models.trainable_prior import TrainablePrior
from fibermodels.nn import FeatureMap, Standardise, spread_times
from fibermodels.nn.controlnet import ControlNet, input_size

Contrast = Literal["both", "prompt"]
ControlObjective = Literal["noise", "velocity"]


class ControlNetInverter(TrainablePrior):
    """A ControlNet on a frozen prior, conditioned on representations.

    Args:
        prior: what is steered; it stays as it is.
        feature_shape: of the representation, `[C, h, w]` or `[D]`.
        width: channels of the condition encoder.
        dropout: share of training rows without map and prompt.
        control_strength: factor on the residuals when sampling; training has 1.
        guidance_scale: `s` above when sampling; 1 takes one network row for each sample, any other value two.
        contrast: what is left out to go away from: `both` map and prompt, or, as FeatInv does, the `prompt` alone.
        objective: squared error of the `noise`, as the prior of FeatInv is trained, or of the `velocity`
            `alpha e - sigma z_0`, for priors that predict it and schedules that end at pure noise.
        sampler: from noise to data; None takes `DDIM` with 50 steps.
        checkpointing: compute UNet and ControlNet again in the backward pass instead of keeping their activations.
        weights: a safetensors file of a trained inverter, without its prior; None starts from the prior.
    """

    def __init__(
        self,
        prior: Controllable,
        feature_shape: list[int],
        width: int = 512,
        dropout: float = 0.15,
        control_strength: float = 1.0,
        guidance_scale: float = 1.0,
        contrast: Contrast = "both",
        objective: ControlObjective = "noise",
        sampler: Sampler | None = None,
        checkpointing: bool = False,
        weights: str | None = None,
    ) -> None:
        super().__init__(prior.latents, feature_shape, prior.schedule, sampler or DDIM(50))
        if not isinstance(prior.latents, MapLatents):
            raise ValueError(f"ControlNetInverter: latents must be maps, got {type(prior.latents).__name__}")
        check_number("ControlNetInverter", "dropout", dropout, least=0, below=1)
        check_number("ControlNetInverter", "control_strength", control_strength, least=0)
        check_number("ControlNetInverter", "guidance_scale", guidance_scale, least=0)
        check_choice("ControlNetInverter", "contrast", contrast, get_args(Contrast))
        check_choice("ControlNetInverter", "objective", objective, get_args(ControlObjective))
        if guidance_scale != 1 and contrast == "both" and not dropout:
            raise ValueError(
                f"ControlNetInverter: guidance_scale {guidance_scale} needs a model that knows what to draw without "
                "a representation: train with dropout above 0"
            )
        self.prior = prior.requires_grad_(False).eval()
        self.dropout, self.objective = dropout, objective
        self.control_strength, self.guidance_scale, self.contrast = control_strength, guidance_scale, contrast
        self.network_calls *= 1 if guidance_scale == 1 else 2
        self.standardise, config = Standardise(feature_shape), cast(Any, prior.unet.config)
        size = input_size(prior.unet, prior.latents.map_shape)
        self.encoder = FeatureMap(feature_shape, int(config.block_out_channels[0]), size, width)
        self.control = ControlNet(prior.unet, checkpointing)
        self.load_density(weights)

    def frozen_parts(self) -> dict[str, nn.Module]:
        return {**super().frozen_parts(), "prior": self.prior}

    def condition(self, h: Tensor | None) -> Tensor:
        """The map `(B, C, H, W)` that the ControlNet is given."""
        h = check_feature_shape("ControlNetInverter", h, self.feature_shape)
        condition: Tensor = self.encoder(self.standardise(h))
        return condition

    def steered(
        self, z_t: Tensor, t: Tensor, condition: Tensor, prompted: Tensor | None, strength: float = 1.0
    ) -> tuple[Tensor, Tensor]:
        """The prior's data and noise under the control of maps, one row for each of `z_t`."""
        return self.prior.controlled(
            z_t, t, lambda maps, times, prompt: self.control(maps, times, prompt, condition, strength), prompted
        )

    def denoiser(self, h: Tensor | None = None) -> Denoiser:
        """With strength and guidance; the representation is encoded once, not in every step."""
        condition = self.condition(h)
        if self.guidance_scale == 1:
            return lambda z, t: self.steered(z, t, condition, None, self.control_strength)
        other = condition if self.contrast == "prompt" else torch.zeros_like(condition)
        both = torch.cat((condition, other))

        def denoise(z: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
            prompted = torch.arange(2 * len(z), device=z.device) < len(z)
            pair = self.steered(torch.cat((z, z)), torch.cat((t, t)), both, prompted, self.control_strength)
            data, noise = (torch.lerp(each[len(z) :], each[: len(z)], self.guidance_scale) for each in pair)
            return data, noise

        return denoise

    def latent_loss(self, z: Tensor, h: Tensor) -> dict[str, Tensor]:
        noise, t = torch.randn_like(z), spread_times(z)
        kept = torch.rand(len(z), device=z.device) >= (self.dropout if self.training else 0.0)
        condition = self.condition(h) * kept[:, None, None, None]
        found, error = self.steered(self.noised(z, noise, t), t, condition, kept)
        error = error - noise
        if self.objective == "velocity":
            alpha, sigma = self.schedule.shares(t)
            error = alpha * error - sigma * (found - z)
        return {self.objective: error.square().mean(1)}
