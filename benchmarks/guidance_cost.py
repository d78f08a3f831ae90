"""The cost of a sample on the fiber: NDTM as published, our NDTM, and corrections of a trained model, in one run.

    python benchmarks/guidance_cost.py [--num_targets 64] [--repetitions 3]

All methods get the same validation digits in one batch on one device, in turns. The table
`results/colour_mnist/guidance_cost.{md,csv}` lists the calls of the generative network, the fiber RMS, and how many
times longer the published algorithm takes.
"""

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from jsonargparse import auto_cli
from rich.progress import track
from runner import show, write_table
from torch import Tensor

from fibermodels import distances
from fibermodels.core import FiberModel
from fibermodels.diffusion import Ancestral, Prior
from fibermodels.evaluation.results import commit
from fibermodels.evaluation.scoring import device_name
from fibermodels.guidance import NDTM, ConditionFeedback, FiberDistance, FiberProjection, Guided
from fibermodels.latents import VAE
from fibermodels.models import Diffusion, FlowMap
from fibermodels.nn import MLP
from fibermodels.noise import seeded
from fibermodels.suites import ColourAutoencoder, DecolorisedEncoder
from fibermodels.suites.colour_digits import ColourDigits

WEIGHTS = "data/weights/colour_mnist/"
OUT = Path("results/colour_mnist")


class Counted:
    """A denoiser that counts its calls, and its calls with gradients."""

    def __init__(self, prior: Prior) -> None:
        self.denoise, self.forward, self.backward = prior.denoiser(), 0, 0

    def __call__(self, z: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        self.forward += 1
        self.backward += torch.is_grad_enabled()
        return self.denoise(z, t)


def published(
    prior: Prior, subject: DecolorisedEncoder, h: Tensor, steps: int, inner: int, gamma: float, lr: float = 0.02
) -> tuple[Tensor, Counted]:
    """NDTM with the same calls as its public code: an even grid in time, ancestral steps, and in every guided step two
    evaluations before the inner loop (one of them redundant) and one after it."""
    denoise, schedule = Counted(prior), prior.schedule
    z = torch.randn(len(h), *prior.latents.latent_shape, generator=seeded("published"))
    times = torch.linspace(1, 0, steps + 1)
    for i in range(steps):
        t, s = times[i].expand(len(h)), times[i + 1].expand(len(h))
        with torch.no_grad():
            denoise(z, t), denoise(z, t)
        g = gamma if times[i] <= 0.5 else 0.0
        u = torch.zeros_like(z, requires_grad=True)
        if g:
            adam = torch.optim.Adam([u], lr * (1 - i / steps))
            for _ in range(inner):
                data, _ = denoise(z + g * u, t)
                cost = (subject(prior.decode(data.clamp(-5, 5))) - h).norm(dim=1) + 3e-4 * (g * g * u).square().sum(1)
                (u.grad,) = torch.autograd.grad(cost.sum(), u)
                u.grad *= (1 / (u.grad.norm(dim=1, keepdim=True) + 1e-6)).clamp(max=1)
                adam.step()
        with torch.no_grad():
            data, noise = denoise(z + g * u, t)
            alpha_s, sigma_s = schedule.alpha(s)[:, None], schedule.sigma(s)[:, None]
            share = (1 - (schedule.alpha(t)[:, None] / alpha_s).square()).clamp(min=0)
            added = sigma_s / schedule.sigma(t)[:, None] * share.sqrt()
            fresh = torch.randn(z.shape, generator=seeded("published", i))
            z = alpha_s * data + (sigma_s.square() - added.square()).clamp(min=0).sqrt() * noise + added * fresh
    return prior.decode(z).detach(), denoise


def main(num_targets: int = 64, repetitions: int = 3, threads: int = 1, out: Path = OUT) -> None:
    """Measures, prints and writes.

    Args:
        num_targets: number of validation digits, with one sample each.
        repetitions: rounds of all methods; fast ones are timed five times in each round.
        threads: threads of torch.
        out: folder of the table.
    """
    torch.set_num_threads(threads)
    phi = DecolorisedEncoder(WEIGHTS + "subject.safetensors")
    x = ColourDigits("mnist").split("val").images(slice(num_targets))
    with torch.no_grad():
        h = phi(x)
    prior = Diffusion(
        VAE([3, 28, 28], 54, weights=WEIGHTS + "vae.safetensors"),
        [],
        MLP(),
        schedule="linear",
        weights=WEIGHTS + "prior.safetensors",
    )
    flow_map = FlowMap(
        ColourAutoencoder([3, 28, 28], [48], weights=WEIGHTS + "colour_autoencoder.safetensors"),
        [48],
        MLP(),
        weights=WEIGHTS + "flow_map.safetensors",
    )
    prior.eval(), flow_map.eval()
    l2 = FiberDistance("l2")

    def ndtm(steps: int, gamma: float) -> Guided:
        return Guided(prior, phi, NDTM(gamma, kappa=7.5e-3 / (gamma / 5) ** 2), l2, Ancestral(steps))

    def sampled(model: FiberModel) -> Callable[[], tuple[Tensor, str, str]]:
        return lambda: (model.sample(h, 1, seeded("cost"))[0], f"{model.network_calls}", _backward(model))

    def as_published() -> tuple[Tensor, str, str]:
        images, counted = published(prior, phi, h, 200, 10, 5.0)
        return images, str(counted.forward), str(counted.backward)

    ways: dict[str, Callable[[], tuple[Tensor, str, str]]] = {
        "NDTM as published, 200 steps": as_published,
        "NDTM, 200 steps, gamma 5": sampled(ndtm(200, 5.0)),
        "NDTM, 50 steps, gamma 20": sampled(ndtm(50, 20.0)),
        "NDTM, 25 steps, gamma 20": sampled(ndtm(25, 20.0)),
        "flow map, projected (2 iterations)": sampled(FiberProjection(flow_map, phi, over="condition", iterations=2)),
        "flow map, feedback (3 steps)": sampled(ConditionFeedback(flow_map, phi, 3)),
        "flow map, feedback (1 step)": sampled(ConditionFeedback(flow_map, phi, 1)),
        "flow map": sampled(flow_map),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    rows: dict[str, dict[str, Any]] = {}
    for _ in track(range(repetitions), "measuring"):
        for name, way in ways.items():
            times = 1 if name.startswith("NDTM") else 5
            for _ in range(times):
                start = time.perf_counter()
                images, forward, backward = way()
                seconds[name].append((time.perf_counter() - start) / num_targets)
            with torch.no_grad():
                rms = float(distances.rms(h, phi(images)).mean())
            rows[name] = {"method": name, "forward calls": forward, "backward": backward, "fiber RMS": f"{rms:.4f}"}
    slowest = statistics.median(seconds["NDTM as published, 200 steps"])
    for name, row in rows.items():
        own = statistics.median(seconds[name])
        ratio = float(f"{slowest / own:.3g}")
        row |= {"s / sample": f"{own:.1e}", "published / this": f"{ratio:,.0f}" if ratio >= 1000 else f"{ratio:g}"}
    note = f"{num_targets} targets at once on {device_name('cpu')}, commit {commit()}."
    write_table(list(rows.values()), out / "guidance_cost", note)
    show(list(next(iter(rows.values()))), (row.values() for row in rows.values()))


def _backward(model: FiberModel) -> str:
    if isinstance(model, Guided):
        return str(model.network_calls - model.sampler.steps)
    return "decoder: 48 a step" if isinstance(model, FiberProjection) else "0"


if __name__ == "__main__":
    auto_cli(main)
