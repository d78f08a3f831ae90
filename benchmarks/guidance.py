"""Guided and refined models on colour MNIST: it samples and scores every row, and skips finished ones.

    python benchmarks/guidance.py [--only '[ndtm*]'] [--scale 0.1]

Each row is a config of `configs/colour_mnist` with a few changed keys. Slow rows have fewer targets (see their
`metrics.json`); `colour_kl_floor` is the score of as many exact samples.
"""

from collections.abc import Mapping
from pathlib import Path

from jsonargparse import auto_cli
from runner import Row, compare, score, scored, wanted

CONFIGS = Path("configs/colour_mnist")
PARTS = Path("configs/parts/colour_mnist")
RESULTS = Path("results/colour_mnist")

GAMMAS = {1: 0.2, 2: 0.4, 5: 1.0, 10: 2.0}
"""The published gammas of NDTM, and the strength of the config that gives each."""

NOISE = {"model": PARTS / "decoded_noise.yaml"}
MODELS = {
    name: {"model": PARTS / f"{name}.yaml"} for name in ("flow_matching", "normalizing_flow", "flow_matching-vae")
}
"""Models that replace the config's own model."""

LATENTS = {"over": "latents", "iterations": 5}
PIXELS = '{"class_path": "fibermodels.latents.Identity", "init_args": {"image_shape": [3, 28, 28]}}'
DDIM = '{"class_path": "fibermodels.diffusion.DDIM", "init_args": {"steps": 20}}'
ON_FLOW = {"prior": PARTS / "flow_matching-vae.yaml", "sampler": DDIM}
"""Changes of the unknown, the latent space, and the prior."""

ENERGY = {
    "model.init_args.prior": PARTS / "prior.yaml",
    "model.init_args.sampler": '{"class_path": "fibermodels.diffusion.Ancestral", "init_args": {"steps": 50}}',
}
"""EnergyDPS with the negative distance as score, on the unconditional prior, at a fiber RMS of .28."""

STEPS, INNER = "sampler.init_args.steps", "guidance.init_args"
ABLATIONS = {
    "base": {},
    "steps25": {STEPS: 25, "strength": 2.0},
    "steps100": {STEPS: 100, "strength": 0.5},
    "inner2": {f"{INNER}.inner": 2},
    "inner5": {f"{INNER}.inner": 5},
    "kappa0": {f"{INNER}.kappa": 0.0},
    "kappa0.1": {f"{INNER}.kappa": 0.1},
    "tau0.01": {f"{INNER}.tau": 0.01},
    "tau1": {f"{INNER}.tau": 1.0},
}
"""Changes of NDTM at gamma 5; other numbers of steps keep the total control."""


def feedback(variant: str, steps: int, seed: int = 0, **changes: object) -> Row:
    """Condition feedback on the flow map, on all test digits."""
    own = {"steps": steps, **changes}
    knobs = {name: float(value) for name, value in own.items() if isinstance(value, (int, float))}
    name = f"feedback-flow_map-{variant}"
    return Row(name, "feedback", "feedback-flow_map", knobs, own, targets=10_000, samples=4, seed=seed)


def ndtm(series: str, config: str = "ndtm", targets: int = 1000, **changes: object) -> list[Row]:
    """NDTM on a prior, at the published strengths."""
    return [
        Row(f"{series}-gamma{gamma}", config, series, {"gamma": gamma}, {"strength": strength, **changes}, targets)
        for gamma, strength in GAMMAS.items()
    ]


def dps(series: str, changes: Mapping[str, object] | None = None) -> list[Row]:
    """DPS on a prior, at three scales."""
    return [
        Row(f"{series}-scale{scale:g}", "dps", series, {"scale": scale}, {"strength": scale, **(changes or {})})
        for scale in (0.3, 1.0, 3.0)
    ]


STUDY = [
    *(feedback(f"steps1-size{size}", 1, step_size=size) for size in (0.5, 1.25)),
    *(feedback(f"steps1-seed{seed}", 1, seed) for seed in (1, 2)),
    feedback("steps6-memory2", 6, memory=2),
]
"""Condition feedback with other step sizes, with secants, and with other seeds."""

