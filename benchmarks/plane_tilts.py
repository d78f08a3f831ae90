"""Hard and soft constraints on a score of four modes at equal expected score, and the methods that sample under them.

`benchmarks/plane.py` runs it. It writes into `results/tilts`: `laws.md` (10^5 draws of the prior, weighted),
`stability.md` (what a small change of the goal moves, by the number of draws), `divergence.md`, `stein.md` and
`score.md` (samples of each method), `metrics.json` with all numbers, and `densities.png`.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from fibermodels.component import device_name
from fibermodels.core import FiberModel
from fibermodels.diffusion import Ancestral, Midpoint
from fibermodels.evaluation.results import commit
from fibermodels.files import replace_file, write_text
from fibermodels.guidance import DPS, NDTM, Guided, PixelOptimisation, ScoreEnergy, calibrate
from fibermodels.guidance.costs import Cost
from fibermodels.latents import Identity
from fibermodels.models import FlowMatching
from fibermodels.nn import MLP
from fibermodels.noise import seeded
from fibermodels.pictures import as_tensor
from fibermodels.suites.angular import (
    AngularScore,
    FourModes,
    divergence,
    kernel_density,
    stein_discrepancy,
    tilt,
    tilted_to,
    total_variation,
    truncated_to,
    truncation,
)

OUT = Path(__file__).parents[1] / "results/tilts"

GOALS, DRAWS, COUNT, STEPS = (5.0, 6.0, 7.0), 100_000, 1000, 50
"""Expected scores, draws of the prior, samples of each method, and steps of the samplers."""

MARGIN, CHANGE, BANDWIDTH, SIDE, CELLS = 0.05, 0.1, 0.25, 5.0, 60
"""Of the boundary mass, change of the goal, deviation of the kernels, half the side of the grid, and its cells."""

POOL, ROUNDS = 2000, 10
"""Points that a retrieval searches, and rounds of a calibration."""


class MinusLogDensity(Cost):
    """`-log p(x)` of the prior, the regularisation of the optimiser."""

    def forward(self, subject: Any, images: Tensor, h: Tensor) -> Tensor:
        return -FourModes().log_density(images)


class Regularised(Cost):
    """`-s(x) - weight log p(x)`."""

    def __init__(self, weight: float) -> None:
        super().__init__()
        self.weight, self.energy, self.prior = weight, ScoreEnergy(), MinusLogDensity()

    def forward(self, subject: Any, images: Tensor, h: Tensor) -> Tensor:
        found: Tensor = self.energy(subject, images, h) + self.weight * self.prior(subject, images, h)
        return found


def main(overwrite: bool = False) -> None:
    """Writes everything, unless it is there."""
    if (OUT / "metrics.json").exists() and not overwrite:
        return
    prior, score = FourModes(), AngularScore()
    x = prior.draw(DRAWS, seeded("tilts"))
    s = score(x)[:, 0]
    values: dict[str, Any] = {"commit": commit(), "device": device_name("cpu"), "seed": 0}
    values["prior_score"] = float(s.mean())
    values["laws"] = [law for goal in GOALS for law in laws(s, goal)]
    values["stability"] = stability(score, prior)
    found: dict[tuple[float, str], Tensor] = {}
    amortised = trained(prior, score)
    values["methods"] = []
    for goal in GOALS:
        for name, (points, knob) in sampled(goal, prior, score, x, s, amortised).items():
            found[goal, name] = points
            row = scores(points, goal, prior, score, s) | {"method": name, "goal": goal, "knob": knob}
            values["methods"].append(row)
            print(row, flush=True)
    write_text(OUT / "metrics.json", json.dumps(rounded(values), indent=1) + "\n")
    write_tables(rounded(values))
    replace_file(OUT / "densities.png", lambda file: small(figure(found, x, s)).save(file, optimize=True))


def laws(s: Tensor, goal: float) -> list[dict[str, Any]]:
    """Truncation and tilt at one expected score, from weighted draws."""
    threshold, strength = truncated_to(s, goal), tilted_to(s, goal)
    near = ((s >= threshold) & (s <= threshold + MARGIN)).double()
    found = []
    for name, weights, moved, knob in (
        ("hard", truncation(s, threshold), truncation(s, truncated_to(s, goal + CHANGE)), threshold),
        ("soft", tilt(s, strength), tilt(s, tilted_to(s, goal + CHANGE)), strength),
    ):
        found.append(
            {
                "goal": goal,
                "law": name,
                "knob": knob,
                "boundary_mass": float(weights @ near),
                "total_variation": total_variation(weights, moved),
                "divergence": divergence(weights),
            }
        )
    return found


def stability(score: AngularScore, prior: FourModes, goal: float = 6.0) -> list[dict[str, Any]]:
    """The total variation that a change of the goal makes, where the law is known from so many draws only."""
    found = []
    for count in (1000, 10_000, 100_000):
        steps: dict[str, list[float]] = {"hard": [], "soft": []}
        for seed in range(20):
            s = score(prior.draw(count, seeded("stability", seed)))[:, 0]
            for law in laws(s, goal):
                steps[law["law"]].append(law["total_variation"])
        own = {name: torch.tensor(each) for name, each in steps.items()}
        means = {f"{name}_mean": float(each.mean()) for name, each in own.items()}
        found.append({"draws": count, **means, **{f"{name}_std": float(each.std()) for name, each in own.items()}})
    return found


def trained(prior: FourModes, score: AngularScore) -> FlowMatching:
    """Flow matching of points of the prior, told their score."""
    torch.manual_seed(0)
    model = FlowMatching(Identity(input_shape=[2], std=[2.0, 2.0]), [1], MLP(128, 3), Midpoint(8))
    x = prior.draw(50_000, seeded("amortised"))
    h = score(x)
    model.network.standardise.measure(h)
    steps, adam = 2500, torch.optim.AdamW(model.parameters(), 2e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(adam, 2e-3, total_steps=steps, pct_start=0.1)
    for rows in torch.randint(len(x), (steps, 256), generator=seeded("batches")):
        adam.zero_grad()
        sum(term.mean() for term in model.loss(x[rows], h[rows]).values()).backward()  # type: ignore[union-attr]
        adam.step()
        schedule.step()
    return model.eval().requires_grad_(False)


def sampled(
    goal: float, prior: FourModes, score: AngularScore, x: Tensor, s: Tensor, amortised: FlowMatching
) -> dict[str, tuple[Tensor, float]]:
    """The points `(COUNT, 2)` of each method at one expected score, and the setting that reaches it."""
    h = torch.zeros(1, 1)
    threshold, strength = truncated_to(s, goal), tilted_to(s, goal)
    chosen = torch.multinomial(tilt(s, strength), COUNT, replacement=True, generator=seeded("tilt", str(goal)))
    accepted = x[s >= threshold][:COUNT]  # rejection
    ranked = s[:POOL].sort(descending=True)
    kept = int((ranked.values.cumsum(0) / torch.arange(1, POOL + 1) >= goal).sum())

    def drawn(build: Callable[[float], FiberModel]) -> Callable[[float], Tensor]:
        return lambda knob: build(knob).sample(h, COUNT, seeded("method", str(goal)))[:, 0]

    def guided(guidance: DPS | NDTM) -> Callable[[float], Tensor]:
        sampler = Ancestral(STEPS if isinstance(guidance, DPS) else STEPS // 2)
        return drawn(lambda knob: Guided(prior, score, guidance, ScoreEnergy(), sampler, knob))

    def optimised(knob: float) -> FiberModel:
        return PixelOptimisation(score, Regularised(1 / knob), 100, 0.1, total_variation=0.0, l2=0.0, noise=3.0)

    told = score(x[chosen])
    return {
        "hard": (accepted, threshold),
        "soft": (x[chosen], strength),
        "nearest neighbours": (x[:POOL][ranked.indices[:kept]], kept),
        "optimisation": calibrated(drawn(optimised), score, goal),
        "DPS": calibrated(guided(DPS()), score, goal),
        "NDTM": calibrated(guided(NDTM(gamma=1.0, inner=4)), score, goal),
        "amortised": (amortised.sample(told, 1, seeded("amortised", str(goal)))[0], strength),
    }


def calibrated(draw: Callable[[float], Tensor], score: AngularScore, goal: float) -> tuple[Tensor, float]:
    """The samples whose mean score is nearest to the goal, and the method's knob there."""
    found = calibrate(draw, score, goal, rounds=ROUNDS)
    return found.samples, found.strength


