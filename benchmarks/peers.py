"""Other libraries' models for `benchmarks/speed.py`, built as in their documentation.

A missing library raises an `ImportError`; `make benchmark` installs all of them.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass
class Flow:
    """A conditional flow of another library."""

    module: nn.Module
    log_prob: Callable[[Tensor, Tensor], Tensor]
    sample: Callable[[Tensor], Tensor]


def subnet(inputs: int, width: int, outputs: int) -> nn.Module:
    """The coupling network of all flows."""
    return nn.Sequential(nn.Linear(inputs, width), nn.SiLU(), nn.Linear(width, outputs))


def freia(dim: int, context: int, width: int, blocks: int) -> Flow:
    """FrEIA's all-in-one blocks: affine coupling, scale and offset, permutation."""
    from FrEIA.framework import SequenceINN
    from FrEIA.modules import AllInOneBlock

    flow = SequenceINN(dim)
    for _ in range(blocks):
        flow.append(AllInOneBlock, cond=0, cond_shape=(context,), subnet_constructor=lambda i, o: subnet(i, width, o))

    def log_prob(z: Tensor, h: Tensor) -> Tensor:
        noise, log_det = flow(z, [h])
        return log_det - 0.5 * (noise.square() + math.log(2 * math.pi)).sum(1)

    return Flow(flow, log_prob, lambda h: flow(torch.randn(len(h), dim), [h], rev=True)[0])


def zuko(dim: int, context: int, width: int, blocks: int) -> Flow:
    """zuko's affine coupling with random masks."""
    import zuko

    flow = zuko.flows.NICE(dim, context, blocks, randmask=True, hidden_features=(width,), activation=nn.SiLU)
    return Flow(flow, lambda z, h: flow(h).log_prob(z), lambda h: flow(h).sample())


def normflows(dim: int, context: int, width: int, blocks: int) -> Flow:
    """normflows' affine coupling, scale and offset, permutation. Its coupling has no context argument, so the caller
    gives the context to the network."""
    import normflows as nf

    class Conditional(nn.Module):
        context: Tensor

        def __init__(self) -> None:
            super().__init__()
            self.net = subnet(dim - dim // 2 + context, width, 2 * (dim // 2))

        def forward(self, seen: Tensor) -> Tensor:
            return self.net(torch.cat((seen, Conditional.context), 1))

    def block() -> list[nn.Module]:
        coupling = nf.flows.AffineCouplingBlock(Conditional())
        return [coupling, nf.flows.AffineConstFlow((dim,)), nf.flows.Permute(dim)]

    base = nf.distributions.DiagGaussian(dim, trainable=False)
    flow = nf.NormalizingFlow(base, [part for _ in range(blocks) for part in block()])

    def log_prob(z: Tensor, h: Tensor) -> Tensor:
        Conditional.context = h
        return flow.log_prob(z)

    def sample(h: Tensor) -> Tensor:
        Conditional.context = h
        return flow.sample(len(h))[0]

    return Flow(flow, log_prob, sample)


FLOWS = {"FrEIA": freia, "zuko": zuko, "normflows": normflows}


def torchcfm(dim: int, context: int, parameters: int) -> tuple[nn.Module, Callable[[Tensor, Tensor], Tensor]]:
    """torchcfm's network, as wide as `parameters` allow, and the loss of its training loop."""
    from torchcfm.conditional_flow_matching import ConditionalFlowMatcher
    from torchcfm.models.models import MLP

    sizes = (sum(p.numel() for p in MLP(dim + context, dim, w, True).parameters()) for w in range(64, 8192))
    width = 64 + next(i for i, size in enumerate(sizes) if size >= parameters)
    network, matcher = MLP(dim + context, dim, width, time_varying=True), ConditionalFlowMatcher(sigma=0.0)

    def loss(z: Tensor, h: Tensor) -> Tensor:
        t, z_t, velocity = matcher.sample_location_and_conditional_flow(torch.randn_like(z), z)
        return (network(torch.cat((z_t, h, t[:, None]), -1)) - velocity).square().mean()

    return network, loss


def two_passes(encode: Callable, decode: Callable, z: Tensor, h: Tensor, beta: float = 100.0) -> Tensor:
    """A free-form flow's loss with reverse mode only: `J_g v` is the derivative of a derivative, and takes a pass
    through the decoder in addition to that of the reconstruction."""
    z = z.detach().requires_grad_()
    code = encode(z, h)
    probe = torch.randn_like(code)
    (row,) = torch.autograd.grad((code * probe).sum(), z, create_graph=True)
    point = code.detach().requires_grad_()
    decoded = decode(point, h)
    weight = torch.zeros_like(decoded, requires_grad=True)
    (product,) = torch.autograd.grad(decoded, point, weight, create_graph=True)
    (column,) = torch.autograd.grad(product, weight, probe)
    nll = 0.5 * code.square().sum(1) - (row * column.detach()).sum(1)
    return (nll + beta * (decode(code, h) - z).square().sum(1)).mean()
