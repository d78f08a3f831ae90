"""A conditional free-form flow in a latent space: an encoder and a decoder, neither of them invertible by design.

The encoder `f(., h)` maps latents to standard normal noise, the decoder `g(., h)` back. Where they are each
other's inverse, `log p(z | h) = log N(f(z)) + log |det J_f(z)|`, and the gradient of the last term needs
no determinant: with random `v` whose `E[v v^T] = I`,

    d log |det J_f| = tr(dJ_f J_f^{-1}) = tr(dJ_f J_g) = E[v^T dJ_f J_g v].

One pass through the decoder in forward mode gives `J_g v`, one through the encoder in reverse mode
`v^T J_f`; the decoder's side is held constant. What makes the networks inverse is the second term of

    L = -log p(z | h) + beta ||z - g(f(z))||^2,

all of it per dimension of the latent space.

Reference: Draxler, Sorrenson, Zimmermann, Rousselot, Köthe, Free-form flows, arXiv 2310.16624.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor

from fibermodels.core import HasLogProb, LatentSpace, TrainableFiberModel
from fibermodels.nn import ResidualMLP

Map = Callable[[Tensor], Tensor]


def orthogonal_probes(like: Tensor, count: int) -> list[Tensor]:
    """Random vectors `v` `(B, D)`, `count` (at most D) for each row of `like`: mutually orthogonal,
    of length `sqrt(D)`, with `E[v v^T] = I`. For `count = D` the mean of `v v^T` is `I` exactly."""
    units: list[Tensor] = []
    for gaussian in torch.randn(count, *like.shape, device=like.device, dtype=like.dtype):
        for unit in units:  # Gram-Schmidt: a batched QR on a GPU is slower, and no better for a few vectors
            gaussian = gaussian - (gaussian * unit).sum(1, keepdim=True) * unit
        units.append(torch.nn.functional.normalize(gaussian, dim=1))
    return [math.sqrt(like.shape[1]) * unit for unit in units]


def volume_surrogate(encode: Map, decode: Map, z: Tensor, probes: int = 1) -> tuple[Tensor, Tensor]:
    """The noise `f(z)` `(B, d)`, and zeros `(B,)` whose gradient estimates that of the log volume change
    `1/2 log det(J_f J_f^T)` at `z` in the encoder's parameters; for `d = D`, of `log |det J_f|`.

    Unbiased where `J_g(f(z))` is the (pseudo-)inverse of `J_f(z)`; without variance, too, for
    `probes = d`. Rows must not interact. The decoder gets no gradient.
    """
    z = z.detach().requires_grad_()
    noise = encode(z)
    surrogate = torch.zeros_like(noise[:, 0])
    for v in orthogonal_probes(noise, probes):
        with torch.no_grad():
            constant = torch.func.jvp(decode, (noise.detach(),), (v,))[1]
        (product,) = torch.autograd.grad(noise, z, v, create_graph=True)
        surrogate = surrogate + (product * constant).sum(1) / probes
    return noise, surrogate - surrogate.detach()  # its value means nothing


class FreeForm(TrainableFiberModel, ABC):
    """What free-form flows share, with and without a bottleneck: the loss, computed in float32 (or float64)
    whatever the trainer's precision, since it takes derivatives of derivatives.

    The loss's term `nll` has the right gradient in training, but its value leaves out the volume change,
    which nobody computed. Without gradients, as in validation, it is exact: of the density of the
    model's samples at `g(f(z))`, which `reconstruction` keeps near `z`.
    """

    network_calls = 1
    beta: float
    probes: int

    @abstractmethod
    def encode(self, z: Tensor, h: Tensor) -> Tensor:
        """Noise `(B, *noise_shape)` from latents."""

    @abstractmethod
    def transport(self, noise: Tensor, h: Tensor) -> Tensor:
        """As in `TrainableFiberModel`: the decoder. Each row's result must depend on that row alone."""

    @staticmethod
    @abstractmethod
    def log_volume(jacobian: Tensor) -> Tensor:
        """The log of the factor by which decoders with Jacobians `(B, D, d)` expand volume, `(B,)`."""

    def decoder_nll(self, noise: Tensor, h: Tensor) -> Tensor:
        """`-log N(noise) + log volume` `(B,)`: of the density that samples have at `transport(noise, h)`."""

        def single(n: Tensor, c: Tensor) -> Tensor:
            return self.transport(n[None], c[None])[0]

        jacobian = torch.func.vmap(torch.func.jacfwd(single))(noise, h)
        return _energy(noise) + self.log_volume(jacobian)

    def latent_loss(self, z: Tensor, h: Tensor) -> dict[str, Tensor]:
        with torch.autocast(z.device.type, enabled=False):
            z, h = full_precision(z), full_precision(h)
            if torch.is_grad_enabled():
                noise, surrogate = volume_surrogate(
                    lambda z: self.encode(z, h), lambda noise: self.transport(noise, h), z, self.probes
                )
                nll = _energy(noise) - surrogate
            else:
                noise = self.encode(z, h)
                nll = self.decoder_nll(noise, h)
            error = z - self.transport(noise, h)
        return {"nll": nll / z.shape[1], "reconstruction": self.beta * error.square().mean(1)}


