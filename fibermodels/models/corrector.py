"""A learned second call: a network that is told where the first one missed.

    z_0 = T(e, h),   x_0 = D(z_0, h),   z = z_0 + C(z_0, h, h - phi(x_0)),   x_hat = D(z, h)

with a trained fiber model `T` that stays as it is. `C` starts at zero, so the first samples are those of `T`. It is
trained by a strictly proper score of `x_hat`, which is least where the samples have the law of the data, together with
the fiber loss of the training (`fiber.weight`), which brings them nearer to the fiber. `ConditionFeedback` needs no
training and takes the identity for the Jacobian of what `T` does with what it is told; this one learns it.

References: Morris et al., arXiv 2310.06816 (vec2text: a corrector of text that is told the embedding that it reached);
otherwise our own.
"""

import torch
from torch import Tensor, nn

from fibermodels.core import Subject
from fibermodels.models.scored import Scored
from fibermodels.nn import Network, Standardise
from fibermodels.trainable import TrainableFiberModel

GAIN = 4.0
"""The miss is told in quarters of the deviations of representations, because a good model's misses are small."""


class Corrector(Scored):
    """A correction of a fiber model, in one more network call and one call of the subject.

    Args:
        model: what is corrected; it is frozen here.
        subject: the network whose fibers are sampled.
        network: maps the first latent, the representation and the miss to a change of the latent.
        draws, patch_sizes, features, feature_weight: of the score, as in `EnergyScore`.
        weights: a safetensors file of a trained corrector; None starts without a correction.

    Raises:
        ValueError: a number out of its range, or a model or a feature network that does not fit the subject.
    """

    def __init__(
        self,
        model: TrainableFiberModel,
        subject: Subject,
        network: Network,
        draws: int = 2,
        patch_sizes: list[int] | None = None,
        features: list[Subject] | None = None,
        feature_weight: float = 0.5,
        weights: str | None = None,
    ) -> None:
        super().__init__(model.latents, subject.feature_shape, draws, patch_sizes, feature_weight)
        self.model, self.subject = model.requires_grad_(False).eval(), subject
        for what in ("input_shape", "feature_shape"):
            theirs, ours = tuple(getattr(subject, what)), tuple(getattr(model, what))
            if theirs != ours:
                raise ValueError(f"Corrector: model: expected the subject's {what} {theirs}, got {ours}")
        channels, *places = subject.feature_shape
        self.standardise = Standardise(subject.feature_shape)
        self.network = network.build(model.latents.shape, (2 * channels, *places))
        self.network.standardise.settled = True  # what it is told is standardised here
        self.noise_shape, self.network_calls = model.noise_shape, model.network_calls + 1
        self.load_density(weights)
        self.score_features(features)

    def frozen_parts(self) -> dict[str, nn.Module]:
        return super().frozen_parts() | {"model": self.model, "subject": self.subject}

    def transport(self, noise: Tensor, h: Tensor) -> Tensor:
        z = self.model.transport(noise, h)
        miss = GAIN * (h - self.subject(self.latents.decode(z, h))) / self.standardise.std
        told = self.network.condition(torch.cat((self.standardise(h), miss), 1))
        change: Tensor = self.network(z, (torch.zeros_like(z[:, 0]),), told)  # the latent is a state at time 0
        return z + change
