"""Known laws in the plane: what is the algorithm's error, and what the network's?

python benchmarks/plane.py [--parts '[circles,tilts]'] [--num_targets 100] [--samples_per_target 50] [--overwrite true]

`circles`: every guidance on an exact denoiser, and amortised models, against the law on the level curves of a network;
results in `results/circles`. `tilts`: a soft and a hard constraint on a score of four modes, and the methods that
sample under them, at equal expected score; tables and figure in `results/tilts`. Finished results are skipped.
`--parts '[subject]'` trains the committed network of the circles.
"""

import time
from collections.abc import Callable
from pathlib import Path

import plane_tilts
import torch
from jsonargparse import auto_cli
from trained import publish, trained

from fibermodels.component import device_name
from fibermodels.core import FiberModel
from fibermodels.diffusion import DDIM, Ancestral, Heun, Midpoint, Prior
from fibermodels.evaluation.comparing import compare
from fibermodels.evaluation.drawing import Choice
from fibermodels.evaluation.results import save
from fibermodels.evaluation.scoring import evaluate
from fibermodels.guidance import (
    DPS,
    NDTM,
    BestOf,
    ConditionFeedback,
    FiberDistance,
    FiberProjection,
    Guided,
    Langevin,
    LatentDescent,
    MomentMatching,
    NoiseOptimisation,
    PixelOptimisation,
    Renoised,
    StrengthSearch,
    Unguided,
)
from fibermodels.latents import Identity
from fibermodels.models import Diffusion, FlowMatching, NearestNeighbour, Oracle
from fibermodels.nn import MLP
from fibermodels.noise import seeded
from fibermodels.suites.circles import Circles, CirclesClassifier, circles_prior, draw

ROOT = Path(__file__).parents[1]
WEIGHTS = "data/weights/circles/classifier.safetensors"
RESULTS = ROOT / "results/circles"

EPOCHS, STEPS = 300, 50
"""Of the amortised model, six steps each; and of the samplers of guidance."""


def main(
    parts: list[str] = ["circles", "tilts"],  # noqa: B006 (read only)
    num_targets: int = 100,
    samples_per_target: int = 50,
    overwrite: bool = False,
) -> None:
    """Runs the parts.

    Args:
        parts: `subject`, `circles`, `tilts`.
        num_targets: test points of the circles.
        samples_per_target: samples of each.
        overwrite: whether finished results are made again.
    """
    if "subject" in parts:
        train_subject()
    if "circles" in parts:
        circles(Choice(num_targets, samples_per_target), overwrite)
    if "tilts" in parts:
        plane_tilts.main(overwrite)


def train_subject() -> None:
    """Trains the network that tells points inside of the unit circle from those outside, and writes its card."""
    start = time.perf_counter()
    torch.manual_seed(0)
    x, test = (draw(count, seeded("circles", 0, name)) for name, count in (("train", 1500), ("test", 1000)))
    outside = (x.norm(dim=1) > 1).float()
    subject = CirclesClassifier()
    subject.requires_grad_(True)
    adam = torch.optim.Adam(subject.parameters(), 0.01, weight_decay=1e-3)
    for _ in range(400):
        adam.zero_grad()
        torch.nn.functional.binary_cross_entropy_with_logits(subject(x)[:, 0], outside).backward()
        adam.step()
    seconds = time.perf_counter() - start
    right = ((subject(test)[:, 0] > 0) == (test.norm(dim=1) > 1)).float().mean().item()
    publish(subject, Path(WEIGHTS), "circles", {"accuracy": right}, seconds)


def circles(choice: Choice, overwrite: bool) -> None:
    """Scores every row, and compares them."""
    subject = CirclesClassifier(WEIGHTS)
    data, prior = Circles(subject), circles_prior()
    amortised: list[tuple[FlowMatching, float]] = []
    priors: list[Diffusion] = []

    def trained() -> FlowMatching:
        if not amortised:
            amortised.append(train(data, subject))
        return amortised[0][0]

    def learned() -> Diffusion:
        if not priors:
            priors.append(train_prior(data, subject))
        return priors[0]

    for name, build in rows(prior, subject, data, trained, learned).items():
        folder = RESULTS / name
        if (folder / "metrics.json").exists() and not overwrite:
            continue
        model = build()
        about: dict[str, str | float] = {"name": name}
        if amortised and "flow_matching" in name:
            about |= {"training_seconds": round(amortised[0][1], 1), "training_device": device_name("cpu")}
        samples, values = evaluate(model.eval(), subject, data, choice, about=about)
        save(folder, samples, values)
        print(f"{name}: fiber RMS {values['fiber_rms']}, arc KL {values['arc_kl']} (floor {values['arc_kl_floor']})")
    compare([str(path.parent) for path in sorted(RESULTS.glob("*/metrics.json"))], RESULTS)


