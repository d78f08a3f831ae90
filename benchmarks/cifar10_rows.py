"""The rows of the rehearsal on real images: what is trained, what is only sampled, and of which subject."""

from dataclasses import dataclass
from pathlib import Path

from cifar10_judges import NETWORKS
from runner import RUNS, Row

CONFIGS = Path("configs/cifar10")
PARTS = Path("configs/parts/cifar10")
RESULTS = Path("results/cifar10")
WEIGHTS = Path("data/weights/cifar10")

EPOCH = 1531
"""Training steps with 32 images."""

SHAPES = {"spatial": "[64,8,8]", "pooled": "[64]", "logits": "[10]"}
"""Of the representations of each cut."""

CUTS = tuple(SHAPES)

EARLY = ("bn1", "layer1", "layer2")
"""The cuts before the last map: behind the first convolution and behind two of three stages."""

DIFFUSION, FLOW_MAP, CONTROLNET, SCORED = "diffusion", "flow_map", "controlnet_inverter", "energy_score"
BASE, MAP = f"{DIFFUSION}-resnet20-spatial", f"{FLOW_MAP}-resnet20-spatial"
PRIOR, STRAIGHT = WEIGHTS / "prior.safetensors", WEIGHTS / "prior_straight.safetensors"
"""The prior of guidance, and the former one, from which the older inverters start."""

WORDS = {"CifarResNet, blocks=3": "ResNet-20", "CifarResNet, blocks=9": "ResNet-56"}
"""The networks in tables and figures."""


def subject(name: str) -> list[object]:
    """The options that name the subject `<network>-<cut>`: a residual network, or a judge at its last map."""
    network, _, cut = name.partition("-")
    if network in NETWORKS:
        return ["--subject", PARTS / f"judges/{name}.yaml"]
    return ["--subject", PARTS / f"{network}.yaml", "--subject.init_args.layer", cut]


@dataclass(frozen=True)
class Training:
    """One trained inverter.

    Args:
        config: the config's name.
        subject: the network and its cut.
        steps: of the training.
        start: the run whose weights it starts from, or a file of weights; None starts at random.
        variant: what the name ends with.
        options: of the training.
        weight: lambda of the fiber loss.
        batch: images of a step.
    """

    config: str
    subject: str
    steps: int
    start: str | Path | None = STRAIGHT
    variant: str = ""
    options: tuple[object, ...] = ()
    weight: float = 0.0
    batch: int = 32

    @property
    def series(self) -> str:
        """`<config>-<subject>[-<variant>]`."""
        return f"{self.config}-{self.subject}" + (f"-{self.variant}" if self.variant else "")

    @property
    def name(self) -> str:
        """`<config>[-lambda<weight>]-<subject>[-<variant>]`."""
        weight = f"-lambda{self.weight:g}" if self.weight else ""
        return self.series.replace(self.config, self.config + weight, 1)


MAP_ON_FIBER = f"{FLOW_MAP}-lambda1-resnet20-spatial-continued"
GENERATOR, CONTINUED = f"{SCORED}-lambda1-resnet20-spatial", "continued"
FAITHFUL = f"{SCORED}-lambda2-resnet20-spatial-{CONTINUED}"
BALANCED = f"{SCORED}-lambda2-resnet20-spatial-balanced"
MUON = f"{SCORED}-lambda2-resnet20-spatial-muon"
SHORT = f"{GENERATOR}-muon"
TEXTURED = f"{GENERATOR}-textured"
CALIBRATED = f"{SCORED}-lambda0.5-resnet20-spatial-calibrated"
GENERATOR56 = f"{SCORED}-lambda1-resnet56-spatial-muon"
GENERATOR_JUDGE = f"{SCORED}-lambda1-depthwise-spatial-muon"
CALIBRATED_JUDGE = f"{SCORED}-lambda1-depthwise-spatial-calibrated"
SEEDS = (1, 2)
"""Of repeated trainings and samples; the first has 0."""
START, BETTER, BEST_WEIGHTS, BALANCED_WEIGHTS, SHORT_WEIGHTS, TEXTURED_WEIGHTS, CALIBRATED_WEIGHTS = (
    WEIGHTS / f"{SCORED}-spatial{end}.safetensors"
    for end in ("", f"-{CONTINUED}", "-faithful", "-balanced", "-muon", "-textured", "-calibrated")
)
ADAPTED = 153
"""Steps of an adaptation: a tenth of those from nothing."""
LAST, FEATURES, LATER = "resnet20-spatial", "--model.learner.init_args.features", "--model.fiber.init_args.later"
WIDTH = "--model.learner.init_args.network.init_args.width"
MAP_ALONE = (LATER, "[]")
"""The first training asked for the last map alone."""


