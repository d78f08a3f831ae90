"""FrEIA's invertible blocks as a flow: the only file that imports FrEIA.

Reference: Ardizzone et al., Framework for Easily Invertible Architectures, https://github.com/vislearn/FrEIA.
"""

from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from fibermodels.checks import check_choice, check_number, check_numbers
from fibermodels.nn.invertible import Invertible
from fibermodels.nn.residual_mlp import zeroed
from fibermodels.nn.spline import rational_quadratic


class FreiaFlow(Invertible):
    """A sequence of FrEIA's blocks, each followed by a fixed random permutation.

    Args:
        block: `spline` is a coupling of both halves by rational-quadratic splines (our block for FrEIA, whose
            release 0.2 has none); `all_in_one`, `glow` and `rnvp` are FrEIA's `AllInOneBlock`, `GLOWCouplingBlock`
            and `RNVPCouplingBlock`.
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

        def _coupling1(self, value: Tensor, seen: Tensor, rev: bool = False) -> tuple[Tensor, Tensor]:
            return self._coupling(0, value, seen, rev)

        def _coupling2(self, value: Tensor, seen: Tensor, rev: bool = False) -> tuple[Tensor, Tensor]:
            return self._coupling(1, value, seen, rev)

        def _coupling(self, half: int, value: Tensor, seen: Tensor, rev: bool) -> tuple[Tensor, Tensor]:
            raw = self.subnets[half](seen).unflatten(1, (value.shape[1], self.parameters_per_value))
            value, log_derivative = rational_quadratic(value, raw, self.bound, rev)
            return value, log_derivative.sum(1)

    return RationalQuadraticSpline


BLOCKS = {
    "spline": _spline,
    "all_in_one": lambda: _freia("AllInOneBlock"),
    "glow": lambda: _freia("GLOWCouplingBlock"),
    "rnvp": lambda: _freia("RNVPCouplingBlock"),
}
"""How to get the class of each block, without importing FrEIA before it is needed."""
