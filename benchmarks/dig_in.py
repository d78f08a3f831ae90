"""DiG-IN with all of its variables, on colour MNIST: noise, and a prompt and a null-text for every step.

    FIBERMODELS_DATA=... python benchmarks/dig_in.py [--parts '[prior, variables, background]'] [--num_targets 40]

`prior` trains a diffusion model over the latents of the committed VAE that is told the digit, with classifier-free
guidance: the digit is its prompt, and a hidden digit its null-text. `variables` samples the fibers of test images, told
their digit: the prior alone, and Adam on the noise, with prompts, with null-texts, and with both, at the published
rates and at larger ones; `-fixed` has the same cutouts in all steps. `background` lets only the middle of the image
change: it holds the border behind the decoder, or pulls it back by the masked distance. Results are in
`results/dig_in`.
"""

import time
from typing import Any

import torch
from jsonargparse import auto_cli
from runner import scored, shrink
from torch import Tensor
from torch.nn.functional import one_hot
from trained import ROOT, facts

from fibermodels.core import FiberSamples, Subject
from fibermodels.data.digits import load_labelled
from fibermodels.diffusion import DDIM, Denoiser, Estimate, Prompted
from fibermodels.evaluation.results import Metrics, save
from fibermodels.evaluation.scoring import score
from fibermodels.files import save_tensors
from fibermodels.guidance import Background, Box, Cost, Cutouts, FiberDistance, NoiseOptimisation, Unguided
from fibermodels.latents import VAE
from fibermodels.models import Diffusion
from fibermodels.nn import MLP
from fibermodels.noise import seeded, target_noise
from fibermodels.suites import ColourDigits, DecolorisedEncoder

RESULTS, WEIGHTS = ROOT / "results/dig_in", ROOT / "data/weights/colour_mnist"
PRIOR = ROOT / "runs/dig_in/prior.safetensors"

WIDTH, UPDATES, BATCH, PEAK, DROP, SCALE = 256, 4000, 256, 2e-3, 0.1, 3.0
"""Width of the prior's network, steps of its training, images of each, the largest rate, the share of hidden digits,
and the published scale of classifier-free guidance."""

CHAIN, STEPS, LAST = 20, 20, 3
"""Steps of DDIM and of Adam, and the estimates that the cost is averaged over, as published."""

PUBLISHED, LARGER = (0.001, 0.01), (0.05, 0.05)
"""Rates of the noise, and of prompts and null-texts: those of appendix D.1.5, and larger ones for a small network."""

REGION, WEIGHT = [4, 4, 24, 24], 0.1
"""The box that may change, and the weight of the masked distance."""


class FixedCutouts(Cutouts):
    """The same cutouts in every step."""

    def at(self, step: int) -> "FixedCutouts":
        return self


def adam(rates: tuple[float, float], prompts: bool, nulls: bool, steps: int = STEPS, **others: Any) -> dict[str, Any]:
    """Arguments of the optimisation; `prompts` and `nulls` say what moves beside the noise."""
    noise, told = rates
    moved = {"prompt_learning_rate": told * prompts, "null_learning_rate": told * nulls}
    return {"learning_rate": noise, "steps": steps, **moved, **others}


VARIABLES = {
    "prior": adam(LARGER, False, False, 0),
    "published-noise": adam(PUBLISHED, False, False),
    "published-all": adam(PUBLISHED, True, True),
    "noise": adam(LARGER, False, False),
    "prompts": adam(LARGER, True, False),
    "null_texts": adam(LARGER, False, True),
    "all": adam(LARGER, True, True),
    "all-fixed": adam(LARGER, True, True, fixed=True),
}
BACKGROUNDS = {
    "all-pulled": adam(LARGER, True, True, background=Background(Box(REGION), WEIGHT, held=False)),
    "all-held": adam(LARGER, True, True, background=Background(Box(REGION))),
}
ROWS = {"variables": VARIABLES, "background": BACKGROUNDS}


class Digits(Prompted):
    """A prior whose rows are told a digit each.

    Args:
        prior: told a digit as ten numbers.
        told: `(B, 10)`, for the rows of every call.
    """

    def __init__(self, prior: Diffusion, told: Tensor) -> None:
        super().__init__()
        self.prior, self.latents, self.schedule = prior, prior.latents, prior.schedule
        self.told, self.guidance_scale = told, prior.guidance_scale

    def denoiser(self, h: Tensor | None = None) -> Denoiser:
        return self.prior.denoiser(self.told)

    def prompts(self, h: Tensor) -> Tensor:
        return self.prior.prompts(self.told)

    def denoise_prompted(self, z: Tensor, t: Tensor, prompts: Tensor) -> Estimate:
        return self.prior.denoise_prompted(z, t, prompts)


