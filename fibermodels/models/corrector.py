"""A learned second call: a network that is told where the first one missed.

    z_0 = T(e, h),   x_0 = D(z_0, h),   r = (h - phi(x_0)) / std(h),   g = - grad_z |r|^2 / 2 at z_0
    z = z_0 + C(z_0, g / rms(g), h, r),   x_hat = D(z, h)

with a trained fiber model `T` that stays as it is. The miss `r` says what is wrong, and its gradient, by one backward
pass of the subject and the decoder, says where in the latent; steps along it alone make metamers. `C` starts at zero,
so the first samples are those of `T`. It is trained by a strictly proper score of `x_hat`, which is least where the
samples have the law of the data, together with the fiber loss of the training (`fiber.weight`), which brings them
nearer to the fiber. `ConditionFeedback` needs no training and takes the identity for the Jacobian of what `T` does with
what it is told; this one learns it.

References: Morris et al., arXiv 2310.06816 (vec2text: a corrector of text that is told the embedding that it reached);
Putzky & Welling, arXiv 1706.04008 (recurrent inference machines: a network that is told the gradient of the likelihood,
section 3); here it is trained by a score of distributions instead of a squared error.
"""

import torch
from torch import Tensor, nn

from fibermodels.core import Subject
from fibermodels.models.scored import Scored
from fibermodels.nn import Network, Standardise
from fibermodels.trainable import TrainableFiberModel

FLOOR = 1e-12
"""Added to the root mean square of a gradient, which is zero on the fiber."""

GAIN = 4.0
"""The miss is told in quarters of the deviations of representations, because a good model's misses are small."""


class Corrector(Scored):
    """A correction of a fiber model, in one more network call, and one call and one backward pass of the subject.

    Args:
        model: what is corrected; it is frozen here.
        subject: the network whose fibers are sampled.
        network: maps the first latent and the gradient (in a map, as more channels), told the representation and the
            miss, to a change of the latent.
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
        first, *rest = model.latents.shape
        self.network = network.build((2 * first, *rest), (2 * channels, *places))
        self.network.standardise.settled = True  # what it is told is standardised here
        self.noise_shape, self.network_calls = model.noise_shape, model.network_calls + 1
        self.load_density(weights)
        self.score_features(features)

    def frozen_parts(self) -> dict[str, nn.Module]:
        return super().frozen_parts() | {"model": self.model, "subject": self.subject}

    def transport(self, noise: Tensor, h: Tensor) -> Tensor:
        z = self.model.transport(noise, h)
        miss, gradient = self._miss(z, h)
        told = self.network.condition(torch.cat((self.standardise(h), GAIN * miss), 1))
        state = torch.cat((z, gradient), 1)
        change = self.network(state, (torch.zeros_like(z[:, 0]),), told)  # the latent is a state at time 0
        return z + change[:, : z.shape[1]]  # the rest would change the gradient

    def _miss(self, z: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        """The miss `(B, *feature_shape)` in deviations, and the direction in the latent that reduces it, `(B, D)`, of
        root mean square 1. They depend on `z` and `h` differentiably where somebody asks for gradients of these."""
        asked = torch.is_grad_enabled() and (z.requires_grad or h.requires_grad)
        with torch.enable_grad():
            at = z if asked and z.requires_grad else z.detach().requires_grad_()
            miss = (h - self.subject(self.latents.decode(at, h))) / self.standardise.std
            (gradient,) = torch.autograd.grad(-0.5 * miss.square().sum(), at, create_graph=asked)
        if not asked:
            miss = miss.detach()
        return miss, gradient / (gradient.square().mean(1, keepdim=True).sqrt() + FLOOR)
