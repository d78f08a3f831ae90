"""Speed, side by side in one run: each pair alternates, and the ratio of its times is what counts.

    python benchmarks/speed.py [--repetitions 7]

Sizes are those of the colour-MNIST configs; weights are random, for speed does not depend on them.
"""

import statistics
import time
from collections.abc import Callable

import torch
from jsonargparse import auto_cli
from rich.console import Console
from rich.table import Table
from torch import Tensor

from fibermodels import colour
from fibermodels.core import TrainableFiberModel, seeded
from fibermodels.latents import VAE
from fibermodels.models import FiberLoss, FlowMatching, NormalizingFlow
from fibermodels.subjects import DecolorisedEncoder

BATCH = 512


def step(model: TrainableFiberModel, loss: Callable[[], Tensor]) -> Callable[[], None]:
    """One optimiser step on `loss`."""
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-6, fused=True)

    def run() -> None:
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()

    return run


def pairs() -> dict[str, tuple[Callable[[], object], Callable[[], object]]]:
    """What is compared: the first's time is divided by the second's."""
    subject, latents = DecolorisedEncoder(), VAE()
    flow_matching, normalizing_flow = FlowMatching(latents, steps=4), NormalizingFlow(latents)
    many = FlowMatching(latents, steps=100)
    digits = torch.rand(BATCH, 1, 28, 28, generator=seeded(0))
    digits[..., 0] = 0
    x = colour.colourise(digits, colour.sample_backgrounds(BATCH, seeded(1)))
    with torch.no_grad():
        h = subject(x)
        mean, std = latents.moments(x, h)
    z = mean + std * torch.randn_like(std)

    def on_images() -> Tensor:
        return flow_matching.loss(x, subject(x))["velocity"].mean()

    def on_latents() -> Tensor:
        return flow_matching.latent_loss(z, h)["velocity"].mean()

    def with_fiber(rows: int) -> Callable[[], Tensor]:
        fiber = FiberLoss(10.0, rows=rows)
        return lambda: on_latents() + fiber(flow_matching, subject, h).mean()

    def flow_loss() -> Tensor:
        return normalizing_flow.latent_loss(z, h)["nll"].mean()

    training = step(flow_matching, on_latents)
    return {
        "training step: images / cached latents": (step(flow_matching, on_images), training),
        "training step: fiber loss on 64 rows / none": (step(flow_matching, with_fiber(64)), training),
        "training step: fiber loss on all rows / on 64": (
            step(flow_matching, with_fiber(BATCH)),
            step(flow_matching, with_fiber(64)),
        ),
        "training step: normalizing flow / flow matching": (step(normalizing_flow, flow_loss), training),
        "sampling: 100 midpoint steps / 4": (lambda: many.sample(h), lambda: flow_matching.sample(h)),
        "sampling: flow matching, 4 steps / normalizing flow": (
            lambda: flow_matching.sample(h),
            lambda: normalizing_flow.sample(h),
        ),
    }


def seconds(call: Callable[[], object]) -> float:
    """The time of one call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def main(repetitions: int = 7) -> None:
    """Prints the median ratio of each pair, with its spread.

    Args:
        repetitions: alternations of each pair, after one that does not count.
    """
    table = Table("pair", "ratio: median", "least", "most", "second, ms")
    for name, (first, second) in pairs().items():
        times = [(seconds(first), seconds(second)) for _ in range(repetitions + 1)][1:]
        ratios = sorted(a / b for a, b in times)
        median = statistics.median(ratios)
        table.add_row(
            name,
            f"{median:.2f}",
            f"{ratios[0]:.2f}",
            f"{ratios[-1]:.2f}",
            f"{1000 * statistics.median(b for _, b in times):.1f}",
        )
    console = Console()
    (console if console.is_terminal else Console(width=110)).print(table)


if __name__ == "__main__":
    auto_cli(main)