def scores(points: Tensor, goal: float, prior: FourModes, score: AngularScore, s: Tensor) -> dict[str, Any]:
    """What the samples of a method are: their expected score, boundary mass, divergence and Stein discrepancy."""
    own = score(points)[:, 0]
    threshold, strength = truncated_to(s, goal), tilted_to(s, goal)
    axis = torch.linspace(-SIDE, SIDE, CELLS)
    grid = torch.cartesian_prod(axis, axis)
    density, truth = kernel_density(points, grid, BANDWIDTH), prior.log_density(grid).exp()
    share, known = density / density.sum(), truth / truth.sum()
    with torch.enable_grad():
        at = points.clone().requires_grad_()
        law = prior.log_density(at) + strength * score(at)[:, 0]
        (slope,) = torch.autograd.grad(law.sum(), at)
    return {
        "samples": len(points),
        "score": float(own.mean()),
        "boundary_mass": float(((own >= threshold) & (own <= threshold + MARGIN)).double().mean()),
        "divergence": float(torch.special.xlogy(share, share / known.clamp(min=1e-30)).sum()),
        "stein": stein_discrepancy(points[:COUNT], slope[:COUNT]),
    }


def rounded(values: Any) -> Any:
    """Numbers with five significant digits."""
    if isinstance(values, dict):
        return {key: rounded(value) for key, value in values.items()}
    if isinstance(values, list):
        return [rounded(value) for value in values]
    return float(f"{values:.5g}") if isinstance(values, float) else values