def rows(
    prior: Prior,
    subject: CirclesClassifier,
    data: Circles,
    trained: Callable[[], FlowMatching],
    learned: Callable[[], Prior],
) -> dict[str, Callable[[], FiberModel]]:
    """Every row by name: references, amortised models, guidance on the exact denoiser, and on a learned one."""
    space, sampled = Identity(input_shape=[2]), Unguided(prior, Heun(8))

    def guided(guidance: DPS | NDTM | MomentMatching, strength: float = 1.0, by: Prior = prior) -> Guided:
        return Guided(by, subject, guidance, FiberDistance("l2"), Ancestral(STEPS), strength)

    def soft() -> Guided:
        return Guided(prior, subject, DPS(), FiberDistance("rms"), Ancestral(STEPS))

    def projected(model: FiberModel, iterations: int = 10) -> FiberProjection:
        return FiberProjection(model, subject, space, iterations)

    return {
        "oracle": lambda: Oracle(data),
        "nearest_neighbour": NearestNeighbour,
        "prior": lambda: Unguided(prior, DDIM(STEPS)),
        "flow_matching": trained,
        "feedback": lambda: ConditionFeedback(trained(), subject, 5),
        "flow_matching-projection": lambda: projected(trained()),
        "dps-strength0.001": lambda: guided(DPS(), 0.001),
        "dps-strength0.003": lambda: guided(DPS(), 0.003),
        "latent_descent": lambda: LatentDescent(sampled, subject, space, steps=100, learning_rate=0.02),
        "projection": lambda: projected(sampled),
        "langevin": lambda: Langevin(projected(sampled), steps=50, step_size=0.02, prior=prior),
        "ndtm-gamma1": lambda: guided(NDTM(gamma=1.0)),
        "moment_matching": lambda: guided(MomentMatching(until=0.99)),
        "noise_optimisation": lambda: NoiseOptimisation(sampled, subject, FiberDistance("squared"), steps=30),
        "ndtm-gamma10": lambda: guided(NDTM(gamma=10.0)),
        "ndtm-gamma10-renoised": lambda: Renoised(guided(NDTM(gamma=10.0))),
        "ndtm-target_rms0.3": lambda: StrengthSearch(guided(NDTM(gamma=1.0)), 0.3),
        "energy_dps-target_rms0.3": lambda: StrengthSearch(soft(), 0.3),
        "best_of-draws16": lambda: BestOf(sampled, subject, 16),
        "prior-learned": lambda: Unguided(learned(), DDIM(STEPS)),
        "dps-strength0.003-learned": lambda: guided(DPS(), 0.003, learned()),
        "ndtm-gamma10-learned": lambda: guided(NDTM(gamma=10.0), by=learned()),
        "moment_matching-learned": lambda: guided(MomentMatching(until=0.99), by=learned()),
        "pixel_optimisation": lambda: PixelOptimisation(subject, FiberDistance("squared")),
    }


def train(data: Circles, subject: CirclesClassifier) -> tuple[FlowMatching, float]:
    """Flow matching of the points given the network's output, and the seconds that it took."""
    torch.manual_seed(0)
    return trained(FlowMatching(standardised(data), [1], MLP(128, 3), Midpoint(16)), data, EPOCHS, subject)


def train_prior(data: Circles, subject: CirclesClassifier) -> Diffusion:
    """A diffusion model of the points, with the same network in as many steps."""
    torch.manual_seed(0)
    return trained(Diffusion(standardised(data), [], MLP(128, 3), "cosine"), data, EPOCHS, subject, average=0.99)[0]


def standardised(data: Circles) -> Identity:
    """The points in deviations of the training points."""
    x = data.split("train").inputs()
    return Identity(input_shape=[2], mean=x.mean(0).tolist(), std=x.std(0).tolist())


if __name__ == "__main__":
    auto_cli(main)
