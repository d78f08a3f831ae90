"""Diffusion posterior sampling: every step moves down the gradient of the clean estimate's cost.

    z_s = (the prior's step) - scale grad_{z_t} cost(data(z_t)),

with the gradient through the denoiser. As DDIM and ancestral sampling put `alpha_s data` into `z_s`, that is a
shift of the clean estimate by `-scale grad / alpha_s`, the noise left as it is. Under Heun's method the state moves by
the same, up to the turn of the step, and the slopes of both halves see the shift.

The published cost is the norm `|h - phi(x)|`, not squared, with a constant scale `zeta` of 0.3 to 1. The cost decides
that here: `FiberDistance` divides the norm by `sqrt(F)`, for `F` features, so its `scale` is `zeta sqrt(F)`. The
published code takes one norm for the whole batch, which couples the samples; here each has its own. The shift does
not know the length of the step: twice the steps guide twice as much.

With the negative of a score as cost this is EnergyDPS, whose target is the prior tilted by the score's exponential.

Measured on a Gaussian prior and a linear subject of one feature, for a target 1.6 standard deviations off
(`tests/test_guidance.py`; ancestral, 50 steps): the norm's gradient does not shrink, so the samples jump to and fro
across the fiber, at a mean distance of `scale / 2`; with the squared distance they reach it (5e-4 at scale 0.3).
Along the fiber the mean is off by -0.46, 0.09 and 0.33 of the law's standard deviations at scales 0.1, 0.3 and 1, and
the spread by 8%, -6% and -8%; with 200 steps, at scale 0.3, the mean by 0.34: no one scale is right.

References: Chung et al., arXiv 2209.14687 (algorithm 1); "A Distributional View for Visual Mechanistic
Interpretability: KL-Minimal Soft-Constraint Principle" (EnergyDPS).
"""

import torch
from torch import Tensor

from fibermodels.guidance.guidance import Guidance
from fibermodels.guidance.objective import Objective, gradient


class DPS(Guidance):
    """One gradient of the cost at every step.

    Args:
        scale: how far a step goes down the gradient.

    Raises:
        ValueError: a scale that is not positive.
    """

    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()
        if not scale > 0:
            raise ValueError(f"DPS: scale must be positive, got {scale}")
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