def write_tables(values: dict[str, Any]) -> None:
    """The tables in Markdown."""
    law = {"goal": "E s", "law": "law", "knob": "t or lambda", "boundary_mass": "boundary mass"}
    law |= {"total_variation": f"TV of E s + {CHANGE:g}", "divergence": "KL to the prior"}
    draws = {"draws": "draws", "hard_mean": "hard", "hard_std": "hard, deviation"}
    draws |= {"soft_mean": "soft", "soft_std": "soft, deviation"}
    for name, titles in (("laws", law), ("stability", draws)):
        _write(name, list(titles.values()), [[row[key] for key in titles] for row in values[name]])
    known = {(row["goal"], row["method"]): row for row in values["methods"]}
    methods = dict.fromkeys(method for _, method in known)
    for name in ("divergence", "stein", "score"):
        lines = [[method, *(known[goal, method][name] for goal in GOALS)] for method in methods]
        _write(name, ["method", *(f"E s = {goal:g}" for goal in GOALS)], lines)


def _write(name: str, titles: list[str], rows: list[list[Any]]) -> None:
    lines = [titles, ["---"] * len(titles), *([_cell(value) for value in row] for row in rows)]
    write_text(OUT / f"{name}.md", "".join(f"| {' | '.join(line)} |\n" for line in lines))


def _cell(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def small(own: Any) -> Image.Image:
    """A figure in 32 colours."""
    return Image.fromarray((255 * as_tensor(own)).byte().permute(1, 2, 0).numpy()).quantize(32)


def figure(found: dict[tuple[float, str], Tensor], x: Tensor, s: Tensor) -> Any:
    """Densities of four methods, one row for each goal."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    names = ("soft", "hard", "optimisation", "DPS")
    own = Figure(figsize=(9, 7), dpi=70, layout="constrained")
    FigureCanvasAgg(own)
    for line, goal in zip(own.subplots(len(GOALS), len(names)), GOALS, strict=True):
        for axes, name in zip(line, names, strict=True):
            axes.scatter(*x[:3000].T.numpy(), s=1, color="0.88")
            axes.scatter(*found[goal, name].T.numpy(), s=2, color="#d1495b", alpha=0.5, linewidths=0)
            axes.set(xlim=(-SIDE, SIDE), ylim=(-SIDE, SIDE), xticks=[], yticks=[], aspect="equal")
            axes.set_title(f"{name}, E s = {goal:g}", fontsize=9)
    return own
