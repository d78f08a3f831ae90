"""A latent space with the law of colour digits built in: it shows what such knowledge is worth, and fits no other law.

Here `h` determines a few grey maps. A channel `k` of the image is a mixture of them, whose weights depend on the
channel's own part `z_k` of the latent, through one network for all channels:

    D(z, h)_k = offset(z_k) + sum_r mix_r(z_k) map_r(h),    map_r >= 0, and 0 on at least half the pixels.

So the offset is exactly the colour of the background, and one `z` means the same colours on every fiber. The decoder
is trained to be a right inverse of the subject for every `z`:

    loss = KL(q(z|x,h) || N(0, I)) - log Laplace(x; D(z,h), scale) - log N(h'; phi(D(z',h')), tau^2 I),

where `z'` belongs to another image, and `h' = h + noise * e` to no image. The last term gives no gradient to the
offset: small shifts of the background mislead a subject that estimates its colour. The likelihood is Laplace's: no `h`
determines the edges of shapes exactly: a Gaussian likelihood would average the errors at the edges into the colour of
the background, and Laplace's takes the median, which is that colour.

Reference: our own. The decoder is bilinear in style and content as in Tenenbaum & Freeman (Neural Computation 12,
2000); the last term is the fiber loss of arXiv 2603.21782 in the training of the latent space.
"""

import torch
from torch import Tensor

from fibermodels.checks import check_number, check_numbers
from fibermodels.core import Subject
from fibermodels.latents.dictionary import Dictionary
from fibermodels.latents.variational import gaussian_nll
from fibermodels.nn import FlatCondition, ResidualMLP


class ColourAutoencoder(Dictionary):
    """A latent space for colour digits: one latent for each channel's colours, and grey maps that `h` determines.

    Args:
        image_shape: `(C, H, W)`.
        feature_shape: the shape of one representation.
        channel_dim: latent dimensions of each channel, at least 1.
        width: width of the encoder and of the style network.
        blocks: residual blocks of the encoder and of the style network.
        patterns: size of the encoder's dictionary, at least 1.
        maps: grey maps that `h` determines.
        map_width: width of the network that computes these maps.
        map_blocks: residual blocks of this network.
        scale: mean absolute deviation of a pixel from its reconstruction in the likelihood, positive. The colour of
            `n` pixels is then known up to `scale / n`, and this sets the precision of the latents.
        tau: standard deviation of a dimension of the representation about the target, positive; None omits the last
            term of the loss.
        noise: standard deviation of the noise on the representations in this term, at least 0.
        subject: the subject of the last term; it is not part of the weights.
        weights: a safetensors file of a trained space; None starts at random.

    Raises:
        ValueError: a number out of its range.
    """

    def __init__(
        self,
        image_shape: list[int],
        feature_shape: list[int],
        channel_dim: int = 1,
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
        weights: str | None = None,
    ) -> None:
        super().__init__(image_shape, image_shape[0] * channel_dim, patterns)
        check_numbers("ColourAutoencoder", {"scale": scale, "tau": tau}, above=0)
        check_number("ColourAutoencoder", "noise", noise, least=0)
        self.scale, self.tau, self.noise = scale, tau, noise
        self.condition = FlatCondition(feature_shape)
        self.encoder = ResidualMLP(2 * patterns + self.condition.dim, 2 * channel_dim, width, blocks)
        self.content = ResidualMLP(self.condition.dim, maps * self.pixels, map_width, map_blocks)
        self.style = ResidualMLP(channel_dim, 1 + maps, width, blocks)
        self.load_weights(weights)
        self.subject = subject  # after the weights, which do not contain it

    def _encode(self, patterns: Tensor, shape: Tensor, h: Tensor | None) -> tuple[Tensor, Tensor]:
        common = torch.cat((shape, self._told(h)), -1)[:, None].expand(-1, patterns.shape[1], -1)
        mean, log_std = self.encoder(torch.cat((patterns, common), -1)).chunk(2, -1)
        return mean.flatten(1), log_std.flatten(1)

    def _draw(self, z: Tensor, h: Tensor | None) -> Tensor:
        return self._paint(*self._style(z), h)

    def _told(self, h: Tensor | None) -> Tensor:
        if h is None:
            raise ValueError("ColourAutoencoder: h: expected representations, got None; give a subject")
        told: Tensor = self.condition(h)
        return told

    def _style(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """The colour of the background `(B, C, 1)`, and the weight of each map in each channel `(B, C, maps)`."""
        style = self.style(z.unflatten(1, (self.image_shape[0], -1)))
        return 0.5 + style[..., :1], style[..., 1:]

    def _paint(self, offset: Tensor, mix: Tensor, h: Tensor | None) -> Tensor:
        maps = self.content(self._told(h)).unflatten(1, (mix.shape[2], -1))
        maps = (maps - maps.median(2, keepdim=True).values).relu()
        return (offset + mix @ maps).unflatten(2, self.image_shape[1:])

    def _fit(self, x: Tensor, z: Tensor, h: Tensor | None) -> dict[str, Tensor]:
        terms = {"reconstruction": (self._draw(z, h) - x).abs().flatten(1).sum(1) / self.scale}
        if self.tau is None or h is None:
            return terms
        if self.subject is None:
            raise ValueError(f"ColourAutoencoder: subject: expected one to train with tau {self.tau}, got None")
        near = h + self.noise * torch.randn_like(h)
        offset, mix = self._style(z.detach().roll(1, 0))
        other = self._paint(offset.detach(), mix, near).clamp(0, 1)
        return terms | {"fiber": gaussian_nll(self.subject(other), near, self.tau)}
