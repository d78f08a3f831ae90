"""Posterior sampling with the clean latent's covariance: no scale to choose, exact for a Gaussian prior.

The target is an observation, `h = phi(decode(z_0)) + N(0, noise^2 I)`. Given `z_t`, the clean latent has the mean
`data` and, by the second-order formula of Tweedie, the covariance

    C = (sigma^2 / alpha) D,    D = d data / d z_t.

If it were Gaussian with these moments, and the subject linear around the mean with Jacobian `J`, the mean given the
observation would be

    data' = data + C J^T (J C J^T + noise^2 I)^{-1} (h - phi(decode(data))),

and `noise' = (z_t - alpha data') / sigma`. This holds for a Gaussian prior and a linear subject, whose samples follow
the posterior; elsewhere it is an approximation. The cost is not used.

Both `C J^T` and `J C J^T` come from the rows `J D`, the gradients of the representation's features in `z_t`: one
backward pass for each feature and step. `D` is symmetric up to a network's error, which is multiplied by
`sigma^2 / alpha`. The matrix to be inverted is made symmetric, and its negative eigenvalues are set to 0. Where a
schedule ends at zero signal, `C` there is 0 / 0.

References: Boys et al., arXiv 2310.06721; Rozet et al., arXiv 2405.13712 (section 4.2); with a covariance that is a
multiple of the identity it is the pseudoinverse guidance of Song et al. (ICLR 2023).
"""

import torch
from torch import Tensor

from fibermodels.checks import check_number
from fibermodels.diffusion import Prior
from fibermodels.guidance.objective import Guidance, Objective, gradient


class MomentMatching(Guidance):
    """Conditions the clean estimate on the representation, as if both were Gaussian.

    Args:
        noise: standard deviation of the target around the representation, in each feature; how near the fiber the
            samples come.
        until: guidance acts at times `t <= until`; at earlier steps the prior is not guided. There a learned
            denoiser's error in `D` is multiplied by a large `sigma^2 / alpha`, and its covariance does harm.

    Raises:
        ValueError: a number out of its range; in `check`, a prior whose schedule reaches zero signal.
    """

    def __init__(self, noise: float = 0.05, until: float = 1.0) -> None:
        super().__init__()
        check_number("MomentMatching", "noise", noise, above=0)
        check_number("MomentMatching", "until", until, above=0, most=1)
        self.noise, self.until = noise, until

    def check(self, prior: Prior) -> None:
        signal = float(prior.schedule.alpha(torch.tensor(self.until, dtype=torch.double)))
        if signal < 1e-6:
            raise ValueError(
                f"MomentMatching: the schedule {type(prior.schedule).__name__} reaches zero signal at {self.until}, "
                "where the clean latent's covariance is 0 / 0: expected a smaller `until`, or a prior with a schedule "
                "that keeps some signal, such as 'linear'"
            )

    def calls(self, t: float) -> int:
        return 1

    @torch.no_grad()
    def step(self, objective: Objective, z: Tensor, t: Tensor, s: Tensor, strength: Tensor) -> tuple[Tensor, Tensor]:
        if (t > self.until).all():
            return objective.denoise(z, t)
        strength = torch.where(t > self.until, 0, strength)
        with torch.enable_grad():
            z = z.detach().requires_grad_()
            data, noise = objective.denoise(z, t)
            features = objective.representations(data).flatten(1)
            rows = [gradient(feature, data, z, retain_graph=True) for feature in features.unbind(1)]
        jacobian, through = (torch.stack(part, 1) for part in zip(*rows, strict=True))  # J and J D, each (B, F, D)
        alpha, sigma = objective.schedule.shares(t)
        through = through * (sigma.square() / alpha)[..., None]
        covariance = through @ jacobian.mT
        values, vectors = torch.linalg.eigh((covariance + covariance.mT) / 2)
        residual = (objective.h.flatten(1) - features).unsqueeze(2)
        solved = vectors @ (vectors.mT @ residual / (values.clamp(min=0) + self.noise**2).unsqueeze(2))
        move = strength.to(z.dtype)[:, None] * (through.mT @ solved).squeeze(2)
        return data.detach() + move, noise.detach() - alpha / sigma * move
