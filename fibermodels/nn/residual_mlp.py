"""A residual multilayer perceptron, optionally modulated by a context vector."""

from typing import TypeVar

from torch import Tensor, nn

from fibermodels.checks import check_number, check_numbers

Layer = TypeVar("Layer", bound=nn.Module)


def zeroed(layer: Layer) -> Layer:
    """The layer itself, with all of its parameters at zero."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


class ResidualBlock(nn.Module):
    """`x + W2 silu(W1 norm(x) + V context)`; the last layer starts at zero, the block as identity."""

    def __init__(self, width: int, hidden: int, context: int = 0) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.inner = nn.Linear(width, hidden)
        self.context = nn.Linear(context, hidden, bias=False) if context else None
        self.outer = zeroed(nn.Linear(hidden, width))

    def forward(self, x: Tensor, context: Tensor | None) -> Tensor:
        inner = self.inner(self.norm(x))
        if self.context is not None:
            inner = inner + self.context(context)
        return x + self.outer(nn.functional.silu(inner))


class ResidualMLP(nn.Module):
    """Vectors `(B, inputs)` to vectors `(B, outputs)`.

    Args:
        inputs: dimensions in, at least 1.
        outputs: dimensions out, at least 1.
        width: dimensions of the residual stream, at least 1.
        blocks: residual blocks, at least 0.
        hidden: width inside a block; None takes `width`.
        context: dimensions of a vector that every block sees; 0 for none.
        zero_output: start as the zero function.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        width: int = 512,
        blocks: int = 3,
        hidden: int | None = None,
        context: int = 0,
        zero_output: bool = False,
    ) -> None:
        super().__init__()
        check_numbers("ResidualMLP", {"inputs": inputs, "outputs": outputs, "width": width}, least=1)
        check_number("ResidualMLP", "blocks", blocks, least=0)
        self.enter = nn.Linear(inputs, width)
        self.blocks = nn.ModuleList(ResidualBlock(width, hidden or width, context) for _ in range(blocks))
        self.norm = nn.LayerNorm(width)
        self.leave = nn.Linear(width, outputs)
        if zero_output:
            zeroed(self.leave)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        x = self.enter(x)
        for block in self.blocks:
            x = block(x, context)
        return self.leave(self.norm(x))


def count_parameters(*modules: nn.Module) -> int:
    """Number of parameters, each counted once."""
    return sum(p.numel() for p in {id(p): p for m in modules for p in m.parameters()}.values())
