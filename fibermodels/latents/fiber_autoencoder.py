"""A latent space made for the fiber: `h` carries what lies across fibers, `z` what lies along them.

Every density model over a latent space is bounded by what the space can carry: where `phi(D(z, h))`
misses `h`, no density can hit it. Here `h` decides a few grey maps and `z` how each channel mixes them,

    D(z, h)_k = offset_k(z) + sum_r mix_kr(z) map_r(h),    k a channel,

each map with median 0, so that the offset is the colour of the ground whatever the target. One `z` then
means the same colours on every fiber, the latents are nearly independent of `h`, and few dimensions
suffice. And the decoder is trained to be a right inverse of the subject for every `z`:

    loss = KL(q(z|x,h) || N(0, I)) - log N(x; D(z,h), sigma^2 I) - log N(h'; phi(D(z',h')), tau^2 I),

where `z'` belongs to another image and `h' = h + noise * e` to none: the last term needs no image, so
the decoder learns from more representations than the training set has.

Reference: our own; the decoder is bilinear in style and content as in Tenenbaum & Freeman (Neural
Computation 12, 2000), the last term the fiber loss of arXiv 2603.21782 in the latent space's training.
"""

import torch
from torch import Tensor

from fibermodels import distances
from fibermodels.core import Subject
from fibermodels.latents.variational import Variational, gaussian_nll
from fibermodels.nn import ResidualMLP


class FiberAutoencoder(Variational):
    """Few latent dimensions for the fiber's own, and a decoder that keeps to the fiber.

    Args:
        weights: a safetensors file (`make fiber-autoencoder` trains one); None starts at random.
        size: height and width of the images, in pixels.
        dim: dimensions of the latent space.
        feature_dim: dimensions of the (flat) representation.
        width: width of the encoder and of the style network.
        blocks: residual blocks of the encoder and of the style network.
        patterns: size of the encoder's dictionary.
        maps: grey maps that `h` decides.
        map_width: width of the network that makes them.
        map_blocks: its residual blocks.
        sigma: standard deviation of a pixel about its reconstruction.
        tau: standard deviation of a dimension of the representation about the target; None leaves the
            fiber out of the loss.
        noise: standard deviation of what is added to the targets of that term.
        subject: judges images in training; not part of the weights.
    """

    def __init__(
        self,
        weights: str | None = None,
        size: int = 28,
        dim: int = 6,
        feature_dim: int = 48,
        width: int = 192,
        blocks: int = 2,
        patterns: int = 128,
        maps: int = 2,
        map_width: int = 512,
        map_blocks: int = 3,
        sigma: float = 0.1,
        tau: float | None = 0.08,
        noise: float = 0.05,
        subject: Subject | None = None,
    ) -> None:
        super().__init__(size, dim, feature_dim, width, blocks, patterns, sigma)
        if tau is not None and not tau > 0:
            raise ValueError(f"FiberAutoencoder: tau must be positive, got {tau}")
        if not noise >= 0:
            raise ValueError(f"FiberAutoencoder: noise must not be negative, got {noise}")
        self.tau, self.noise = tau, noise
        self.content = ResidualMLP(feature_dim, maps * size * size, map_width, map_blocks)
        self.style = ResidualMLP(dim, 3 * (1 + maps), width, blocks)
        self.load_weights(weights)
        self.subject = subject  # only now: the weights file is without it

    def _context(self, h: Tensor | None) -> list[Tensor]:
        if h is None:
            raise ValueError("FiberAutoencoder: needs representations, that is a subject")
        return [h.flatten(1)]

    def _draw(self, z: Tensor, h: Tensor | None) -> Tensor:
        (context,) = self._context(h)
        style = self.style(z).unflatten(1, (3, -1))
        offset, mix = style[..., :1], style[..., 1:]
        maps = self.content(context).unflatten(1, (mix.shape[2], -1))
        maps = maps - maps.median(2, keepdim=True).values  # else the ground's colour would depend on h, too
        return (0.5 + offset + mix @ maps).unflatten(2, self.image_shape[1:])

    def _further_terms(self, z: Tensor, h: Tensor | None) -> dict[str, Tensor]:
        if self.tau is None:
            return {}
        if self.subject is None or h is None:
            raise ValueError(f"FiberAutoencoder: tau {self.tau} needs a subject to train with")
        near = h + self.noise * torch.randn_like(h)
        other = z.detach().roll(1, 0)
        image = self._draw(other, near).clamp(0, 1)
        return {"fiber": gaussian_nll(self.subject(image), near, self.tau)}

    def scores(self, x: Tensor, h: Tensor | None) -> dict[str, Tensor]:
        scores = super().scores(x, h)
        if self.subject is not None and h is not None:
            mean, _ = self._posterior(x, h)
            for name, z in {"fiber_rms": mean, "fiber_rms_swapped": mean.roll(1, 0)}.items():
                scores[name] = distances.rms(h, self.subject(self._draw(z, h).clamp(0, 1)))
        return scores
