"""A conditional free-form flow in a latent space: an encoder and a decoder without an invertible architecture.

The encoder `f(., h)` maps latents to standard normal noise, and the decoder `g(., h)` maps noise to latents. Where each
inverts the other, `log p(z | h) = log N(f(z)) + log |det J_f(z)|`, whose gradient needs no determinant: with random
`v` whose `E[v v^T] = I`,

    d log |det J_f| = tr(dJ_f J_f^{-1}) = tr(dJ_f J_g) = E[v^T dJ_f J_g v].

One pass through the decoder in forward mode gives `J_g v`, without a gradient, and one through the encoder in reverse
mode gives `v^T J_f`. The second term of the loss makes the networks inverse to each other:

    L = -log p(z | h) + beta ||z - g(f(z))||^2,    divided by the number of dimensions of the latent space.

Reference: Draxler, Sorrenson, Zimmermann, Rousselot, Köthe, Free-form flows, arXiv 2310.16624.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor

from fibermodels.checks import check_number
from fibermodels.core import HasLogProb, LatentSpace
from fibermodels.nn import FlatCondition, ResidualMLP, full_precision
from fibermodels.noise import log_normal
from fibermodels.trainable import TrainableFiberModel

Map = Callable[[Tensor], Tensor]


def orthogonal_probes(like: Tensor, count: int) -> list[Tensor]:
    """`count` (at most D) random vectors `(B, D)` for each row of `like`. They are orthogonal to each other, have
    the length `sqrt(D)`, and `E[v v^T] = I`. For `count = D` the mean of `v v^T` is exactly `I`."""
    units: list[Tensor] = []
    for gaussian in torch.randn(count, *like.shape, device=like.device, dtype=like.dtype):
        for unit in units:  # Gram-Schmidt; for few vectors it is faster than a batched QR
            gaussian = gaussian - (gaussian * unit).sum(1, keepdim=True) * unit
        units.append(torch.nn.functional.normalize(gaussian, dim=1))
    return [math.sqrt(like.shape[1]) * unit for unit in units]


def volume_surrogate(encode: Map, decode: Map, z: Tensor, probes: int = 1) -> tuple[Tensor, Tensor]:
    """The noise `f(z)` `(B, d)`, and zeros `(B,)` whose gradient in the encoder's parameters estimates that of the
    log volume change `1/2 log det(J_f J_f^T)` at `z`; for `d = D` this is `log |det J_f|`.

    The estimate is unbiased where `J_g(f(z))` is the (pseudo-)inverse of `J_f(z)`, and has no variance for
    `probes = d`. The maps must treat rows independently. The decoder gets no gradient.
    """
    z = z.detach().requires_grad_()
    noise = encode(z)
    surrogate = torch.zeros_like(noise[:, 0])
    for v in orthogonal_probes(noise, probes):
        with torch.no_grad():
            constant = torch.func.jvp(decode, (noise.detach(),), (v,))[1]
        (product,) = torch.autograd.grad(noise, z, v, create_graph=True)
        surrogate = surrogate + (product * constant).sum(1) / probes
    return noise, surrogate - surrogate.detach()  # only the gradient has a meaning


class FreeForm(TrainableFiberModel, ABC):
    """What free-form flows with and without a bottleneck share: the loss, in float32 (or float64) whatever the
    trainer's precision, because it contains second derivatives.

    In training, the term `nll` has the right gradient, but its value leaves out the volume change. Without gradients,
    as in validation, the value is exact: that of the density of the model's samples at `g(f(z))`.

    Args:
        latents, feature_shape, width, blocks, beta, probes: as in `FreeFormFlow`.
        noise_dim: dimensions of the noise.
        near_identity: the networks are corrections of the identity and start as zero; `noise_dim` is that of latents.
    """

    network_calls = 1

    def __init__(
        self,
        latents: LatentSpace,
        feature_shape: list[int],
        noise_dim: int,
        width: int,
        blocks: int,
        beta: float,
        probes: int,
        near_identity: bool,
    ) -> None:
        super().__init__(latents, feature_shape)
        check_number(type(self).__name__, "beta", beta, above=0, below=math.inf)
        check_number(type(self).__name__, "probes", probes, least=1, most=noise_dim)
        self.noise_shape = (noise_dim,)
        self.beta, self.probes, self.near_identity = beta, probes, near_identity
        self.condition = FlatCondition(feature_shape)
        (dim,), told = latents.latent_shape, self.condition.dim
        self.encoder, self.decoder = (
            ResidualMLP(inputs + told, outputs, width, blocks, context=told, zero_output=near_identity)
            for inputs, outputs in ((dim, noise_dim), (noise_dim, dim))
        )

    def encode(self, z: Tensor, h: Tensor) -> Tensor:
        """Noise `(B, *noise_shape)` from latents."""
        return self._apply_network(self.encoder, z, h)

    def transport(self, noise: Tensor, h: Tensor) -> Tensor:
        return self._apply_network(self.decoder, noise, h)

    def _apply_network(self, network: ResidualMLP, value: Tensor, h: Tensor) -> Tensor:
        condition = self.condition(h)
        output: Tensor = network(torch.cat((value, condition), -1), condition)
        return value + output if self.near_identity else output

    @staticmethod
    @abstractmethod
    def log_volume(jacobian: Tensor) -> Tensor:
        """The logarithm `(B,)` of the factor by which decoders with Jacobians `(B, D, d)` expand volume."""

    def decoder_nll(self, noise: Tensor, h: Tensor) -> Tensor:
        """`-log N(noise) + log volume` `(B,)`: minus the log-density that samples have at `transport(noise, h)`."""
        single = torch.func.jacfwd(lambda n, c: self.transport(n[None], c[None])[0])
        jacobian = torch.func.vmap(single)(noise, h)
        return self.log_volume(jacobian) - log_normal(noise)

    def latent_loss(self, z: Tensor, h: Tensor) -> dict[str, Tensor]:
        with torch.autocast(z.device.type, enabled=False):
            z, h = full_precision(z), full_precision(h)
            if torch.is_grad_enabled():
                encode, decode = (lambda z: self.encode(z, h)), (lambda noise: self.transport(noise, h))
                noise, surrogate = volume_surrogate(encode, decode, z, self.probes)
                nll = -log_normal(noise) - surrogate
            else:
                noise = self.encode(z, h)
                nll = self.decoder_nll(noise, h)
            error = z - self.transport(noise, h)
        return {"nll": nll / z.shape[1], "reconstruction": self.beta * error.square().mean(1)}


class FreeFormFlow(FreeForm, HasLogProb):
    """Two residual networks `n = z + F(z, h)` and `z = n + G(n, h)`. Both start as the identity, and so as exact
    inverses.

    Args:
        latents: the frozen latent space.
        feature_shape: of one representation.
        width: width of each network.
        blocks: residual blocks of each network.
        beta: weight of the reconstruction, positive. A small value makes the gradient of the likelihood wrong and
            training unstable.
        probes: vectors per latent that estimate the gradient of the volume change; at most its dimensions.
    """

    def __init__(
        self,
        latents: LatentSpace,
        feature_shape: list[int],
        width: int = 512,
        blocks: int = 2,
        beta: float = 10.0,
        probes: int = 1,
    ) -> None:
        (dim,) = latents.latent_shape
        super().__init__(latents, feature_shape, dim, width, blocks, beta, probes, near_identity=True)

    @staticmethod
    def log_volume(jacobian: Tensor) -> Tensor:
        return torch.linalg.slogdet(jacobian)[1]

    def log_prob(self, z: Tensor, h: Tensor) -> Tensor:
        """`log N(n) - log |det J_g(n)|` at `n = f(z)`.

        It is the log-density of the samples at `g(f(z))`, which is `z` itself as far as the encoder inverts the
        decoder there.
        """
        with torch.autocast(z.device.type, enabled=False):
            z, h = full_precision(z), full_precision(h)
            return -self.decoder_nll(self.encode(z, h), h)
