"""FrEIA's invertible blocks as a flow, and a block of our own for it: the only file that imports FrEIA.

The block's monotone rational-quadratic spline is an elementwise map with an exact inverse. `K` bins divide
`[-bound, bound]` on both axes. In the bin from `(x_k, y_k)` with width `w`, height `e`, slope `s = e / w` and
derivatives `d_0, d_1` at its ends, with `u = (x - x_k) / w`,

    y = y_k + e (s u^2 + d_0 u (1 - u)) / (s + (d_1 + d_0 - 2 s) u (1 - u)).

Outside the interval the map is the identity.

References: Ardizzone et al., Framework for Easily Invertible Architectures, https://github.com/vislearn/FrEIA; Durkan
et al., Neural spline flows, arXiv 1906.04032.
"""

import math
from functools import partialmethod
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from fibermodels.checks import check_choice, check_number, check_numbers
from fibermodels.nn.invertible import Invertible
from fibermodels.nn.residual_mlp import zeroed


class FreiaFlow(Invertible):
    """A sequence of FrEIA's blocks, each followed by a fixed random permutation.

    Args:
        block: `spline` is a coupling of both halves by rational-quadratic splines (our block); `all_in_one`, `glow`
            and `rnvp` are FrEIA's `AllInOneBlock`, `GLOWCouplingBlock` and `RNVPCouplingBlock`.
        blocks: how many, at least 1.
        width: width of the hidden layers of each coupling network, at least 1.
        layers: hidden layers of each coupling network, at least 1.
        seed: of the permutations.
        options: further arguments of the block, by name, such as `{bins: 8, bound: 5.0}` of `spline` or
            `{affine_clamping: 1.0}` of `all_in_one`.
    """

    def __init__(
        self,
        block: Literal["spline", "all_in_one", "glow", "rnvp"] = "spline",
        blocks: int = 8,
        width: int = 128,
        layers: int = 2,
        seed: int = 0,
        options: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        check_choice("FreiaFlow", "block", block, BLOCKS)
        check_numbers("FreiaFlow", {"blocks": blocks, "width": width, "layers": layers}, least=1)
        self.block, self.count, self.width, self.layers, self.seed = block, blocks, width, layers, seed
        self.options = options or {}

    def create(self, dim: int, context: int) -> None:
        from FrEIA.framework import SequenceINN

        told = {"cond": 0, "cond_shape": (context,)} if context else {}
        state = np.random.get_state()  # FrEIA draws permutations from numpy's global generator
        try:
            np.random.seed(self.seed)
            self.sequence = SequenceINN(dim)
            for number in range(self.count):
                self.sequence.append(BLOCKS[self.block](), subnet_constructor=self._subnet, **told, **self.options)
                self.sequence.append(_freia("PermuteRandom"), seed=self.seed + number)
        except TypeError as error:
            raise ValueError(f"FreiaFlow: options: '{self.block}' does not take {self.options}: {error}") from error
        finally:
            np.random.set_state(state)

    def _subnet(self, inputs: int, outputs: int) -> nn.Module:
        """A coupling network. Its last layer starts at zero, so that the coupling starts as the identity."""
        hidden = [part for _ in range(self.layers - 1) for part in (nn.Linear(self.width, self.width), nn.SiLU())]
        return nn.Sequential(nn.Linear(inputs, self.width), nn.SiLU(), *hidden, zeroed(nn.Linear(self.width, outputs)))

    def run(self, value: Tensor, context: Tensor | None, reverse: bool) -> tuple[Tensor, Tensor]:
        result, log_det = self.sequence(value, None if context is None else [context], rev=reverse)
        return result, torch.as_tensor(log_det, dtype=value.dtype, device=value.device).expand(len(value))


def _freia(name: str) -> Any:
    import FrEIA.modules

    return getattr(FrEIA.modules, name)


def _spline() -> Any:
    from FrEIA.modules.coupling_layers import _BaseCouplingBlock

    class RationalQuadraticSpline(_BaseCouplingBlock):  # type: ignore[misc]
        """A coupling of both halves by splines of at least 2 `bins`, the identity outside `[-bound, bound]`."""

        def __init__(
            self, dims_in: Any, dims_c: Any = (), subnet_constructor: Any = None, bins: int = 8, bound: float = 5.0
        ) -> None:
            super().__init__(dims_in, list(dims_c))
            check_number("FreiaFlow", "options.bins", bins, least=2)
            check_number("FreiaFlow", "options.bound", bound, above=0)
            self.parameters_per_value, self.bound = 3 * bins - 1, bound
            sizes = (self.split_len1, self.split_len2)
            self.subnets = nn.ModuleList(
                subnet_constructor(seen + self.condition_length, changed * self.parameters_per_value)
                for seen, changed in (sizes[::-1], sizes)
            )

        def _coupling(self, half: int, value: Tensor, seen: Tensor, rev: bool = False) -> tuple[Tensor, Tensor]:
            raw = self.subnets[half](seen).unflatten(1, (value.shape[1], self.parameters_per_value))
            value, log_derivative = rational_quadratic(value, raw, self.bound, rev)
            return value, log_derivative.sum(1)

        _coupling1, _coupling2 = partialmethod(_coupling, 0), partialmethod(_coupling, 1)

    return RationalQuadraticSpline


BLOCKS = {
    "spline": _spline,
    "all_in_one": lambda: _freia("AllInOneBlock"),
    "glow": lambda: _freia("GLOWCouplingBlock"),
    "rnvp": lambda: _freia("RNVPCouplingBlock"),
}
"""How to get the class of each block, without importing FrEIA before it is needed."""


SMALLEST = 1e-3
"""Of a derivative, and of a bin as a share of the interval."""


def rational_quadratic(value: Tensor, raw: Tensor, bound: float, reverse: bool = False) -> tuple[Tensor, Tensor]:
    """The map, or in reverse its inverse, of `value` `(B, D)`, and the logarithm of its derivative, each `(B, D)`.

    The unconstrained parameters `raw` `(B, D, 3 K - 1)` are those of widths, heights and inner derivatives. The map is
    the identity where all are 0.
    """
    bins = (raw.shape[-1] + 1) // 3
    sizes = torch.stack((raw[..., :bins], raw[..., bins : 2 * bins])).softmax(-1)
    sizes = 2 * bound * (SMALLEST + (1 - SMALLEST * bins) * sizes)  # of widths and heights: (2, B, D, K)
    knots = sizes.cumsum(-1) - sizes - bound  # where each bin begins
    slopes = SMALLEST + torch.nn.functional.softplus(raw[..., 2 * bins :] + math.log(math.expm1(1 - SMALLEST)))
    slopes = torch.nn.functional.pad(slopes, (1, 1), value=1.0)
    inner = value.clamp(-bound, bound)
    index = (inner[..., None] >= knots[int(reverse), ..., 1:]).sum(-1, keepdim=True)
    (x, y), (width, height) = (part.gather(-1, index.expand(2, *index.shape))[..., 0] for part in (knots, sizes))
    first, second = (slopes.gather(-1, index + k)[..., 0] for k in (0, 1))
    slope = height / width
    bend = second + first - 2 * slope
    if reverse:
        rise = inner - y
        b = height * first - rise * bend
        root = (b.square() + 4 * slope * rise * (height * slope - height * first + rise * bend)).clamp(min=0).sqrt()
        u = 2 * slope * rise / (b + root)
        result = x + u * width
    else:
        u = (inner - x) / width
        result = y + height * (slope * u.square() + first * u * (1 - u)) / (slope + bend * u * (1 - u))
    below = slope + bend * u * (1 - u)
    above = second * u.square() + 2 * slope * u * (1 - u) + first * (1 - u).square()
    log_derivative = 2 * (slope / below).log() + above.log()
    inside = value.abs() < bound
    log_derivative = torch.where(inside, -log_derivative if reverse else log_derivative, 0.0)
    return torch.where(inside, result, value), log_derivative
