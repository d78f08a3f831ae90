"""A conditional prior that is always told the same, whatever the targets of guidance are."""

import torch
from torch import Tensor

from fibermodels.core import LatentSpace
from fibermodels.diffusion.prior import Prior
from fibermodels.diffusion.prompted import Prompted
from fibermodels.diffusion.samplers import Denoiser, Estimate
from fibermodels.diffusion.schedule import Schedule


class Told(Prompted):
    """`p(x | c)` with a fixed `c`, such as a class, as a prior over inputs. Guidance towards a subject's representation
    then samples `p(x | c, phi(x) = h)`, though the prior knows nothing of `h`. If it is `Prompted`, `c` is its prompt.

    Args:
        prior: a conditional prior over latents that do not use a subject.
        condition: what it is told, the entries of a vector.

    Raises:
        ValueError: when sampling, a condition of another shape than the prior expects; when asked for prompts, a prior
            that is not `Prompted`.
    """

    condition: Tensor

    def __init__(self, prior: Prior, condition: list[float]) -> None:
        super().__init__()
        self.prior = prior
        self.register_buffer("condition", torch.tensor(condition), persistent=False)

    @property
    def latents(self) -> LatentSpace:  # type: ignore[override]  # a property: the state would hold its weights twice
        return self.prior.latents

    @property
    def schedule(self) -> Schedule:  # type: ignore[override]
        return self.prior.schedule

    @property
    def guidance_scale(self) -> float:  # type: ignore[override]
        return self._prompted().guidance_scale

    def denoiser(self, h: Tensor | None = None) -> Denoiser:
        def denoise(z: Tensor, t: Tensor) -> Estimate:
            return self.prior.denoiser(self.condition.expand(len(z), *self.condition.shape))(z, t)

        return denoise

    def prompts(self, h: Tensor) -> Tensor:
        return self._prompted().prompts(self.condition.expand(len(h), *self.condition.shape))

    def denoise_prompted(self, z: Tensor, t: Tensor, prompts: Tensor) -> Estimate:
        return self._prompted().denoise_prompted(z, t, prompts)

    def _prompted(self) -> Prompted:
        if not isinstance(self.prior, Prompted):
            raise ValueError(f"Told: prior: expected one that takes prompts, got {type(self.prior).__name__}")
        return self.prior
