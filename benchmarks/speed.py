"""Speed comparisons in one run: two implementations alternate, and the result is the ratio of their times.

    python benchmarks/speed.py [--batches [512,256]] [--repetitions 15] [--threads 1]

Sizes are those of the colour-MNIST configurations, and other libraries' models have as many parameters as ours. Weights
are random, because speed does not depend on them. Other libraries use Adam, as in their documentation.
"""

import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import peers
import torch
from jsonargparse import auto_cli
from runner import show
from torch import Tensor, nn

from fibermodels.diffusion import Midpoint
from fibermodels.latents import VAE
from fibermodels.models import FiberLoss, FlowMap, FlowMatching, FreeFormFlow, NormalizingFlow
from fibermodels.nn import MLP, AffineCouplings, Invertible, count_parameters
from fibermodels.noise import seeded
from fibermodels.suites import DecolorisedEncoder, colour

DIM, CONTEXT, WIDTH, BLOCKS = 8, 48, 512, 16
Call = Callable[[], object]


@dataclass
class Pair:
    """Two implementations of the same work; `other` takes `median(other / ours)` times as long."""

    name: str
    ours: Call
    other: Call | str
    """The reason why `other` is missing."""
    parameters: tuple[int, ...] = ()


class Inputs:
    """A batch of images, representations and latents."""

    def __init__(self, batch: int, dim: int = DIM) -> None:
        self.subject, self.latents = DecolorisedEncoder(), VAE([3, 28, 28], dim)
        digits = torch.rand(batch, 1, 28, 28, generator=seeded(0))
        digits[..., 0] = 0
        self.x = colour.colourise(digits, colour.sample_backgrounds(batch, seeded(1)))
        with torch.no_grad():
            self.h = self.subject(self.x)
        self.z = torch.randn(batch, dim, generator=seeded(2))


def trained(module: nn.Module) -> list[nn.Parameter]:
    """The parameters that are not frozen."""
    return [p for p in module.parameters() if p.requires_grad]


def step(optimizer: torch.optim.Optimizer, loss: Callable[[], Tensor]) -> Call:
    """One training step on `loss`."""

    def run() -> None:
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()

    return run


def our_step(module: nn.Module, loss: Callable[[], Tensor]) -> Call:
    """The optimizer of `fibermodels.training`: fused AdamW."""
    return step(torch.optim.AdamW(trained(module), lr=1e-6, fused=True), loss)


def plain_step(module: nn.Module, loss: Callable[[], Tensor]) -> Call:
    """Adam with PyTorch's defaults."""
    return step(torch.optim.Adam(trained(module), lr=1e-6), loss)


def coupling_flows(inputs: Inputs) -> Iterator[Pair]:
    """Our coupling flow compared with others of the same size: a training step, and sampling."""
    z, h = inputs.z, inputs.h
    model = NormalizingFlow(inputs.latents, [CONTEXT], AffineCouplings(WIDTH, BLOCKS))

    def draw(flow: Invertible = model.flow) -> Tensor:
        return flow.inverse(torch.randn_like(z), h)[0]

    ours = our_step(model, lambda: model.latent_loss(z, h)["nll"].mean())
    for name, build in peers.FLOWS.items():
        training, sampling = f"coupling flow, training step: {name}", f"coupling flow, sampling: {name}"
        try:
            peer = build(DIM, CONTEXT, WIDTH, BLOCKS)
        except ImportError as missing:
            yield Pair(training, ours, f"not installed: {missing.name} (make benchmark installs it)")
            continue
        sizes = (count_parameters(model.flow), count_parameters(peer.module))
        yield Pair(training, ours, plain_step(peer.module, lambda peer=peer: -peer.log_prob(z, h).mean()), sizes)
        yield Pair(sampling, torch.no_grad()(draw), torch.no_grad()(lambda peer=peer: peer.sample(h)), sizes)


def flow_matching_of(inputs: Inputs, steps: int) -> FlowMatching:
    """A flow-matching model of the published size."""
    return FlowMatching(inputs.latents, [CONTEXT], MLP(), Midpoint(steps))


def flow_matching(inputs: Inputs) -> Iterator[Pair]:
    """Flow matching on cached latents compared with torchcfm's loop on them, and with a loop on images."""
    model, z, h = flow_matching_of(inputs, 4), inputs.z, inputs.h
    size = count_parameters(model.network)
    ours = our_step(model, lambda: model.latent_loss(z, h)["velocity"].mean())
    name = "flow matching, training step: torchcfm"
    try:
        network, loss = peers.torchcfm(DIM, CONTEXT, size)
        yield Pair(name, ours, plain_step(network, lambda: loss(z, h)), (size, count_parameters(network)))
    except ImportError as missing:
        yield Pair(name, ours, f"not installed: {missing.name} (make benchmark installs it)")

    def on_images() -> Tensor:
        return model.loss(inputs.x, inputs.subject(inputs.x))["velocity"].mean()

    def in_bfloat16() -> Tensor:
        with torch.autocast(z.device.type, torch.bfloat16):
            return model.latent_loss(z, h)["velocity"].mean()

    plain = plain_step(model, on_images)
    yield Pair("flow matching, training step: plain loop on images", ours, plain, (size, size))
    half = our_step(model, in_bfloat16)
    yield Pair("flow matching, training step in bfloat16: plain loop on images", half, plain, (size, size))