def weights_of(run: str) -> Path:
    """The exported weights of a run that are not committed."""
    return RUNS / "cifar10" / run / "model.safetensors"


def parts(*names: str) -> str:
    """A list of files of networks, as an option takes it."""
    return "[" + ",".join(str(PARTS / f"{name}.yaml") for name in names) + "]"


MANY = (FEATURES, parts("resnet20-layer1", "resnet20-layer2", LAST, "resnet20", "judges/plain-maps"))
"""The features of the first trainings: more of them are nearer to the distribution and further from the target."""
ADAM = ("--model.optimizer", "adamw", "--model.learning_rate", 0.002)
"""The optimizer of the first trainings; Muon, that of the config, is ahead in short ones."""
TEXTURES = (FEATURES, parts("resnet20-layer1", "resnet20-layer2", "energies1", "energies4"))
"""The features of the config, and the contrast and detail of images, whose spread they lack."""
NUMBERS = ("--model.learner.init_args.marginals", parts("energies1", "low_frequencies", "judges/plain-pooled"))
"""What is scored number by number: contrast, detail, layout and colours, and what the shown judge sees."""
LOWER = ("--model.learning_rate", 0.003)
"""For Muon, where a training goes on."""
SLOWER = ("--model.learning_rate", 0.001)


def scored_training(
    subject: str,
    steps: int,
    start: Path | None = None,
    variant: str = "",
    *own: object,
    weight: float = 2,
    muon: bool = False,
) -> Training:
    """A generator that is trained by the energy score of the first two stages of its subject."""
    network, _, cut = subject.partition("-")
    name = f"judges/{network}" if network in NETWORKS else network
    stages = (FEATURES, parts(f"{name}-layer1", f"{name}-layer2"), LATER, "[]" if cut == "logits" else parts(name))
    return Training(SCORED, subject, steps, start, variant, (*stages, *(() if muon else ADAM), *own), weight, 64)


def recipe(subject: str, steps: int = 1530, start: Path | None = None, variant: str = "muon", *own: object) -> Training:
    """A generator by today's recipe: Muon, and a fiber loss of weight 1 that asks for the last map alone."""
    return scored_training(subject, steps, start, variant, *MAP_ALONE, *own, weight=1, muon=True)


def textured(start: Path, variant: str = "textured", *own: object) -> Training:
    """Continues a generator with the contrast and detail of images in its score."""
    return recipe(LAST, 612, start, variant, *TEXTURES, *LOWER, *own)


def calibrated(subject: str, start: Path, weight: float, rate: float) -> Training:
    """Continues a generator with single numbers in its score, and the maps of the shown judge."""
    network = subject.partition("-")[0]
    name = f"judges/{network}" if network in NETWORKS else network
    seen = (FEATURES, parts(f"{name}-layer1", f"{name}-layer2", "energies1", "energies4", "judges/plain-maps"))
    own = (*MAP_ALONE, *seen, *NUMBERS, "--model.learning_rate", rate)
    return scored_training(subject, 612, start, "calibrated", *own, weight=weight, muon=True)


def repeated(seed: int) -> list[Training]:
    """Both trainings of the best generator with another seed."""
    own = ("--seed_everything", seed)
    first = recipe(LAST, 1530, None, f"muon-seed{seed}", *own)
    return [first, textured(weights_of(first.name), f"textured-seed{seed}", *own)]


def first_training(cut: str, steps: int, start: Path | None = None, variant: str = "", *own: object) -> Training:
    """A generator that is trained by the energy score of many features."""
    return scored_training(f"resnet20-{cut}", steps, start, variant, *MANY, *own, weight=1)


