"""The suites of known fibers: it trains a plain VAE and every family in it, and scores them beside the truth.

    FIBERMODELS_DATA=... python benchmarks/suites.py [--suites '[blobs]'] [--only '[flow_*]'] [--epochs 6]

Every suite has the same rows and the same budget: a VAE with 54 latents, each family without fiber loss, a continuation
with it, guidance over an unconditional prior, and refinement of the flow map. It skips finished work and resumes
interrupted work; `--show_only true` lists what is left and does nothing.
"""

from dataclasses import dataclass
from pathlib import Path

from jsonargparse import auto_cli
from runner import RUNS, Row, call, compare, publish, score_run, scored, show, train, wanted

CONFIGS = Path("configs/colour_mnist")
PARTS = Path("configs/parts")
RESULTS = Path("results")
WEIGHTS = Path("data/weights")

SHAPES = {
    "dependent_colours": "[3,28,28]",
    "textured_digits": "[3,28,28]",
    "blobs": "[3,32,32]",
    "orbits": "[1,32,32]",
}
"""The suites, and the shapes of their images."""
FAMILIES = (
    "flow_matching",
    "normalizing_flow",
    "diffusion",
    "flow_map",
    "free_form_flow",
    "denoising_flow",
    "multilevel_flow",
    "free_form_injective_flow",
)
LAMBDAS = (0, 10)
LEARNER = "--model.learner.init_args"
VAE_EPOCHS = 20
SIGMAS = {"textured_digits": 0.02, "blobs": 0.02}
"""The deviation of a pixel in the VAE, where it is not .05: the subjects of these suites amplify errors of pixels."""


def world(suite: str) -> list[object]:
    """The options that name the data and the subject of a suite."""
    return ["--data", PARTS / suite / "data.yaml", "--subject", PARTS / suite / "subject.yaml"]


