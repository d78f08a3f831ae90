"""The suites of known fibers: it trains a plain VAE and every family in it, and scores them beside the truth.

    FIBERMODELS_DATA=... python benchmarks/suites.py [--suites '[blobs]'] [--only '[flow_*]'] [--epochs 6]

Every suite has the same rows: a VAE with 54 latents, each family without fiber loss, flow matching continued with it,
guidance over an unconditional prior, and refinement of the flow map. `colour_digits` is the published setting: it has
more training steps, continuations of every family, and NDTM at the published strengths. The script skips finished work
and resumes interrupted work; `--show_only true` lists what is left and does nothing.
"""

from dataclasses import dataclass
from pathlib import Path

from guidance import GAMMAS
from jsonargparse import auto_cli
from published import against_guidance, beside_published
from runner import RUNS, Row, call, compare, publish, score_run, scored, show, train, wanted

CONFIGS = Path("configs/colour_mnist")
PARTS = Path("configs/parts")
RESULTS = Path("results")
WEIGHTS = Path("data/weights")


@dataclass(frozen=True)
class Setting:
    """A suite's images and budget.

    Args:
        image_shape: of its images.
        feature_shape: of the representations.
        sigma: the deviation of a pixel in the VAE: small where the subject amplifies errors of pixels.
        vae: the config of the VAE.
        vae_epochs: of the VAE's training.
        vae_batch: its images per step.
        fiber_dims: dimensions of the noise of the injective families, at least those of the fiber.
        epochs: of each training without fiber loss; the prior takes twice as many, injective families, whose steps
            cost more, half as many in the published setting.
        beta2: AdamW's memory of squared gradients in the training of the general latent space: .99 where a longer one
            let a training collapse.
        lambdas: of the continuations: of every family in the published setting, elsewhere of flow matching alone. The
            largest of them is too large for a latent space without the condition.
    """

    image_shape: str = "[3,28,28]"
    feature_shape: str = "[48]"
    sigma: float = 0.05
    vae: Path = CONFIGS / "vae.yaml"
    vae_epochs: int = 20
    vae_batch: int = 256
    fiber_dims: int = 6
    epochs: int = 6
    beta2: float = 0.999
    lambdas: tuple[float, ...] = (0.2, 10)


SUITES = {
    "colour_digits": Setting(vae_epochs=100, epochs=24, lambdas=(0.02, 0.2, 2)),
    "dependent_colours": Setting(),
    "textured_digits": Setting(sigma=0.02, fiber_dims=18),
    "blobs": Setting("[3,32,32]", "[16]", sigma=0.02, beta2=0.99),
    "orbits": Setting(
        "[1,32,32]",
        "[544]",
        vae=Path("configs/orbits/vae.yaml"),
        vae_epochs=8,
        vae_batch=64,
        beta2=0.99,
        lambdas=(),  # its VAE alone takes half an hour
    ),
}
PAPER = "colour_digits"
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
DIMENSIONS = 54
"""Of every VAE."""
CONTINUED = 3
"""Epochs of each continuation with fiber loss."""
LEARNER = "--model.learner.init_args"


def world(suite: str) -> list[object]:
    """The options that name the data and the subject of a suite."""
    return ["--data", PARTS / suite / "data.yaml", "--subject", PARTS / suite / "subject.yaml"]


