"""Priors that follow a prompt, which may be another one in every call of the network."""

from abc import ABC, abstractmethod

from torch import Tensor

from fibermodels.diffusion.prior import Prior
from fibermodels.diffusion.samplers import Estimate


class Prompted(Prior, ABC):
    """A prior that is told vectors, the prompt, and knows other vectors that tell it nothing, the null-text.

    For a text-to-image pipeline these are the embeddings of two texts. For a prior that is told a class, the prompt is
    the class's vector, and the null-text is the one that its network takes for a hidden class.

    Reference: Augustin et al., DiG-IN, arXiv 2311.17833, appendix A.4: `C_t` and the null-text of each step.
    """

    guidance_scale: float
    """Of classifier-free guidance: at 1 the null-text has no influence, at 0 the prompt has none."""

    @abstractmethod
    def prompts(self, h: Tensor) -> Tensor:
        """The null-text and the prompt that `denoiser(h)` has in every call, `(B, 2, *shape)` in this order.

        Args:
            h: what the prior is bound to, one row for each sample; a prior with a fixed prompt uses their number alone.

        Raises:
            ValueError: a prior that is told nothing.
        """

    @abstractmethod
    def denoise_prompted(self, z: Tensor, t: Tensor, prompts: Tensor) -> Estimate:
        """The denoiser's data and noise, each `(B, D)`, differentiable in `z` and `prompts`.

        With `prompts(h)` they are those of `denoiser(h)`.

        Args:
            z: states `(B, D)`.
            t: times `(B,)` in [0, 1].
            prompts: null-text and prompt of each row, `(B, 2, *shape)`.
        """