ENCODER = ("--model.train_only", "[network.places,network.context]")
TRAININGS = [
    Training(DIFFUSION, "resnet20-spatial", 2 * EPOCH),
    *(Training(DIFFUSION, f"resnet20-{cut}", EPOCH // 2) for cut in ("pooled", "logits")),
    Training(FLOW_MAP, "resnet20-spatial", EPOCH, BASE),
    first_training("spatial", 2 * (EPOCH // 2), None, "", *MAP_ALONE),
    first_training("spatial", 1148, START, CONTINUED, *SLOWER),
    first_training("spatial", 5 * (EPOCH // 2), None, "wide", WIDTH, 192),
    first_training("pooled", 612),
    scored_training(LAST, 1020, BETTER, CONTINUED, *SLOWER),
    scored_training(LAST, 1020, BEST_WEIGHTS, "balanced", *MANY, *SLOWER),
    scored_training(LAST, 3060, None, "muon", muon=True),
    recipe(LAST),
    textured(SHORT_WEIGHTS),
    calibrated(LAST, TEXTURED_WEIGHTS, 0.5, 0.002),
    calibrated("depthwise-spatial", CALIBRATED_WEIGHTS, 1, 0.005),
    recipe("resnet56-spatial"),
    recipe("resnet56-spatial", ADAPTED, SHORT_WEIGHTS, "muon-adapted"),
    recipe("depthwise-spatial", ADAPTED, SHORT_WEIGHTS, "muon-adapted"),
    recipe("depthwise-spatial"),
    *(training for seed in SEEDS for training in repeated(seed)),
    scored_training(LAST, 255),
    *(scored_training(f"resnet20-{cut}", 153) for cut in EARLY),
    *(scored_training(f"resnet20-{cut}", 255) for cut in ("pooled", "logits")),
    scored_training("resnet56-spatial", 255),
    *(scored_training(f"resnet56-{cut}", 102, BEST_WEIGHTS, "adapted", *SLOWER) for cut in CUTS),
    scored_training("depthwise-spatial", 204, BEST_WEIGHTS, "adapted"),
    Training(CONTROLNET, "resnet20-spatial", 1000, start=None),
    Training(CONTROLNET, "resnet20-pooled", 600, start=None),
    *(Training(DIFFUSION, "resnet20-spatial", 400, BASE, "continued", weight=weight) for weight in (0, 1)),
    *(Training(FLOW_MAP, "resnet20-spatial", 300, MAP, "continued", weight=weight) for weight in (0, 1)),
    Training(DIFFUSION, "resnet56-spatial", 600),
    Training(DIFFUSION, "resnet56-spatial", 600, BASE, "adapted"),
    Training(DIFFUSION, "resnet56-spatial", 600, BASE, "encoder", ENCODER),
    *(Training(DIFFUSION, f"resnet56-{c}", 600, f"{DIFFUSION}-resnet20-{c}", "adapted") for c in ("pooled", "logits")),
]
"""The trainings in their order: each starts from an earlier one or from the prior."""


PUBLISHED_AS = {
    BASE: WEIGHTS / DIFFUSION,
    MAP: WEIGHTS / FLOW_MAP,
    GENERATOR: START.with_suffix(""),
    f"{GENERATOR}-{CONTINUED}": BETTER.with_suffix(""),
    FAITHFUL: BEST_WEIGHTS.with_suffix(""),
    BALANCED: BALANCED_WEIGHTS.with_suffix(""),
    SHORT: SHORT_WEIGHTS.with_suffix(""),
    GENERATOR56: WEIGHTS / f"{SCORED}-resnet56-spatial",
    TEXTURED: TEXTURED_WEIGHTS.with_suffix(""),
    CALIBRATED: CALIBRATED_WEIGHTS.with_suffix(""),
    **{
        name: weights_of(name).with_suffix("")
        for name in (
            MAP_ON_FIBER,
            GENERATOR_JUDGE,
            *(f"{name}-seed{seed}" for name in (SHORT, TEXTURED) for seed in SEEDS),
            *(f"{DIFFUSION}-resnet20-{cut}" for cut in CUTS if cut != "spatial"),
        )
    },
}
"""The runs whose weights other rows use, and the files of these weights; those in `data` are committed."""


def published(name: str) -> Path:
    """The exported weights of a run, which other rows use."""
    return PUBLISHED_AS[name].with_suffix(".safetensors")


def inner(config: str, cut: str, name: str | None = None) -> dict[str, object]:
    """Changes of `feedback` that replace the flow map by another trained model, the run `name`."""
    weights = published(name or f"{config}-resnet20-{cut}")
    own = {"model.init_args.feature_shape": SHAPES[cut], "model.init_args.weights": weights}
    return {"model": PARTS / f"{config}.yaml", **own}


@dataclass(frozen=True)
class Sampling:
    """One model without training of its own: a baseline, a guided prior, or a wrapper of a trained model.

    Args:
        subject: the network and its cut.
        row: the result.
    """

    subject: str
    row: Row


def sampling(
    config: str,
    cut: str,
    variant: str = "",
    targets: int = 500,
    samples: int = 2,
    network: str = "resnet20",
    **own: object,
) -> Sampling:
    """`<config>-<network>-<cut>[-<variant>]`, with `Row`'s other arguments."""
    name = f"{config}-{network}-{cut}" + (f"-{variant}" if variant else "")
    return Sampling(f"{network}-{cut}", Row(name, config, targets=targets, samples=samples, **own))  # type: ignore[arg-type]


@dataclass(frozen=True)
class Stage:
    """A density of which a cascade is made.

    Args:
        name: of the run.
        config: the config's name.
        weights: the file of the exported weights.
        options: of the training.
    """

    name: str
    config: str
    weights: Path
    options: tuple[object, ...] = ()


def adapted_stage(config: str, layer: str, *own: object) -> Stage:
    """The density of ResNet-20's cascade, adapted to ResNet-56."""
    name, part = f"{config}-resnet56", PARTS / f"resnet56-{layer}.yaml"
    start = ("--adapt_from", WEIGHTS / f"{config}.safetensors")
    return Stage(name, config, weights_of(name), ("--data.init_args.subject", part, *start, *own))


STAGED = (
    *(Stage(name, name, WEIGHTS / f"{name}.safetensors") for name in ("maps", "vectors")),
    adapted_stage("maps", "spatial", "--trainer.max_epochs", 1),
    adapted_stage(
        "vectors", "pooled", "--trainer.max_epochs", 4, "--subject.init_args.subject", PARTS / "resnet56-pooled.yaml"
    ),
)


def cascade56(at: str = "model") -> dict[str, object]:
    """Changes of a cascade from the pooled vector, the argument `at`, that give it the weights of ResNet-56."""
    weights = {"first": weights_of("maps-resnet56"), "second": published(GENERATOR56)}
    return {f"{at}.init_args.{stage}.init_args.weights": path for stage, path in weights.items()}


CASCADES = [
    *(sampling(config, cut) for cut, config in (("pooled", "cascade"), ("logits", "cascade_logits"))),
    sampling("cascade", "pooled", targets=250, network="resnet56", changes=cascade56()),
    sampling(
        "cascade_logits",
        "logits",
        targets=250,
        network="resnet56",
        changes={
            "model.init_args.first.init_args.weights": weights_of("vectors-resnet56"),
            **cascade56("model.init_args.second"),
        },
    ),
]
"""A pooled vector or logits, inverted through the last map."""


def refined_with(generator: str, channels: int = 64) -> dict[str, object]:
    """Changes of `refined` that replace its generator, for maps of so many channels."""
    return {"model.init_args.weights": published(generator), "model.init_args.feature_shape": f"[{channels},8,8]"}


REFINED = [
    sampling("refined", "spatial", targets=2000, samples=9),
    *(
        sampling("refined", "spatial", targets=1000, network=network, changes=refined_with(generator, channels))
        for network, generator, channels in (("resnet56", GENERATOR56, 64), ("depthwise", GENERATOR_JUDGE, 128))
    ),
    sampling("refined", "spatial", "calibrated", targets=1000, samples=9, changes=refined_with(CALIBRATED)),
    *(
        sampling("refined", "spatial", f"seed{seed}", 1000, changes=refined_with(f"{TEXTURED}-seed{seed}"), seed=seed)
        for seed in SEEDS
    ),
]
"""Samples of a generator, moved nearer to the fiber by steps too small to see."""

MIRROR = {"scale": "[1.0, 1.0]", "flip": 1.0}
"""The target's mirror image: how far judges agree with themselves."""

SAMPLINGS = [
    sampling("nearest_neighbour", "spatial", targets=2000, samples=9),
    *(sampling("nearest_neighbour", cut) for cut in (*EARLY, *CUTS) if cut != "spatial"),
    *(sampling("nearest_neighbour", cut, targets=250, network="resnet56") for cut in CUTS),
    sampling("nearest_neighbour", "spatial", targets=250, network="depthwise"),
    *(sampling("augmented", cut) for cut in CUTS),
    sampling("augmented", "spatial", "mirror", 2000, 1, changes=MIRROR),
    *CASCADES,
    *REFINED,
    sampling("feedback", "spatial", SCORED, 2000, 9, changes={**inner(SCORED, "spatial", GENERATOR), "steps": 1}),
    sampling("prior_samples", "spatial", targets=250),
    *(sampling("ndtm", cut, targets=32, samples=1) for cut in (*EARLY, *CUTS)),
    *(
        sampling(
            "dps",
            "spatial",
            f"scale{scale}",
            100,
            series="dps-resnet20-spatial",
            knobs={"scale": scale},
            changes={"strength": scale},
        )
        for scale in (1, 3, 10)
    ),
    *(
        sampling(
            "feedback",
            "spatial",
            f"steps{steps}",
            series="feedback-resnet20-spatial",
            knobs={"steps": steps},
            changes={"steps": steps},
        )
        for steps in (1, 3)
    ),
    sampling("feedback", "spatial", "lambda1", changes={"model.init_args.weights": published(MAP_ON_FIBER)}),
    *(sampling("feedback", cut, DIFFUSION, 250, 1, changes=inner(DIFFUSION, cut)) for cut in CUTS),
]


SUBJECTS = {each.name: each.subject for each in TRAININGS} | {each.row.name: each.subject for each in SAMPLINGS}
"""The subject of each result."""

STAGES = {
    "bn1": "first\nconvolution",
    "layer1": "stage 1",
    "layer2": "stage 2",
    "spatial": "stage 3\n(last map)",
    "pooled": "pooled",
    "logits": "logits",
}
"""The cuts of ResNet-20 from the first to the last, and their titles."""

METHODS = {
    "nearest training image": {cut: f"nearest_neighbour-resnet20-{cut}" for cut in STAGES},
    "NDTM (guided, no training)": {cut: f"ndtm-resnet20-{cut}" for cut in STAGES},
    "energy score (trained)": {cut: f"{SCORED}-lambda2-resnet20-{cut}" for cut in STAGES}
    | {"spatial": FAITHFUL, "pooled": f"{SCORED}-lambda1-resnet20-pooled"},
    "cascade and small steps (trained)": {
        "spatial": "refined-resnet20-spatial",
        "pooled": "cascade-resnet20-pooled",
        "logits": "cascade_logits-resnet20-logits",
    },
}
"""Whose agreement is drawn at every stage."""

CURVES = {
    "energy score": (GENERATOR, f"{GENERATOR}-{CONTINUED}", FAITHFUL, BALANCED),
    "energy score, Muon": (SHORT, TEXTURED, CALIBRATED),
    "energy score, Muon, twice the fiber loss": (MUON,),
    "energy score, twice as wide": (f"{GENERATOR}-wide",),
    "energy score, short": (f"{SCORED}-lambda2-{LAST}",),
    "flow map after a prior": (MAP_ON_FIBER,),
    "sampler after a prior (19 calls)": (f"{DIFFUSION}-lambda1-resnet20-spatial-continued",),
}
"""The results whose quality is drawn against the minutes of training; each starts from the one before."""

LEVELS = {
    "nearest training image": "nearest_neighbour-resnet20-spatial",
    "target's mirror image": "augmented-resnet20-spatial-mirror",
}
"""Results without training, which are drawn as levels."""
