"""A latent space made for the fiber: `h` carries what lies across fibers, `z` what lies along them.

Every density model over a latent space is bounded by what the space can carry: where `phi(D(z, h))`
misses `h`, no density can hit it. Here `h` decides a few grey maps, and each channel `k` of the image
mixes them as its own part `z_k` of the latent says, all channels by one network:

    D(z, h)_k = offset(z_k) + sum_r mix_r(z_k) map_r(h),    map_r >= 0 and 0 on at least half the pixels,

so that the offset is exactly the colour of the ground, whatever the target. One `z` then means the same
colours on every fiber, the latents are nearly independent of `h`, and few dimensions suffice. And the
decoder is trained to be a right inverse of the subject for every `z`:

    loss = KL(q(z|x,h) || N(0, I)) - log Laplace(x; D(z,h), scale) - log N(h'; phi(D(z',h')), tau^2 I),

where `z'` belongs to another image and `h' = h + noise * e` to none: the last term needs no image, so
the decoder learns from more representations than the training set has. Its gradient stops at the
offset. Two things would else move the ground's colour off the data's: a subject that estimates it is
fooled by small shifts; and a Gaussian likelihood averages the errors at the edges of shapes, which no
`h` fixes, where Laplace's takes the median, the ground's own.

Reference: our own; the decoder is bilinear in style and content as in Tenenbaum & Freeman (Neural
Computation 12, 2000), the last term the fiber loss of arXiv 2603.21782 in the latent space's training.
"""

import torch
from torch import Tensor

from fibermodels import distances
from fibermodels.core import Subject
from fibermodels.latents.variational import Variational, check_positive, gaussian_nll
from fibermodels.nn import ResidualMLP


class FiberAutoencoder(Variational):
    """Few latent dimensions for the fiber's own, and a decoder that keeps to the fiber.

    Args:
        weights: a safetensors file (`make fiber-autoencoder` trains one); None starts at random.
        size: height and width of the images, in pixels.
        channel_dim: latent dimensions of each of the three channels.
        feature_dim: dimensions of the (flat) representation.
        width: width of the encoder and of the style network.
        blocks: residual blocks of the encoder and of the style network.
        patterns: size of the encoder's dictionary.
        maps: grey maps that `h` decides.
        map_width: width of the network that makes them.
        map_blocks: its residual blocks.
        scale: mean absolute deviation of a pixel from its reconstruction, as the likelihood has it. A
            colour that `n` pixels show is then known up to `scale / n`, whence the latents' precision.
        tau: standard deviation of a dimension of the representation about the target; None leaves the
            fiber out of the loss.
        noise: standard deviation of what is added to the targets of that term.
        subject: judges images in training; not part of the weights.
    """

    def __init__(
        self,
        weights: str | None = None,
        size: int = 28,
        channel_dim: int = 1,
        feature_dim: int = 48,
        width: int = 128,
        blocks: int = 2,
        patterns: int = 128,
        maps: int = 2,
        map_width: int = 512,
        map_blocks: int = 3,
        scale: float = 2.0,
        tau: float | None = 0.12,
        noise: float = 0.1,
        subject: Subject | None = None,
    ) -> None:
        super().__init__(size, 3 * channel_dim, patterns)
        check_positive(self, scale=scale, tau=tau)
        if not noise >= 0:
            raise ValueError(f"FiberAutoencoder: noise must not be negative, got {noise}")
        self.scale, self.tau, self.noise = scale, tau, noise
        self.encoder = ResidualMLP(2 * patterns + feature_dim, 2 * channel_dim, width, blocks)
        self.content = ResidualMLP(feature_dim, maps * size * size, map_width, map_blocks)
        self.style = ResidualMLP(channel_dim, 1 + maps, width, blocks)
        self.load_weights(weights)
        self.subject = subject  # only now: the weights file is without it

    def _encode(self, patterns: Tensor, shape: Tensor, h: Tensor | None) -> tuple[Tensor, Tensor]:
        common = torch.cat((shape, _given(h)), -1)
        mean, log_std = self.encoder(torch.cat((patterns, common[:, None].expand(-1, 3, -1)), -1)).chunk(2, -1)
        return mean.flatten(1), log_std.flatten(1)

    def _draw(self, z: Tensor, h: Tensor | None) -> Tensor:
        offset, mix = self._style(z)
        return self._paint(offset, mix, _given(h))

    def _style(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """The ground's colour `(B, 3, 1)`, and how much each channel takes of each map `(B, 3, maps)`."""
        style = self.style(z.unflatten(1, (3, -1)))
        return 0.5 + style[..., :1], style[..., 1:]

    def _paint(self, offset: Tensor, mix: Tensor, h: Tensor) -> Tensor:
        maps = self.content(h).unflatten(1, (mix.shape[2], -1))
        maps = (maps - maps.median(2, keepdim=True).values).relu()
        return (offset + mix @ maps).unflatten(2, self.image_shape[1:])

    def _misfit(self, image: Tensor, x: Tensor) -> Tensor:
        return (image - x).abs().flatten(1).sum(1) / self.scale

    def _further_terms(self, z: Tensor, h: Tensor | None) -> dict[str, Tensor]:
        if self.tau is None:
            return {}
        if self.subject is None:
            raise ValueError(f"FiberAutoencoder: tau {self.tau} needs a subject to train with")
        h = _given(h)
        near = h + self.noise * torch.randn_like(h)
        offset, mix = self._style(z.detach().roll(1, 0))
        image = self._paint(offset.detach(), mix, near).clamp(0, 1)
        return {"fiber": gaussian_nll(self.subject(image), near, self.tau)}

    def scores(self, x: Tensor, h: Tensor | None) -> dict[str, Tensor]:
        scores = super().scores(x, h)
        if self.subject is not None and h is not None:
            mean, _ = self._posterior(x, h)
            for name, z in {"fiber_rms": mean, "fiber_rms_swapped": mean.roll(1, 0)}.items():
                scores[name] = distances.rms(h, self.subject(self._draw(z, h).clamp(0, 1)))
        return scores


def _given(h: Tensor | None) -> Tensor:
    if h is None:
        raise ValueError("FiberAutoencoder: needs representations, that is a subject")
    return h.flatten(1)
