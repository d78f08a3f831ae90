"""One general configuration on every suite: the same lines of YAML, with the shapes of the suite's images. Only the
trainings on blobs and on orbits have one number of their own, the memory of the optimizer.

    FIBERMODELS_DATA=... python benchmarks/general.py [--suites '[blobs]'] [--seeds '[0,1,2]'] [--others true]

It trains a `FiberAutoencoder` and flow matching over it (`configs/general/`), and scores five rows for each suite:
`general-reconstruction` (exact samples, encoded and decoded), `general-decoded_noise` (no density), `general-density`
(the flow in four calls), `general` (with three corrections of what the decoder is told) and `general-steps8` (the flow
in 16 calls, and the same corrections). `--others true` adds what else can be trained over the same latent space: a flow
map that starts from the flow, a generator by the energy score, and a learned correction of the flow. The script skips
finished work and resumes interrupted work.
"""

from pathlib import Path

from jsonargparse import auto_cli
from runner import RUNS, Row, call, publish, score_run, scored, train, wanted
from suites import GENERAL, LEARNER, OTHERS, RESULTS, SUITES, WEIGHTS, compare_all, world

CONFIGS = Path("configs/general")
SPACE = Path("configs/parts/colour_digits/fiber_autoencoder.yaml")
PUBLISHED = ("colour_digits",)
"""Suites whose weights of the first seed are committed."""
MODEL = "--model.init_args"


def folder(suite: str, seed: int) -> Path:
    """Where the weights of a suite are."""
    return WEIGHTS / suite if suite in PUBLISHED and not seed else RUNS / suite / f"general-{seed}"


def over(key: str, suite: str, weights: Path) -> list[object]:
    """The options that put a suite's trained latent space at `key`."""
    own, setting = f"{key}.init_args", SUITES[suite]
    shapes = (f"{own}.image_shape", setting.image_shape, f"{own}.feature_shape", setting.feature_shape)
    return [key, SPACE, *shapes, f"{own}.weights", weights]


def trained(suite: str, seed: int) -> tuple[Path, Path]:
    """The weights of the latent space and of the density over it."""
    out, same = folder(suite, seed), ("--seed_everything", seed)
    space, density = out / "fiber_autoencoder", out / "flow_matching"
    if not space.with_suffix(".safetensors").exists():
        shape = (f"{LEARNER}.image_shape", SUITES[suite].image_shape)
        size = ("--data.init_args.batch_size", 96, "--model.beta2", SUITES[suite].beta2)  # more steps per image
        name = f"{suite}/fiber_autoencoder-{seed}"
        last = train(CONFIGS / "fiber_autoencoder.yaml", name, *world(suite), *shape, *size, *same)
        publish(last, space, "--half", "true")
    weights = space.with_suffix(".safetensors")
    if not density.with_suffix(".safetensors").exists():
        latents = over(f"{LEARNER}.latents", suite, weights)
        name = f"{suite}/general-{seed}"
        publish(train(CONFIGS / "flow_matching.yaml", name, *world(suite), *latents, *same), density, "--half", "true")
    return weights, density.with_suffix(".safetensors")


def train_other(suite: str, kind: str, weights: Path, density: Path) -> Path:
    """Trains another model over the latent space, and returns its checkpoint."""
    own = over(f"{LEARNER}.latents", suite, weights)
    start = ["--adapt_from", density] if kind == "flow_map" else []
    return train(CONFIGS / f"{kind}.yaml", f"{suite}/general-{kind}", *world(suite), *own, *start)


def options(suite: str, name: str, weights: Path, density: Path) -> list[object]:
    """The options of `evaluate.py` for a row."""
    if name in ("general-reconstruction", "general-decoded_noise"):
        config = Path("configs/colour_mnist") / f"{name.removeprefix('general-')}.yaml"
        return ["--model", config, *world(suite), *over(f"{MODEL}.latents", suite, weights)]
    inner = f"{MODEL}.model.init_args"
    found: list[object] = ["--model", CONFIGS / "feedback.yaml", *world(suite)]
    found += [*over(f"{inner}.latents", suite, weights), f"{inner}.feature_shape", SUITES[suite].feature_shape]
    found += [f"{inner}.weights", density]
    if name == "general-density":
        found += [f"{MODEL}.steps", 0]
    if name == "general-steps8":
        found += [f"{inner}.sampler.init_args.steps", 8]
    return found


def main(
    suites: list[str] | None = None, seeds: list[int] | None = None, others: bool = False, num_targets: int = 2000
) -> None:
    """Trains, scores and compares.

    Args:
        suites: names of suites; all if not given.
        seeds: of the trainings and the samples, by default 0; other seeds have one row each, `general-seed<seed>`.
        others: trains and scores the rows `general-KIND` of `OTHERS`, too, with seed 0.
        num_targets: test images whose fibers are sampled, 9 times each.
    """
    for suite in (suite for suite in SUITES if wanted(suite, suites)):
        for seed in seeds or [0]:
            rows = {name: name for name in GENERAL} if not seed else {f"general-seed{seed}": "general"}
            if all(scored(RESULTS / suite / name) for name in rows):
                continue
            weights, density = trained(suite, seed)
            for name, kind in rows.items():
                if not scored(RESULTS / suite / name):
                    row = Row(name, series=kind, targets=num_targets, samples=9, seed=seed)
                    call(
                        "evaluate.py",
                        *options(suite, kind, weights, density),
                        *row.options(),
                        "--out",
                        RESULTS / suite / name,
                    )
        for name in OTHERS if others else ():
            if not scored(RESULTS / suite / name):
                last = train_other(suite, name.removeprefix("general-"), *trained(suite, 0))
                score_run(Row(name, series=name, targets=num_targets, samples=9), last, RESULTS / suite)
    compare_all()


if __name__ == "__main__":
    auto_cli(main)