@dataclass(frozen=True)
class Trained:
    """A trained family at a lambda: the first starts at random, and a continuation starts from it.

    Args:
        family: the config's name.
        weight: lambda.
        fiber_dims: of the noise of an injective family; 0 for the suite's.
        times: how many times the epochs of the suite it is trained for.
    """

    family: str
    weight: float = 0
    fiber_dims: int = 0
    times: int = 1

    @property
    def series(self) -> str:
        """`<family>[-dim<fiber_dims>][-times<times>]`."""
        dims = f"-dim{self.fiber_dims}" if self.fiber_dims else ""
        return self.family + dims + (f"-times{self.times}" if self.times > 1 else "")

    @property
    def name(self) -> str:
        """`<series>[-lambda<weight>]`."""
        return self.series + (f"-lambda{self.weight:g}" if self.weight else "")

    def options(self, suite: str) -> list[object]:
        """What the config of the family changes for a suite."""
        dims = self.fiber_dims or SUITES[suite].fiber_dims
        own = {
            "free_form_injective_flow": ("bottleneck", dims),
            "denoising_flow": ("manifold_dim", dims),
            "multilevel_flow": ("coarse_dim", DIMENSIONS - dims),
        }
        key, value = own.get(self.family, ("", 0))
        more = [f"{LEARNER}.{key}", value] if key else []
        return [*world(suite), f"{LEARNER}.latents", PARTS / suite / "vae.yaml", *more]

    def train(self, suite: str, epochs: int) -> Path:
        """Trains it, unless it is trained, and returns its last checkpoint."""
        config, options = CONFIGS / f"{self.family}.yaml", self.options(suite)
        if suite == PAPER and self.family in INJECTIVE:
            epochs //= 2
        base = train(config, f"{suite}/{self.series}", *options, "--trainer.max_epochs", epochs * self.times)
        if not self.weight:
            return base
        more = ("--model.fiber.weight", self.weight, "--trainer.max_epochs", CONTINUED)
        start = ("--start_from", base, "--model.learning_rate", 5e-4, "--ema_decay", 0.99)
        return train(config, f"{suite}/{self.name}", *options, *start, *more)


INJECTIVE = ("denoising_flow", "multilevel_flow", "free_form_injective_flow")
LONG, LONGER = ("flow_matching", "multilevel_flow", "free_form_injective_flow"), 5
"""Families that are also trained so many times as long in the published setting."""


def points(suite: str) -> dict[str, Trained]:
    """The trained models of a suite, by name."""
    continued = dict.fromkeys(FAMILIES if suite == PAPER else ("flow_matching",), SUITES[suite].lambdas)
    if suite == PAPER:
        continued["diffusion"] = (0.2,)  # its fiber loss passes through 15 calls
    found = [Trained(family, weight) for family in FAMILIES for weight in (0, *continued.get(family, ()))]
    if suite == PAPER:
        found += [Trained(family, 0, 3) for family in INJECTIVE]
        found += [Trained(family, times=LONGER) for family in LONG]
    return {point.name: point for point in found}


def space(suite: str) -> None:
    """Trains and exports the suite's VAE."""
    out, setting = WEIGHTS / suite / "vae", SUITES[suite]
    if out.with_suffix(".safetensors").exists():
        return
    own = (f"{LEARNER}.image_shape", setting.image_shape, f"{LEARNER}.sigma", setting.sigma)
    size = ("--trainer.max_epochs", setting.vae_epochs, "--data.init_args.batch_size", setting.vae_batch)
    train(setting.vae, f"{suite}/vae", *world(suite), *own, *size)
    publish(RUNS / suite / "vae/checkpoints/best.ckpt", out, "--half", "true")


def exported(suite: str, point: Trained, epochs: int) -> Path:
    """The exported weights of a trained model."""
    out = RUNS / suite / point.name / "model"
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
GENERAL = ("general-reconstruction", "general-decoded_noise", "general-density", "general", "general-steps8")
"""The rows of `general.py`."""
OTHERS = ("general-flow_map", "general-energy_score")
"""Further rows of `general.py --others true`."""
SEEDS = tuple(f"general-seed{seed}" for seed in (1, 2))
"""Rows of `general.py --seeds '[1,2]'`, which repeat `general`."""
NAMED = (
    *("oracle", "nearest_neighbour", "reconstruction", "flow_matching", "flow_map"),
    *("ndtm", "projection", "general", "general-steps8"),
)
"""What the figure of all suites names."""
STEERED = {
    f"{config}-gamma{gamma}": (config, strength)
    for config in ("ndtm", "ndtm-renoised")
    for gamma, strength in GAMMAS.items()
}
"""NDTM in the published setting: the config and its strength for each published gamma."""


