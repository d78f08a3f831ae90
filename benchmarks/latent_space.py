"""A study of latent spaces: variants of `ColourAutoencoder`, each trained for the same number of epochs.

    python benchmarks/latent_space.py [--epochs 8] [--only '[dim 4]']

It scores validation digits: images that are decoded from the digit's latent (the floor of every density model), from
another digit's latent (is `z` independent of `h`?), from standard normal noise, and from samples of a small
flow-matching model. It writes `results/latent_space/study.{csv,md}` with one row per variant.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from jsonargparse import auto_cli
from runner import call, read_table, write_table
from torch import Tensor

from fibermodels import distances
from fibermodels.core import FiberSamples, LatentSpace, Subject
from fibermodels.diffusion import Midpoint
from fibermodels.models import FlowMatching
from fibermodels.nn import MLP
from fibermodels.noise import seeded
from fibermodels.suites import ColourAutoencoder
from fibermodels.suites.colour_metrics import colour_kl
from fibermodels.training import load

CONFIG = "configs/colour_mnist/colour_autoencoder.yaml"
RESULTS = Path("results/latent_space")
INIT = "--model.learner.init_args."

VARIANTS: dict[str, dict[str, object]] = {
    "default": {},
    "no fiber term": {"tau": "null"},
    "channel_dim 2": {"channel_dim": 2},
    "tau 0.05": {"tau": 0.05},
    "noise 0": {"noise": 0.0},
    "noise 0.3": {"noise": 0.3},
    "scale 0.5": {"scale": 0.5},
    "scale 10": {"scale": 10.0},
}
FLOW_STEPS, FLOW_BATCH = 2000, 512


def trained(variant: str, epochs: int) -> tuple[LatentSpace, Subject, Any]:
    """The variant's latent space, which is trained if necessary, with its subject and its data."""
    name = f"latent_space/{variant.replace(' ', '_')}"
    last = Path("runs") / name / "checkpoints" / "last.ckpt"
    options = [f"{INIT}{key}={value}" for key, value in VARIANTS[variant].items()]
    state = ["--ckpt_path", "last"] if last.exists() else []
    call("train.py", "--config", CONFIG, "--name", name, "--trainer.max_epochs", epochs, *options, *state)
    run = load(last)
    subject, space = run.subject, run.model
    if subject is None or not isinstance(space, ColourAutoencoder):
        raise ValueError(f"'{last}': expected a ColourAutoencoder and its subject")
    images = run.data.split("train").images(slice(10_000))
    product = space.product([{"x": x, "h": subject(x)} for x in images.split(1000)])  # measures the quantiles
    return product.eval(), subject, run.data


def short_flow(space: LatentSpace, x: Tensor, h: Tensor) -> FlowMatching:
    """A small flow matching over the space, trained on the images `x`."""
    torch.manual_seed(0)
    flow = FlowMatching(space, [h.shape[1]], MLP(width=256), Midpoint(4))
    with torch.no_grad():
        moments = [space.moments(*part) for part in zip(x.split(1000), h.split(1000), strict=True)]
    mean, std = (torch.cat(part) for part in zip(*moments, strict=True))
    optimizer = torch.optim.AdamW([p for p in flow.parameters() if p.requires_grad], lr=2e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=FLOW_STEPS)
    for _ in range(FLOW_STEPS):
        rows = torch.randint(len(x), (FLOW_BATCH,))
        z = space.posterior_sample(mean[rows], std[rows], torch.randn(FLOW_BATCH, std.shape[1]))
        optimizer.zero_grad()
        flow.latent_loss(z, h[rows])["velocity"].mean().backward()
        optimizer.step()
        schedule.step()
    return flow.eval()


@torch.no_grad()
def fidelity_and_consistency(
    decode: Callable[[Tensor, Tensor], Tensor], subject: Subject, x: Tensor, h: Tensor
) -> dict[str, float]:
    """Fiber RMS and colour KL of one sample for each target."""
    x_hat = torch.cat([decode(*part) for part in zip(x.split(1000), h.split(1000), strict=True)])
    h_hat = torch.cat([subject(part) for part in x_hat.split(1000)])
    samples = FiberSamples(x, h, x_hat[None], h_hat[None])
    return {"RMS": distances.rms(h, h_hat).mean().item(), "KL": colour_kl(samples)}


def explained(z: Tensor, h: Tensor) -> float:
    """Share of the latents' variance that a linear map of `h` explains; 0 if they are independent."""
    design = torch.cat((h, torch.ones(len(h), 1)), 1)
    half = len(h) // 2
    solution = torch.linalg.lstsq(design[:half], z[:half]).solution
    residual = z[half:] - design[half:] @ solution
    return 1 - (residual.square().sum() / (z[half:] - z[:half].mean(0)).square().sum()).item()


def study(variant: str, epochs: int) -> dict[str, object]:
    """The row of a variant."""
    space, subject, data = trained(variant, epochs)
    x = data.split("val").images()
    colours = data.split("train")
    many = []
    for epoch in range(3):
        colours.set_epoch(epoch)
        many.append(colours.images())
    images = torch.cat(many)
    with torch.no_grad():
        h, represented = (torch.cat([subject(part) for part in each.split(1000)]) for each in (x, images))
    flow = short_flow(space, images, represented)
    generator = seeded("latent space")

    def noise(h: Tensor) -> Tensor:
        return torch.randn(len(h), *space.latent_shape, generator=generator)

    def own(x: Tensor, h: Tensor) -> Tensor:
        return space.posterior_sample(*space.moments(x, h), noise(h))

    ways: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
        "own z": lambda x, h: space.decode(own(x, h), h),
        "another's z": lambda x, h: space.decode(own(x, h).roll(1, 0), h),
        "normal z": lambda x, h: space.decode(noise(h), h),
        "flow": lambda x, h: flow.push(noise(h), h),
    }
    row: dict[str, object] = {"variant": variant}
    for way, decode in ways.items():
        for name, value in fidelity_and_consistency(decode, subject, x, h).items():
            row[f"{name}, {way}"] = f"{value:.4f}"
    with torch.no_grad():
        row["z explained by h"] = f"{explained(space.encode(x, h), h):.3f}"
    return row


def main(epochs: int = 8, only: list[str] | None = None) -> None:
    """Trains and scores the variants that are not in the table yet.

    Args:
        epochs: epochs of each variant's training.
        only: names of variants; others are skipped.
    """
    rows: list[dict[str, object]] = [*read_table(RESULTS / "study.csv")]
    for variant in only or VARIANTS:
        if variant not in {row["variant"] for row in rows}:
            rows.append(study(variant, epochs))
            write_table(rows, RESULTS / "study")


if __name__ == "__main__":
    auto_cli(main)
