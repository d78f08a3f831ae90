"""Non-linear diffusion trajectory matching: at every step, gradient descent finds a small control of the state.

With `g = strength gamma(t)`, a control `u` shifts the state to `z + g u`, and the step goes on from there. The control
minimises, row by row,

    weight cost(data(z + g u)) + tau |noise(z + g u) - noise(z)|^2 + kappa |g u|^2,

where `cost` is that of the clean estimate. The other two terms bound the divergence of the guided step from the
unguided one: either has the mean `(alpha_s / alpha_t) z + c noise`, and the difference of the two means is linear in
the shift of the state and in the change of the noise.

The control starts at `u = 0` and takes `inner` steps of Adam, whose moments start anew at every time. Each sample's
gradient is scaled down to a norm of at most 1, and the learning rate is `learning_rate t`. So in one step of the
sampler a coordinate of the state moves by at most about `g inner learning_rate t`, and `weight` matters only relative
to `tau` and `kappa`. Twice the steps guide twice as much.

Two conventions differ from the published code. Its price is `kappa gamma^4 |u|^2`, so a `kappa` of 3e-4 there is
7.5e-3 here (at gamma 5). Its learning rate is `learning_rate (1 - i / n)` in step `i` of `n`, counted from the
noisiest, which is the same on a grid that is even in time. `docs/guidance.md` has the bias where the answer is known.

References: Pandey et al., arXiv 2502.03686 (section 4, algorithm 1); the gradient's norm, the learning rate and the
schedule of gamma as in arXiv 2603.21782.
"""

import math

import torch
from torch import Tensor

from fibermodels.checks import check_number, check_numbers
from fibermodels.guidance.objective import Guidance, Objective, gradient

BETAS, EPS = (0.9, 0.999), 1e-8
"""Adam's own."""


class NDTM(Guidance):
    """Optimises a control of the state at every step.

    Args:
        gamma: what the control is multiplied by; a number, or pieces `[t_hi, t_lo, start, end]` that lead without
            a gap from `until` down to 0, each from `start` to `end` along half a cosine.
        until: guidance acts at times `t <= until`; at earlier steps the prior is not guided.
        inner: steps of Adam.
        learning_rate: of Adam, at time 1.
        kappa: weight of the shift of the state.
        tau: weight of the change of the predicted noise.
        weight: of the cost.
        clip: the clean estimate is clipped to [-clip, clip] where it is guided; None leaves it.
    """

    def __init__(
        self,
        gamma: float | list[list[float]] = 5.0,
        until: float = 0.5,
        inner: int = 10,
        learning_rate: float = 0.02,
        kappa: float = 3e-4,
        tau: float = 0.0,
        weight: float = 1.0,
        clip: float | None = None,
    ) -> None:
        super().__init__()
        check_number("NDTM", "until", until, above=0, most=1)
        check_number("NDTM", "inner", inner, least=1)
        check_numbers("NDTM", {"learning_rate": learning_rate, "weight": weight, "clip": clip}, above=0)
        check_numbers("NDTM", {"kappa": kappa, "tau": tau}, least=0)
        self.pieces = gamma if isinstance(gamma, list) else [[until, 0.0, gamma, gamma]]
        _check_pieces(self.pieces, until)
        self.inner, self.learning_rate, self.clip = inner, learning_rate, clip
        self.kappa, self.tau, self.weight = kappa, tau, weight

    def gain(self, t: Tensor) -> Tensor:
        """`gamma(t)`, elementwise; 0 at times above `until`."""
        gain = torch.zeros_like(t)
        for high, low, start, end in reversed(self.pieces):
            ramp = end + 0.5 * (start - end) * (1 + torch.cos(math.pi * (high - t) / (high - low)))
            gain = torch.where((low <= t) & (t <= high), ramp, gain)
        return gain

    def calls(self, t: float) -> int:
        return self.inner + 1 if self.gain(torch.tensor(t)) > 0 else 1

    @torch.no_grad()
    def step(self, objective: Objective, z: Tensor, t: Tensor, s: Tensor, strength: Tensor) -> tuple[Tensor, Tensor]:
        gain = self.gain(t)
        if not gain.any():
            return objective.denoise(z, t)
        g = (strength * gain).to(z.dtype)[:, None]
        guided = z + g * self._control(objective, z, t, g)
        data, noise = objective.denoise(guided, t)
        if self.clip is None:
            return data, noise
        clipped = torch.where(g > 0, data.clamp(-self.clip, self.clip), data)
        alpha, sigma = objective.schedule.shares(t)
        return clipped, noise + alpha / sigma * (data - clipped)  # together they are still the guided state

    def _control(self, objective: Objective, z: Tensor, t: Tensor, g: Tensor) -> Tensor:
        """The control `(B, D)` after the inner steps."""
        u = first = second = torch.zeros_like(z)
        rate = self.learning_rate * t[:, None]
        unguided: Tensor | None = None
        for i in range(1, self.inner + 1):
            with torch.enable_grad():
                guided = (z + g * u).requires_grad_()
                data, noise = objective.denoise(guided, t)
                data = data if self.clip is None else data.clamp(-self.clip, self.clip)
                (downhill,) = gradient(objective(data), data)
            if unguided is None:
                unguided = noise.detach()
            outputs, slopes = [data], [self.weight * downhill]
            if self.tau:
                outputs, slopes = [data, noise], [*slopes, 2 * self.tau * (noise.detach() - unguided)]
            (slope,) = torch.autograd.grad(outputs, guided, slopes)
            slope = g * (slope + 2 * self.kappa * g * u)
            slope = slope * (1 / (slope.norm(dim=1, keepdim=True) + 1e-6)).clamp(max=1)
            first = torch.lerp(slope, first, BETAS[0])
            second = torch.lerp(slope.square(), second, BETAS[1])
            scale = (second / (1 - BETAS[1] ** i)).sqrt() + EPS
            u = u - rate * first / (1 - BETAS[0] ** i) / scale
        return u


def _check_pieces(pieces: list[list[float]], until: float) -> None:
    if not pieces or any(len(piece) != 4 for piece in pieces):
        raise ValueError(f"NDTM: gamma must be a number or pieces [t_hi, t_lo, start, end], got {pieces}")
    if not all(high > low and start >= 0 and end >= 0 for high, low, start, end in pieces):
        raise ValueError(f"NDTM: gamma must not be negative, and its pieces lead down in time, got {pieces}")
    joints = [until, *(low for _, low, _, _ in pieces)]
    if joints[:-1] != [high for high, *_ in pieces] or joints[-1] != 0:
        raise ValueError(f"NDTM: gamma's pieces must lead without a gap from until = {until} down to 0, got {pieces}")