def names(suite: str) -> list[str]:
    """The results of a suite, in the order of the work."""
    wrappers = ("prior_samples", *STEERED, "feedback", "projection") if suite == PAPER else WRAPPERS
    return [*BASELINES, *points(suite), *wrappers]


def untrained(suite: str, name: str, epochs: int) -> list[object]:
    """The options of `evaluate.py` for a result that is not a trained run: a config of colour MNIST, changed."""
    own, vae = "--model.init_args", PARTS / suite / "vae.yaml"
    config, strength = STEERED.get(name, (name, 1.0))
    options: list[object] = ["--model", CONFIGS / f"{config}.yaml", *world(suite)]
    if name in ("reconstruction", "decoded_noise"):
        return [*options, f"{own}.latents", vae]
    if name == "prior_samples" or config.startswith("ndtm"):
        inner = f"{own}.model.init_args" if config == "ndtm-renoised" else own
        guide = f"{inner}.prior.init_args"
        options += [f"{guide}.latents", vae, f"{guide}.weights", prior(suite, epochs)]
        if name in STEERED:
            options += [f"{inner}.strength", strength, f"{inner}.sampler.init_args.spacing", "even"]
    if name in ("feedback", "projection"):
        weights, inner = exported(suite, Trained("flow_map"), epochs), f"{own}.model.init_args"
        over = [f"{own}.over", "latents"] if name == "projection" else []  # this decoder is not told `h`
        shape = [f"{inner}.feature_shape", SUITES[suite].feature_shape]
        options += [*over, f"{inner}.latents", vae, *shape, f"{inner}.weights", weights]
    return options


def main(
    suites: list[str] | None = None,
    only: list[str] | None = None,
    epochs: int | None = None,
    num_targets: int = 1000,
    samples_per_target: int = 4,
    seed: int = 0,
    show_only: bool = False,
) -> None:
    """Trains, scores and compares.

    Args:
        suites: names of suites; all if not given.
        only: patterns of results' names; others are skipped.
        epochs: of each training without fiber loss; by default those of the suite.
        num_targets: test images whose fibers are sampled; NDTM takes a fifth of them.
        samples_per_target: samples of each fiber.
        seed: seed of the samples.
        show_only: lists finished and missing results.
    """
    chosen = [suite for suite in SUITES if wanted(suite, suites)]
    if show_only:
        left = {suite: [name for name in names(suite) if not scored(RESULTS / suite / name)] for suite in chosen}
        rows = [(suite, len(names(suite)) - len(own), " ".join(own)) for suite, own in left.items()]
        show(["suite", "done", "left"], rows)
        return
    for suite in chosen:
        space(suite)
        results, trained, budget = RESULTS / suite, points(suite), epochs or SUITES[suite].epochs
        for name in names(suite):
            if not wanted(name, only) or scored(results / name):
                continue
            series, _, knob = name.partition("-gamma")
            row = Row(
                name,
                series=trained[name].series if name in trained else series,
                knobs={"gamma": float(knob)} if knob else {},
                targets=num_targets // 5 if name.startswith("ndtm") else num_targets,
                samples=samples_per_target,
                seed=seed,
            )
            if name in trained:
                score_run(row, trained[name].train(suite, budget), results)
            else:
                call("evaluate.py", *untrained(suite, name, budget), *row.options(), "--out", results / name)
    compare_all()


def compare_all() -> None:
    """Writes a comparison of each suite, a figure with a panel for each, and the table beside the published figures."""
    from fibermodels.evaluation.figures import write_comparison
    from fibermodels.evaluation.results import read_results

    rows = []
    for suite in SUITES:
        folders = [
            RESULTS / suite / name
            for name in (*names(suite), *GENERAL, *OTHERS, *SEEDS)
            if scored(RESULTS / suite / name)
        ]
        compare(folders, RESULTS / suite)
        rows += read_results([folder for folder in folders if folder.name not in SEEDS])
    write_comparison(rows, RESULTS / "suites", named=NAMED)
    beside_published(RESULTS / PAPER)
    against_guidance(RESULTS / PAPER, FAMILIES, list(STEERED))


if __name__ == "__main__":
    auto_cli(main)