@dataclass(frozen=True)
class Trained:
    """A trained family at a lambda: the first starts at random, and a continuation starts from it."""

    family: str
    weight: int = 0

    @property
    def name(self) -> str:
        """`<family>[-lambda<weight>]`."""
        return self.family + (f"-lambda{self.weight}" if self.weight else "")

    def train(self, suite: str, epochs: int) -> Path:
        """Trains it, unless it is trained, and returns its last checkpoint."""
        config, latents = CONFIGS / f"{self.family}.yaml", (f"{LEARNER}.latents", PARTS / suite / "vae.yaml")
        injective = (f"{LEARNER}.bottleneck", 6) if self.family == "free_form_injective_flow" else ()
        base = train(
            config, f"{suite}/{self.family}", *world(suite), *latents, *injective, "--trainer.max_epochs", epochs
        )
        if not self.weight:
            return base
        more = ("--model.fiber.weight", self.weight, "--trainer.max_epochs", max(1, epochs // 2))
        start = ("--start_from", base, "--model.learning_rate", 5e-4, "--ema_decay", 0.99)
        return train(config, f"{suite}/{self.name}", *world(suite), *latents, *injective, *start, *more)


POINTS = [Trained(family, weight) for family in FAMILIES for weight in LAMBDAS]


def space(suite: str) -> None:
    """Trains and exports the suite's VAE."""
    out = WEIGHTS / suite / "vae"
    if not out.with_suffix(".safetensors").exists():
        own = (f"{LEARNER}.image_shape", SHAPES[suite], f"{LEARNER}.sigma", SIGMAS.get(suite, 0.05))
        train(CONFIGS / "vae.yaml", f"{suite}/vae", *world(suite), *own, "--trainer.max_epochs", VAE_EPOCHS)
        publish(RUNS / suite / "vae/checkpoints/best.ckpt", out, "--half", "true")


def exported(suite: str, name: str, point: Trained, epochs: int) -> Path:
    """The exported weights of a trained model."""
    out = RUNS / suite / name / "model"
    publish(point.train(suite, epochs), out)
    return out.with_suffix(".safetensors")


def prior(suite: str, epochs: int) -> Path:
    """The exported weights of the unconditional prior that guidance steers."""
    latents = (f"{LEARNER}.latents", PARTS / suite / "vae.yaml")
    last = train(CONFIGS / "prior.yaml", f"{suite}/prior", *world(suite), *latents, "--trainer.max_epochs", 2 * epochs)
    publish(last, RUNS / suite / "prior/model")
    return RUNS / suite / "prior/model.safetensors"


BASELINES = ("oracle", "nearest_neighbour", "reconstruction", "decoded_noise")
WRAPPERS = ("ndtm", "feedback", "projection")
NAMES = [*BASELINES, *(point.name for point in POINTS), *WRAPPERS]
"""The results of a suite, in the order of the work."""


def untrained_options(suite: str, name: str, epochs: int) -> list[object]:
    """What a config of colour MNIST changes for another suite."""
    own, vae = "--model.init_args", PARTS / suite / "vae.yaml"
    match name:
        case "reconstruction" | "decoded_noise":
            return [f"{own}.latents", vae]
        case "ndtm":
            weights = prior(suite, epochs)
            return [f"{own}.prior.init_args.latents", vae, f"{own}.prior.init_args.weights", weights]
        case "feedback" | "projection":
            weights = exported(suite, "flow_map", Trained("flow_map"), epochs)
            inner = f"{own}.model.init_args"
            subject = FEATURES[suite]
            over = [f"{own}.over", "latents"] if name == "projection" else []  # this decoder is not told `h`
            return [*over, f"{inner}.latents", vae, f"{inner}.feature_shape", subject, f"{inner}.weights", weights]
    return []


FEATURES = {"dependent_colours": "[48]", "textured_digits": "[48]", "blobs": "[16]", "orbits": "[544]"}
"""The shapes of the representations."""


def main(
    suites: list[str] | None = None,
    only: list[str] | None = None,
    epochs: int = 6,
    num_targets: int = 1000,
    samples_per_target: int = 4,
    seed: int = 0,
    show_only: bool = False,
) -> None:
    """Trains, scores and compares.

    Args:
        suites: names of suites; all if not given.
        only: patterns of results' names; others are skipped.
        epochs: of each training without fiber loss; continuations take half of them.
        num_targets: test images whose fibers are sampled; NDTM takes a fifth of them.
        samples_per_target: samples of each fiber.
        seed: seed of the samples.
        show_only: lists finished and missing results.
    """
    chosen = [suite for suite in SHAPES if wanted(suite, suites)]
    if show_only:
        left = {suite: [name for name in NAMES if not scored(RESULTS / suite / name)] for suite in chosen}
        show(["suite", "done", "left"], [(s, len(NAMES) - len(own), " ".join(own)) for s, own in left.items()])
        return
    points = {point.name: point for point in POINTS}
    for suite in chosen:
        space(suite)
        results = RESULTS / suite
        for name in NAMES:
            if not wanted(name, only) or scored(results / name):
                continue
            targets = num_targets // 5 if name == "ndtm" else num_targets
            row = Row(name, series=name.partition("-")[0], targets=targets, samples=samples_per_target, seed=seed)
            if name in points:
                score_run(row, points[name].train(suite, epochs), results)
            else:
                model = ("--model", CONFIGS / f"{name}.yaml", *world(suite), *untrained_options(suite, name, epochs))
                call("evaluate.py", *model, *row.options(), "--out", results / name)
    compare_all()


def compare_all() -> None:
    """Writes a comparison of each suite, and a figure with a panel for each."""
    from fibermodels.evaluation.figures import write_comparison
    from fibermodels.evaluation.results import read_results

    rows = []
    for suite in SHAPES:
        folders = [RESULTS / suite / name for name in NAMES if scored(RESULTS / suite / name)]
        compare(folders, RESULTS / suite)
        rows += read_results(folders)
    write_comparison(rows, RESULTS / "suites")


if __name__ == "__main__":
    auto_cli(main)
