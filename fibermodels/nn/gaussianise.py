"""Each dimension made standard normal by its quantiles, which are measured once."""

import torch
from torch import Tensor, nn


class Gaussianise(nn.Module):
    """`Phi^-1(F_d(code_d))` for each dimension `d`, `F_d` the distribution function that was measured.

    It is monotone, piecewise linear between `KNOTS` quantiles, linear beyond them, the identity until it is measured.
    Unlike a flow it is exact for laws with gaps and spikes; it leaves the dependence between dimensions as it is.

    Reference: the first step of Gaussianization, Chen & Gopinath, NeurIPS 2000.
    """

    KNOTS, REACH = 1401, 3.5

    knots: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.register_buffer("knots", self._grid().repeat(dim, 1))

    def forward(self, code: Tensor) -> Tensor:
        """Standard normal values from codes, `(B, dim)` both."""
        code = self._exact(code)
        upper = torch.searchsorted(self.knots, code.detach().T.contiguous(), right=True).T
        return self._interpolate(code, upper, self.knots, self._grid().to(code).expand_as(self.knots))

    def inverse(self, value: Tensor) -> Tensor:
        """Undoes `forward`."""
        value = self._exact(value)
        step = 2 * self.REACH / (self.KNOTS - 1)
        upper = ((value.detach() + self.REACH) / step).floor().long() + 1
        return self._interpolate(value, upper, self._grid().to(value).expand_as(self.knots), self.knots)

    def measure(self, codes: Tensor) -> None:
        """Takes the quantiles of `codes` `(N, dim)`."""
        levels = torch.special.ndtr(self._grid().double())
        ranks = (levels * len(codes) - 0.5).clamp(0, len(codes) - 1)
        ordered = codes.double().sort(0).values
        below, above = ordered[ranks.floor().long()], ordered[ranks.ceil().long()]
        self.knots.copy_(torch.lerp(below, above, ranks.frac()[:, None]).T)

    def _exact(self, value: Tensor) -> Tensor:
        """In the knots' precision at least: in bfloat16 the next knots are out of sight."""
        return value.to(torch.promote_types(value.dtype, self.knots.dtype))

    def _grid(self) -> Tensor:
        return torch.linspace(-self.REACH, self.REACH, self.KNOTS)

    def _interpolate(self, at: Tensor, upper: Tensor, x: Tensor, y: Tensor) -> Tensor:
        """The line through the knots below and at `upper`; outside, one of the mean slope."""
        index = upper.clamp(1, self.KNOTS - 1).T
        x0, x1, y0, y1 = (ends.gather(1, i) for ends in (x, y) for i in (index - 1, index))
        slope = (y1 - y0) / (x1 - x0).clamp(min=torch.finfo(x.dtype).tiny)
        inside = y0.T + (at - x0.T) * slope.T
        mean_slope = (y[:, -1] - y[:, 0]) / (x[:, -1] - x[:, 0])
        below, above = y[:, 0] + (at - x[:, 0]) * mean_slope, y[:, -1] + (at - x[:, -1]) * mean_slope
        return torch.where(at < x[:, 0], below, torch.where(at > x[:, -1], above, inside))