FEEDBACK = [*(feedback(f"steps{steps}", steps) for steps in (1, 2, 3, 6)), *STUDY]
ABLATED = [
    *(Row(f"ndtm-ablation-{name}", "ndtm", changes=changes, targets=200) for name, changes in ABLATIONS.items()),
    Row("ndtm-ablation-renoised", "ndtm-renoised", targets=200),
]
ROWS = [
    *FEEDBACK,
    *(
        Row(f"feedback-{name}", "feedback", changes=changes, targets=10_000, samples=4)
        for name, changes in {"decoded_noise": NOISE, **MODELS}.items()
    ),
    Row("projection-flow_map", "projection"),
    *(Row(f"projection-{name}", "projection", changes=MODELS[name]) for name in ("flow_matching", "normalizing_flow")),
    Row("projection-flow_matching-vae", "projection", changes=MODELS["flow_matching-vae"] | LATENTS),
    Row("langevin-flow_matching-vae", "langevin", targets=500),
    Row("latent_descent", "latent_descent"),
    Row("pixel_descent", "latent_descent", changes={"latents": PIXELS}),
    Row("prior_samples", "prior_samples", targets=2000),
    *ndtm("ndtm"),
    *ndtm("ndtm-uncorrelated", prior=PARTS / "prior-uncorrelated.yaml"),
    *ndtm("ndtm-pixels", targets=128, prior=PARTS / "prior-pixels.yaml"),
    *ndtm("ndtm-pixels-uncorrelated", targets=128, prior=PARTS / "prior-pixels-uncorrelated.yaml"),
    *ABLATED,
    *ndtm("ndtm-flow_matching", "ndtm-flow_matching"),
    *dps("dps"),
    *dps("dps-flow_matching", ON_FLOW),
    *(
        Row(
            f"dps-target_rms-{goal:g}",
            "dps-target_rms",
            "dps-target_rms",
            {"target": goal},
            {"target_rms": goal},
            200,
            4,
        )
        for goal in (0.35, 0.28, 0.22)
    ),
    Row("energy_dps-target_rms-0.28", "dps-target_rms", changes=ENERGY, targets=200, samples=4),
    Row("moment_matching", "moment_matching", targets=100),
    Row("equidiff", "equidiff", targets=32),
    Row("dig_in", "dig_in", targets=32),
    Row("maco", "maco", targets=64),
    Row("pixel_optimisation", "pixel_optimisation", targets=64),
]

AMORTISED = (
    "oracle",
    "reconstruction",
    "reconstruction-vae",
    "decoded_noise",
    "flow_map-distilled",
    "flow_matching",
    "normalizing_flow",
    "flow_matching-vae",
    "flow_matching-lambda10-vae",
)
"""Further rows of the figure, from `benchmarks/colour_mnist.py`."""

NAMED = (
    *("oracle", "reconstruction", "flow_map-distilled", "flow_matching-vae", "feedback-flow_map"),
    *("ndtm", "ndtm-flow_matching", "ndtm-pixels", "dps", "pixel_descent"),
)
"""The curves that the figure names."""


def main(only: list[str] | None = None, scale: float = 1.0, results: Path = RESULTS) -> None:
    """Samples, scores and compares.

    Args:
        only: patterns of results' names; others are skipped.
        scale: share of each row's targets.
        results: the folder of the results.
    """
    for row in ROWS:
        if wanted(row.name, only) and not scored(results / row.name):
            score(row, CONFIGS, results, scale=scale)
    compare_all(results)


def compare_all(results: Path = RESULTS) -> None:
    """A table and a figure of the methods, of the settings of NDTM, and of those of feedback."""
    aside = [row.name for row in (*ABLATED, *STUDY)]
    shown = [*AMORTISED, *(row.name for row in ROWS if row.name not in aside)]
    compare([results / name for name in shown], results / "guidance", named=NAMED)
    compare([results / row.name for row in ABLATED], results / "ndtm_ablation")
    compare([results / row.name for row in FEEDBACK], results / "feedback")


if __name__ == "__main__":
    auto_cli(main)
