"""The subject of the colour-digit suite: it removes the colours and encodes the digit.

`phi(x) = standardise(encode(mean_k decolorise(x)_k))`. All colourings of a digit have the same representation, and
different digits have different ones, so the fiber consists of all colourings of the digit. `DecolorisedAutoencoder` is
trained, and its encoder becomes the frozen subject `DecolorisedEncoder`.

Reference: arXiv 2603.21782, section 4.1 and appendix B.1.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from fibermodels.core import Subject
from fibermodels.nn import ResidualMLP, Standardise
from fibermodels.suites import colour
from fibermodels.trainable import Trainable


def decolorised(images: Tensor) -> Tensor:
    """The grey digit `(B, 1, H, W)`: intensity averaged over the channels."""
    return colour.decolorise(images).mean(-3, keepdim=True)


def _encoder(size: int, dim: int, width: int, blocks: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), ResidualMLP(size * size, dim, width, blocks))


class DecolorisedEncoder(Subject):
    """Representations `(B, dim)` with unit variance per dimension; unrelated digits have an RMS distance of about 1.4.

    Args:
        weights: a safetensors file (`make subject` trains one); None starts at random.
        size: height and width of the images, in pixels.
        dim: dimensions of the representation.
        width: width of the encoder.
        blocks: residual blocks of the encoder.
    """

    def __init__(
        self, weights: str | None = None, size: int = 28, dim: int = 48, width: int = 512, blocks: int = 2
    ) -> None:
        super().__init__()
        self.image_shape = (3, size, size)
        self.feature_shape = (dim,)
        self.encoder = _encoder(size, dim, width, blocks)
        self.standardise = Standardise([dim])
        self.load_weights(weights)
        self.freeze()

    def digit(self, images: Tensor) -> Tensor:
        """What the encoder sees of images `(B, 3, H, W)`: the grey digit `(B, 1, H, W)`."""
        return decolorised(images)

    def forward(self, images: Tensor) -> Tensor:
        return self.standardise(self.encoder(self.digit(images)))


class DecolorisedAutoencoder(Trainable):
    """An autoencoder of decolorised digits.

    Small noise on the code, relative to its spread, keeps the encoder smooth. Without the noise, the code could store
    information in decimal digits that no decoder can read.

    Args:
        size, dim, width, blocks: as in `DecolorisedEncoder`; the decoder mirrors the encoder.
        code_noise: standard deviation of this noise in units of the code's standard deviation.
    """

    def __init__(
        self, size: int = 28, dim: int = 48, width: int = 512, blocks: int = 2, code_noise: float = 0.05
    ) -> None:
        super().__init__()
        self.image_shape = (3, size, size)
        self.code_noise = code_noise
        self.encoder = _encoder(size, dim, width, blocks)
        self.decoder = nn.Sequential(
            ResidualMLP(dim, size * size, width, blocks), nn.Sigmoid(), nn.Unflatten(1, (1, size, size))
        )

    def loss(self, x: Tensor, h: Tensor | None) -> dict[str, Tensor]:
        digits = decolorised(x)
        code = self.encoder(digits)
        noise = self.code_noise * code.detach().std(0, unbiased=False) * torch.randn_like(code)
        reconstruction = self.decoder(code + noise)
        return {"reconstruction": (reconstruction - digits).square().flatten(1).mean(1)}

    def scores(self, x: Tensor, h: Tensor | None) -> dict[str, Tensor]:
        digits = decolorised(x)
        error = self.decoder(self.encoder(digits)) - digits
        return {"reconstruction_rmse": error.square().flatten(1).mean(1).sqrt()}

    @torch.no_grad()
    def product(self, batches: Iterable[dict[str, Tensor]]) -> DecolorisedEncoder:
        """The frozen subject: this encoder, standardised on the images in `batches`."""
        own = {key: value for key, value in self.arguments.items() if key != "code_noise"}
        subject = DecolorisedEncoder(**own)
        subject.encoder.load_state_dict(self.encoder.state_dict())
        subject.standardise.measure(torch.cat([self.encoder(decolorised(batch["x"])) for batch in batches]))
        return subject
