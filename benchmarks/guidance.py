"""Guided and refined models on colour MNIST: samples and scores every row, skipping what is done.

    python benchmarks/guidance.py [--only '[ndtm*]'] [--scale 0.1]

Each row is a config of `configs/colour_mnist` with a few of its keys changed. Rows that need minutes per
hundred targets are scored on fewer of them, as their `metrics.json` says; `colour_kl_floor` is what exact samples
score on as many.
"""

import subprocess
import sys
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from jsonargparse import auto_cli

CONFIGS = Path("configs/colour_mnist")
RESULTS = Path("results/colour_mnist")


@dataclass(frozen=True)
class Row:
    """One result.

    Args:
        config: the config's name.
        variant: what the result's name ends with.
        changes: keys below `model.init_args`, and their values.
        targets: test digits whose fibers are sampled.
        samples: samples of each.
        seed: of the samples.
    """

    config: str
    variant: str = ""
    changes: tuple[tuple[str, object], ...] = ()
    targets: int = 1000
    samples: int = 1
    seed: int = 0

    @property
    def name(self) -> str:
        """`<config>[-<variant>]`."""
        return self.config + (f"-{self.variant}" if self.variant else "")


GAMMAS = {1: 0.2, 2: 0.4, 5: 1.0, 10: 2.0}
"""The published strengths of NDTM, in units of the config's."""

STEPS, INNER = "sampler.init_args.steps", "guidance.init_args"
ABLATIONS = {
    "base": (),
    "steps25": ((STEPS, 25), ("strength", 2.0)),
    "steps100": ((STEPS, 100), ("strength", 0.5)),
    "inner2": ((f"{INNER}.inner", 2),),
    "inner5": ((f"{INNER}.inner", 5),),
    "kappa0": ((f"{INNER}.kappa", 0.0),),
    "kappa0.1": ((f"{INNER}.kappa", 0.1),),
    "tau0.01": ((f"{INNER}.tau", 0.01),),
    "tau1": ((f"{INNER}.tau", 1.0),),
    "renoised": (),
}
"""Of NDTM at gamma 5; the steps with the total control kept."""

STUDY = [
    *(
        Row("feedback-flow_map", f"steps1-size{size}", (("steps", 1), ("step_size", size)), targets=10_000, samples=4)
        for size in (0.5, 1.25)
    ),
    *(
        Row("feedback-flow_map", f"steps1-seed{seed}", (("steps", 1),), targets=10_000, samples=4, seed=seed)
        for seed in (1, 2)
    ),
    Row("feedback-flow_map", "steps6-memory2", (("steps", 6), ("memory", 2)), targets=10_000, samples=4),
]
"""Of condition feedback: its step, its secants, other seeds."""

ROWS = [
    *(
        Row("feedback-flow_map", f"steps{steps}", (("steps", steps),), targets=10_000, samples=4)
        for steps in (1, 2, 3, 6)
    ),
    *(
        Row(f"feedback-{model}", targets=10_000, samples=4)
        for model in ("decoded_noise", "flow_matching", "normalizing_flow", "flow_matching-vae")
    ),
    *STUDY,
    *(Row(f"projection-{model}") for model in ("flow_map", "flow_matching", "normalizing_flow", "flow_matching-vae")),
    Row("langevin-flow_matching-vae", targets=500),
    Row("latent_descent"),
    Row("pixel_descent"),
    Row("prior_samples", targets=2000),
    *(Row("ndtm", f"gamma{gamma}", (("strength", strength),)) for gamma, strength in GAMMAS.items()),
    *(Row("ndtm-uncorrelated", f"gamma{gamma}", (("strength", strength),)) for gamma, strength in GAMMAS.items()),
    *(Row("ndtm-pixels", f"gamma{gamma}", (("strength", strength),), 128) for gamma, strength in GAMMAS.items()),
    *(
        Row("ndtm-pixels-uncorrelated", f"gamma{gamma}", (("strength", strength),), 128)
        for gamma, strength in GAMMAS.items()
    ),
    *(Row("ndtm-ablation", variant, changes, 200) for variant, changes in ABLATIONS.items()),
    *(Row("ndtm-flow_matching", f"gamma{gamma}", (("strength", strength),)) for gamma, strength in GAMMAS.items()),
    *(Row("dps", f"scale{scale:g}", (("strength", scale),)) for scale in (0.3, 1.0, 3.0)),
    *(Row("dps-flow_matching", f"scale{scale:g}", (("strength", scale),)) for scale in (0.3, 1.0, 3.0)),
    *(
        Row("dps-target_rms", f"{goal:g}", (("target_rms", goal),), targets=200, samples=4)
        for goal in (0.35, 0.28, 0.22)
    ),
    Row("moment_matching", targets=100),
    Row("equidiff", targets=32),
    Row("dig_in", targets=32),
    Row("maco", targets=64),
    Row("pixel_optimisation", targets=64),
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
"""What the figure shows beside them (`benchmarks/colour_mnist.py`)."""


def call(*arguments: object) -> None:
    """Runs one of the project's scripts; its output and its failure are ours."""
    command = [sys.executable, *map(str, arguments)]
    print("$ python " + " ".join(command[1:]), flush=True)
    subprocess.run(command, check=True)


def main(only: list[str] | None = None, scale: float = 1.0, results: Path = RESULTS) -> None:
    """Samples and scores.

    Args:
        only: patterns of results' names, to do alone.
        scale: share of each row's targets.
        results: the folder of the results.
    """
    for row in ROWS:
        out = results / row.name
        if (out / "metrics.json").exists() or (only and not any(fnmatch(row.name, pattern) for pattern in only)):
            continue
        config = "ndtm" if row.config == "ndtm-ablation" else row.config
        config += "-renoised" if row.variant == "renoised" else ""
        changes = [part for key, value in row.changes for part in (f"--model.init_args.{key}", value)]
        size = (
            "--num_targets",
            max(2, int(scale * row.targets)),
            "--samples_per_target",
            row.samples,
            "--seed",
            row.seed,
        )
        call("evaluate.py", "--model", CONFIGS / f"{config}.yaml", *changes, *size, "--out", out, "--name", row.name)
    ablations = [row.name for row in ROWS if row.config == "ndtm-ablation"]
    study = [row.name for row in STUDY]
    others = [*AMORTISED, *(row.name for row in ROWS if row.name not in (*ablations, *study))]
    steps = [row.name for row in ROWS if row.config == "feedback-flow_map"]
    for table, names in (("guidance", others), ("ndtm_ablation", ablations), ("feedback", steps)):
        done = [results / name for name in names if (results / name / "metrics.json").exists()]
        if done:
            call("evaluate.py", "--compare", *done, "--out", results / table, "--overwrite", "true")


if __name__ == "__main__":
    auto_cli(main)