def main(parts: list[str] = ["prior", "variables", "background"], num_targets: int = 40) -> None:  # noqa: B006 (read only)
    """Runs the parts; what exists is kept.

    Args:
        parts: `prior`, `variables`, `background`.
        num_targets: images whose fibers are sampled.
    """
    if "prior" in parts and not PRIOR.exists():
        train_prior()
    data, subject = ColourDigits("mnist"), DecolorisedEncoder(weights=str(WEIGHTS / "subject.safetensors"))
    for part in (each for each in ROWS if each in parts):
        for name, options in ROWS[part].items():
            if not scored(RESULTS / name):
                sample(name, options, data, subject, num_targets)


def new_prior() -> Diffusion:
    """A diffusion model of the VAE's latents, told the digit as ten numbers."""
    vae = VAE([3, 28, 28], 54, weights=str(WEIGHTS / "vae.safetensors"))
    return Diffusion(vae, [10], MLP(WIDTH), "linear", sampler=DDIM(CHAIN), drop_condition=DROP, guidance_scale=SCALE)


def train_prior() -> None:
    """Trains the prior; minutes of one core."""
    torch.manual_seed(0)
    model, x = new_prior(), ColourDigits("mnist").split("train").images()
    told = one_hot(load_labelled("mnist", "train")[1].long(), 10).float()
    with torch.no_grad():
        z = torch.cat([model.latents.encode(each, None) for each in x.split(1024)])
    model.network.standardise.measure(told)
    optimiser = torch.optim.AdamW([each for each in model.parameters() if each.requires_grad], PEAK)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, PEAK, total_steps=UPDATES, pct_start=0.1)
    began = time.perf_counter()
    for step, rows in enumerate(torch.randint(len(z), (UPDATES, BATCH), generator=seeded("batches"))):
        loss = torch.stack([term.mean() for term in model.latent_loss(z[rows], told[rows]).values()]).sum()
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        if step % 500 == 0:
            print(f"step {step}: {loss.item():.3f} after {time.perf_counter() - began:.0f} s", flush=True)
    PRIOR.parent.mkdir(parents=True, exist_ok=True)
    save_tensors(model.state_dict(), PRIOR)


def sample(name: str, options: dict[str, Any], data: ColourDigits, subject: Subject, num_targets: int) -> None:
    """One sample for each of the first test images, told its digit, and its scores."""
    prior, rows = new_prior(), slice(num_targets)
    prior.load_weights(PRIOR)
    digits = one_hot(load_labelled("mnist", "test")[1][rows].long(), 10).float()
    x = data.split("test").images(rows)
    h = subject(x)
    own = {key: value for key, value in options.items() if key != "fixed"}
    cost: Cost = (FixedCutouts if options.get("fixed") else Cutouts)(FiberDistance(), 2, 0.9)
    unguided = Unguided(Digits(prior.eval().requires_grad_(False), digits), DDIM(CHAIN))
    model = NoiseOptimisation(unguided, subject, cost, judge=FiberDistance(), keep_norm=True, last=LAST, **own)
    noise = target_noise(1, num_targets, model.model.noise_shape, seeded("dig_in"))[0]
    began = time.perf_counter()
    x_hat = model.optimise(noise, h)
    seconds = (time.perf_counter() - began) / num_targets
    with torch.no_grad():
        start, h_hat = unguided.push(noise, h), subject(x_hat)
    outside = Box(REGION, outside=True)(unguided, noise, h, x)
    changed = (outside * (x_hat - start)).square().sum() / (x.shape[1] * outside.sum())
    samples = FiberSamples(x, h, x_hat[None], h_hat[None])
    values: Metrics = {
        **facts(RESULTS / name, "NoiseOptimisation", "colour_mnist", subject, num_targets),
        "network_calls_per_sample": model.network_calls,
        "seconds_per_sample": round(seconds, 6),
        **score(samples, data),
        "border_change": round(float(changed.sqrt()), 6),
    }
    save(RESULTS / name, samples, values)
    shrink(RESULTS / name / "samples.png")
    print(f"{name}: RMS {values['fiber_rms']}, KL {values['colour_kl']}, {seconds:.2f} s", flush=True)


if __name__ == "__main__":
    auto_cli(main)
