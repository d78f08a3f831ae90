"""A conditional injective flow with free-form networks: a density on a learned manifold in the latent space.

A decoder `g(., h)` maps noise of `d` dimensions to a `d`-dimensional manifold in the `D`-dimensional latent space, and
an encoder `f(., h)` projects onto it. Where `f` inverts `g` along the manifold and is constant across it,
`J_f` is the pseudo-inverse of `J_g`, and with random `v` whose `E[v v^T] = I`,

    -1/2 d log det(J_g^T J_g) = 1/2 d log det(J_f J_f^T) = tr(dJ_f J_g) = E[v^T dJ_f J_g v]:

this is the gradient that `free_form_flow` estimates. It matters at which points it is taken. The likelihood of the
projections `g(f(z))` has no bound, because all data can project to a few places of a manifold that curves strongly. At
the data `z` themselves, by the coarea formula,

    -E[log N(f(z)) + 1/2 log det(J_f J_f^T)] >= H(z | h) - H(z | f(z), h),

and the other term of the loss, `beta ||z - g(f(z))||^2`, keeps the entropy across the manifold small.

Reference: Sorrenson, Draxler, Rousselot, Hummerich, Zimmermann, Köthe, Lifting architectural constraints
of injective flows, arXiv 2306.01843.
"""

import torch
from torch import Tensor

from fibermodels.checks import check_number
from fibermodels.core import LatentSpace
from fibermodels.models.free_form_flow import FreeForm


class FreeFormInjectiveFlow(FreeForm):
    """Two networks `n = F(z, h)` and `z = G(n, h)` with few dimensions between them.

    Samples lie on a manifold. So they have no density over the latent space, and the class has no `log_prob`.

    Args:
        latents: the frozen latent space.
        feature_shape: of one representation.
        bottleneck: dimensions of the noise, from 1 to those of the latent space.
        width: width of each network.
        blocks: residual blocks of each network.
        beta: weight of the reconstruction, positive: `1 / (2 sigma^2)` for data at a distance of `sigma` from a
            manifold.
        probes: vectors per latent that estimate the gradient of the volume change; at most `bottleneck`.
    """

    def __init__(
        self,
        latents: LatentSpace,
        feature_shape: list[int],
        bottleneck: int = 4,
        width: int = 512,
        blocks: int = 2,
        beta: float = 10.0,
        probes: int = 1,
    ) -> None:
        (dim,) = latents.latent_shape
        check_number("FreeFormInjectiveFlow", "bottleneck", bottleneck, least=1, most=dim)
        super().__init__(latents, feature_shape, bottleneck, width, blocks, beta, probes, near_identity=False)

    @staticmethod
    def log_volume(jacobian: Tensor) -> Tensor:
        return 0.5 * torch.linalg.slogdet(jacobian.mT @ jacobian)[1]