class FreeFormFlow(FreeForm, HasLogProb):
    """Two residual networks `n = z + F(z, h)` and `z = n + G(n, h)`, both starting as the identity: as each
    other's exact inverse.

    Args:
        latents: the frozen latent space.
        feature_dim: dimensions of the (flat) representation.
        width: width of each network.
        blocks: residual blocks of each network.
        beta: weight of the reconstruction; too small a value makes the likelihood's gradient wrong and
            training unstable.
        probes: vectors per latent that estimate the volume change's gradient; at most its dimensions.
    """

    def __init__(
        self,
        latents: LatentSpace,
        feature_dim: int = 48,
        width: int = 512,
        blocks: int = 2,
        beta: float = 10.0,
        probes: int = 1,
    ) -> None:
        super().__init__(latents)
        (dim,) = latents.latent_shape
        check_options(self, beta, probes, dim)
        self.beta, self.probes = beta, probes
        self.encoder, self.decoder = (
            ResidualMLP(dim + feature_dim, dim, width, blocks, context=feature_dim, zero_output=True) for _ in range(2)
        )

    def encode(self, z: Tensor, h: Tensor) -> Tensor:
        h = h.flatten(1)
        return z + self.encoder(torch.cat((z, h), -1), h)

    def transport(self, noise: Tensor, h: Tensor) -> Tensor:
        h = h.flatten(1)
        return noise + self.decoder(torch.cat((noise, h), -1), h)

    @staticmethod
    def log_volume(jacobian: Tensor) -> Tensor:
        return torch.linalg.slogdet(jacobian)[1]

    def log_prob(self, z: Tensor, h: Tensor) -> Tensor:
        """`log N(n) - log |det J_g(n)|` at `n = f(z)`.

        Samples are made by the decoder, so this is the log of their density, with the decoder's
        Jacobian, at `g(f(z))`: at `z` itself as far as the encoder inverts the decoder there.
        """
        with torch.autocast(z.device.type, enabled=False):
            z, h = full_precision(z), full_precision(h)
            return -self.decoder_nll(self.encode(z, h), h)


def full_precision(value: Tensor) -> Tensor:
    """In float32, unless it is in float64."""
    return value if value.dtype == torch.float64 else value.float()


def check_options(model: FreeForm, beta: float, probes: int, dim: int) -> None:
    """Refuses a weight that is not positive, or more probes than there are directions.

    Raises:
        ValueError: naming what was given and what was expected.
    """
    name = type(model).__name__
    if not 0 < beta < math.inf:
        raise ValueError(f"{name}: beta must be positive, got {beta}")
    if not 1 <= probes <= dim:
        raise ValueError(f"{name}: probes must be from 1 to the noise's {dim} dimensions, got {probes}")


def _energy(noise: Tensor) -> Tensor:
    return 0.5 * (noise.square() + math.log(2 * math.pi)).sum(1)