def free_form_flow(inputs: Inputs) -> Iterator[Pair]:
    """The surrogate of the volume change compared with reverse mode only, on the same networks."""
    model, z, h = FreeFormFlow(inputs.latents, [CONTEXT]), inputs.z, inputs.h
    ours = our_step(model, lambda: torch.stack([term.mean() for term in model.latent_loss(z, h).values()]).sum())
    naive = plain_step(model, lambda: peers.two_passes(model.encode, model.transport, z, h))
    size = sum(p.numel() for p in trained(model))
    yield Pair("free-form flow, training step: reverse mode alone", ours, naive, (size, size))


def sampling(inputs: Inputs) -> Iterator[Pair]:
    """Sampling of several families, and of many samples of few targets at once and one by one."""
    h, few = inputs.h, inputs.h[:8]
    model, many = flow_matching_of(inputs, 4), flow_matching_of(inputs, 100)
    flow = NormalizingFlow(inputs.latents, [CONTEXT])
    yield Pair("sampling, flow matching in 4 steps: in 100", lambda: model.sample(h), lambda: many.sample(h))
    single = FlowMap(inputs.latents, [CONTEXT], MLP())
    yield Pair("sampling, flow map: flow matching in 100 steps", lambda: single.sample(h), lambda: many.sample(h))
    yield Pair("sampling, coupling flow: flow matching in 4 steps", lambda: flow.sample(h), lambda: model.sample(h))
    yield Pair(
        "sampling, 64 samples of 8 targets at once: one by one",
        lambda: flow.sample(few, 64),
        lambda: [flow.sample(few) for _ in range(64)],
    )


def fiber_loss(inputs: Inputs) -> Iterator[Pair]:
    """The cost of the fiber loss."""
    model, z, h = flow_matching_of(inputs, 4), inputs.z, inputs.h

    def with_fiber(rows: int | None) -> Call:
        fiber = FiberLoss(10.0, rows=rows)
        return our_step(
            model, lambda: model.latent_loss(z, h)["velocity"].mean() + fiber(model, inputs.subject, h, z).mean()
        )

    none = our_step(model, lambda: model.latent_loss(z, h)["velocity"].mean())
    yield Pair("training step, without fiber loss: on 64 rows", none, with_fiber(64))
    yield Pair("training step, fiber loss on 64 rows: on all", with_fiber(64), with_fiber(None))


GROUPS = (coupling_flows, flow_matching, free_form_flow, sampling, fiber_loss)


def main(batches: tuple[int, ...] = (512, 256), repetitions: int = 15, threads: int = 1, only: str = "") -> None:
    """Prints the median ratio of each pair, with its spread.

    Args:
        batches: batch sizes.
        repetitions: alternations of each pair, after one without timing.
        threads: threads of PyTorch. With one thread, CPU time is measured instead of wall time, because other programs
            on the machine disturb it less.
        only: run only pairs whose names contain this.
    """
    torch.set_num_threads(threads)
    clock = time.process_time if threads == 1 else time.perf_counter

    def seconds(call: Call) -> float:
        start = clock()
        call()
        return clock() - start

    rows: list[tuple[str, ...]] = []
    for batch in batches:
        for group in GROUPS:
            torch.manual_seed(0)
            for pair in group(Inputs(batch)):
                if only not in pair.name:
                    continue
                if isinstance(pair.other, str):
                    rows.append((str(batch), pair.name, pair.other, "", "", "", ""))
                    continue
                times = [(seconds(pair.ours), seconds(pair.other)) for _ in range(repetitions + 1)][1:]
                ratios = sorted(other / ours for ours, other in times)
                spread = (statistics.median(ratios), ratios[0], ratios[-1])
                milliseconds = f"{1000 * statistics.median(ours for ours, _ in times):.1f}"
                sizes = ", ".join(f"{size:,}" for size in pair.parameters)
                rows.append((str(batch), pair.name, *(f"{ratio:.2f}" for ratio in spread), milliseconds, sizes))
    show(("batch", "ours: other", "other / ours", "least", "most", "ours, ms", "parameters"), rows)


if __name__ == "__main__":
    auto_cli(main)
