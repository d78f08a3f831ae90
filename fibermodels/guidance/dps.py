"""Diffusion posterior sampling: every step moves down the gradient of the clean estimate's cost.

    z_s = (the prior's step) - scale grad_{z_t} cost(data(z_t)),

with the gradient through the denoiser. DDIM and ancestral sampling put `alpha_s data` into `z_s`, so that is a shift of
the clean estimate by `-scale grad / alpha_s` with the noise unchanged. With Heun's method the state moves by the same
amount up to the turn of the step, and the slopes of both halves see the shift. Twice the steps guide twice as much.

The published cost is the norm `|h - phi(x)|`, one for the whole batch, with a constant scale `zeta` of 0.3 to 1. Here
each sample has its own, and `FiberDistance` divides it by `sqrt(F)` for `F` features, so its `scale` is
`zeta sqrt(F)`. `docs/guidance.md` has the bias where the answer is known in closed form.

With the negative of a score as cost this is EnergyDPS, whose target is the prior tilted by the score's exponential.

References: Chung et al., arXiv 2209.14687 (algorithm 1); "A Distributional View for Visual Mechanistic
Interpretability: KL-Minimal Soft-Constraint Principle" (EnergyDPS).
"""

import torch
from torch import Tensor

from fibermodels.checks import check_number
from fibermodels.guidance.objective import Guidance, Objective, gradient


class DPS(Guidance):
    """One gradient of the cost at every step.

    Args:
        scale: how far a step goes down the gradient.
    """

    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()
        check_number("DPS", "scale", scale, above=0)
        self.scale = scale

    def calls(self, t: float) -> int:
        return 1

    @torch.no_grad()
    def step(self, objective: Objective, z: Tensor, t: Tensor, s: Tensor, strength: Tensor) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            z = z.detach().requires_grad_()
            data, noise = objective.denoise(z, t)
            (slope,) = gradient(objective(data), z)
        reach = (self.scale * strength / objective.schedule.alpha(s)).to(z.dtype)[:, None]
        return data.detach() - reach * slope, noise.detach()
