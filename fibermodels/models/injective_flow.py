"""A conditional injective flow with free-form networks: a density on a learned manifold in the latent space.

A decoder `g(., h)` maps noise of `d` dimensions to a `d`-dimensional manifold in the `D` of the latents,
an encoder `f(., h)` projects onto it. Where `f` inverts `g` along the manifold and is constant across it,
`J_f` is the pseudo-inverse of `J_g`, and with random `v` whose `E[v v^T] = I`,

    -1/2 d log det(J_g^T J_g) = 1/2 d log det(J_f J_f^T) = tr(dJ_f J_g) = E[v^T dJ_f J_g v]:

the gradient that `free_form_flow` estimates. Where it is taken matters. The likelihood of the projections
`g(f(z))` has no bound: a manifold that curves strongly can have all data project to a few places. At the
data `z` themselves, by the coarea formula,

    -E[log N(f(z)) + 1/2 log det(J_f J_f^T)] >= H(z | h) - H(z | f(z), h),

and the entropy across the manifold is kept small by `beta ||z - g(f(z))||^2`, the loss's other term.

Reference: Sorrenson, Draxler, Rousselot, Hummerich, Zimmermann, Köthe, Lifting architectural constraints
of injective flows, arXiv 2306.01843.
"""

import torch
from torch import Tensor

from fibermodels.core import LatentSpace
from fibermodels.models.free_form_flow import FreeForm, check_options
from fibermodels.nn import ResidualMLP


class FreeFormInjectiveFlow(FreeForm):
    """Two networks `n = F(z, h)` and `z = G(n, h)` with few dimensions between them.

    Samples lie on a manifold, so there is no density over the whole latent space: no `log_prob`.

    Args:
        latents: the frozen latent space.
        feature_dim: dimensions of the (flat) representation.
        bottleneck: dimensions of the noise, at most those of the latent space: as many, and nothing is left out.
        width: width of each network.
        blocks: residual blocks of each network.
        beta: weight of the reconstruction: `1 / (2 sigma^2)`, for data at a distance of `sigma` from a
            manifold.
        probes: vectors per latent that estimate the volume change's gradient; at most `bottleneck`.
    """

    def __init__(
        self,
        latents: LatentSpace,
        feature_dim: int = 48,
        bottleneck: int = 4,
        width: int = 512,
        blocks: int = 2,
        beta: float = 10.0,
        probes: int = 1,
    ) -> None:
        super().__init__(latents)
        (dim,) = latents.latent_shape
        if not 1 <= bottleneck <= dim:
            raise ValueError(
                f"FreeFormInjectiveFlow: bottleneck must be from 1 to the latent space's {dim} "
                f"dimensions, got {bottleneck}"
            )
        check_options(self, beta, probes, bottleneck)
        self.noise_shape = (bottleneck,)
        self.beta, self.probes = beta, probes
        self.encoder = ResidualMLP(dim + feature_dim, bottleneck, width, blocks, context=feature_dim)
        self.decoder = ResidualMLP(bottleneck + feature_dim, dim, width, blocks, context=feature_dim)

    def encode(self, z: Tensor, h: Tensor) -> Tensor:
        h = h.flatten(1)
        return self.encoder(torch.cat((z, h), -1), h)

    def transport(self, noise: Tensor, h: Tensor) -> Tensor:
        h = h.flatten(1)
        return self.decoder(torch.cat((noise, h), -1), h)

    @staticmethod
    def log_volume(jacobian: Tensor) -> Tensor:
        return 0.5 * torch.linalg.slogdet(jacobian.mT @ jacobian)[1]
