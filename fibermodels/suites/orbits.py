"""Digits on a torus under shifts and point reflection: the subject sees the power spectrum, and fibers are orbits.

An image is `g . b`: the digit `b`, perhaps reflected at the origin (`p -> -p`), then moved by one of the 32 x 32 shifts
with wrapping. The power spectrum `|F|^2` is the same for all 2,048 images of an orbit. The content is the canonical
image of an orbit: the phases of its lowest frequencies are nearest to 0 (a circular centroid at the origin), and the
sign of a bispectrum decides between an image and its reflection.

The law on the orbit is a mixture of three modes with rounded normal shifts of deviation `1.5 + bright` pixels. Their
weights are the softmax of `(1.5 a, 2 bright - 1, 0)` with the digit's ink `a` (`digit_traits.py`) and its brightness in
[.5, 1]. The modes are at `(8, 8 + 4 a)`, `(24, 8)` and, reflected, `(16, 24 - 4 a)`.
"""

import torch
from torch import Tensor

from fibermodels.core import Subject
from fibermodels.data.digits import Split
from fibermodels.noise import seeded
from fibermodels.suites.digit_suite import DigitSuite
from fibermodels.suites.digit_traits import traits

SIZE = 32


def act(images: Tensor, elements: Tensor) -> Tensor:
    """`g . b` for images `(B, 1, 32, 32)` and elements `(..., B, 3)`: the shifts down and right, and 1 for a reflection
    before them."""
    line = torch.arange(SIZE, device=images.device)
    down, right, mirror = elements.round().long().unbind(-1)
    sign = (1 - 2 * mirror)[..., None]
    y, x = ((sign * (line - shift[..., None])) % SIZE for shift in (down, right))
    place = (y[..., :, None] * SIZE + x[..., None, :]).flatten(-2)
    flat = images.flatten(1).expand(*place.shape[:-1], -1)
    return flat.gather(-1, place).unflatten(-1, (1, SIZE, SIZE))


def canonical(images: Tensor) -> Tensor:
    """The canonical images of the orbits of images `(B, 1, 32, 32)`."""
    spectrum = torch.fft.fft2(images.double()[:, 0])
    one, two = spectrum[:, [1, 0], [0, 1]], spectrum[:, [2, 0], [0, 2]]
    mirrored = (one.square() * two.conj()).imag.sum(-1) < 0  # the bispectrum of a reflection is the conjugate
    angle = torch.where(mirrored[:, None], -one.angle(), one.angle())
    shift = (angle * SIZE / (2 * torch.pi)).round()  # a shift by s turns the phase by -2 pi s / 32
    return act(images, torch.cat((shift, mirrored[:, None]), -1))


class Orbits(DigitSuite):
    """Train, validation and test images of digits at any place of a torus, 32 x 32, grey.

    Args:
        base, root, batch_size, seed: as in `DigitSuite`.
    """

    kind, noise_dim = "orbits", 3

    def contents(self, split: Split) -> Tensor:
        digits = super().contents(split)
        margin = SIZE - digits.shape[-1]
        digits = torch.nn.functional.pad(digits, (margin // 2, margin - margin // 2) * 2)
        bright = 0.5 + 0.5 * torch.rand(len(digits), 1, 1, 1, generator=seeded("brightness", self.base, split))
        return torch.cat([canonical(part) for part in (bright * digits).split(4096)])

    def content(self, images: Tensor) -> Tensor:
        return canonical(images)

    def draw(self, noise: Tensor, content: Tensor) -> Tensor:
        """Elements `(..., B, 3)` of the group: two shifts in 0..31, and 0 or 1."""
        bright = content.flatten(1).amax(1).clamp_min(1e-6)
        ink = traits(content / bright[:, None, None, None])[0]
        weights = torch.stack((1.5 * ink, 2 * bright - 1, torch.zeros_like(ink)), -1).softmax(-1)
        mode = (torch.special.ndtr(noise[..., :1]) > weights.cumsum(-1)[..., :2]).sum(-1)
        centres = torch.zeros(len(content), 3, 2).to(noise)
        centres[:] = torch.tensor([[8.0, 8.0], [24.0, 8.0], [16.0, 24.0]])
        centres[:, 0, 1] += 4 * ink
        centres[:, 2, 1] -= 4 * ink
        own = centres.expand(*mode.shape, 3, 2).gather(-2, mode[..., None, None].expand(*mode.shape, 1, 2)).squeeze(-2)
        shift = (own + (1.5 + bright[:, None]) * noise[..., 1:]).round() % SIZE
        return torch.cat((shift, (mode == 2)[..., None].to(noise)), -1)

    def render(self, content: Tensor, factors: Tensor) -> Tensor:
        return act(content, factors)

    def factors(self, images: Tensor, x: Tensor) -> Tensor:
        """The element whose image of the target's content correlates most with each image."""
        content = canonical(x)
        seen = torch.fft.fft2(images[..., 0, :, :])
        both = [torch.fft.fft2(act(content, torch.tensor([0.0, 0.0, m]).to(x).expand(len(x), 3))[:, 0]) for m in (0, 1)]
        match = torch.stack([torch.fft.ifft2(seen * own.conj()).real.flatten(-2) for own in both], -2).flatten(-2)
        best = match.argmax(-1)
        place = best % SIZE**2
        return torch.stack((place // SIZE, place % SIZE, best // SIZE**2), -1).to(images)

    def embed(self, factors: Tensor) -> Tensor:
        """Shifts as points on circles, and the reflection as 0 or 1: `(..., 5)`."""
        angle = 2 * torch.pi * factors[..., :2] / SIZE
        return torch.cat((angle.cos(), angle.sin(), factors[..., 2:]), -1)

    def modes(self, factors: Tensor, content: Tensor) -> Tensor:
        """Reflected, or shifted by less or by more than half the torus downwards."""
        mirrored = factors[..., 2] > 0.5
        low = (factors[..., 0] - 24).abs() < 8
        return torch.stack((~mirrored & ~low, ~mirrored & low, mirrored), -1)


class PowerSpectrum(Subject):
    """The logarithm `log(1 + |F|^2)` of the power spectrum of grey images 32 x 32: representations `(B, 544)`.

    Shifts with wrapping and point reflection do not change it. Of the 32 x 32 frequencies, 32 x 17 are enough, because
    the image is real.
    """

    def __init__(self) -> None:
        super().__init__()
        self.image_shape, self.feature_shape = (1, SIZE, SIZE), (SIZE * (SIZE // 2 + 1),)
        self.freeze()

    def forward(self, images: Tensor) -> Tensor:
        spectrum = torch.fft.rfft2(images[:, 0])
        return torch.log1p(spectrum.real.square() + spectrum.imag.square()).flatten(1)
