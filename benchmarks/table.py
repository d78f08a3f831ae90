"""The fibers of a table's classifier: guided priors and amortised models, and what its columns say.

    python benchmarks/table.py [--file HTRU_2.csv] [--parts '[subject, rows, figure]'] [--only '[ndtm*]']

Without a file it takes scikit-learn's table of breast cancers. `subject` trains and publishes the classifier, `rows`
trains the models and scores them, and `figure` draws columns. Finished results are skipped. Results are in
`results/table`, or `results/NAME` for a file `NAME.csv`, whose last column has the classes.

Settings of NDTM are those of the published code for HTRU2: 200 steps, guided in their second half by 10 inner steps.
"""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from jsonargparse import auto_cli
from runner import scored, shrink, wanted
from scipy.stats import spearmanr
from trained import ROOT, publish, trained

from fibermodels.component import device_name
from fibermodels.core import FiberModel, FiberSamples
from fibermodels.data import Table
from fibermodels.data.table import EMBEDDED
from fibermodels.diffusion import DDIM, Ancestral
from fibermodels.evaluation.comparing import compare
from fibermodels.evaluation.drawing import Choice
from fibermodels.evaluation.results import Metrics, load_samples, save
from fibermodels.evaluation.scoring import evaluate
from fibermodels.evaluation.tables import markdown, number
from fibermodels.files import replace_file, write_text
from fibermodels.guidance import (
    DPS,
    NDTM,
    ConditionFeedback,
    FiberDistance,
    FiberProjection,
    Guided,
    StrengthSearch,
    Unguided,
)
from fibermodels.latents import Identity
from fibermodels.metrics.columns import column_distances, deviation, movement, sensitivity, wasserstein
from fibermodels.models import Diffusion, EnergyScore, FiberLoss, FlowMatching, NearestNeighbour
from fibermodels.nn import MLP
from fibermodels.subjects import Classifier, Cut, FinetunedClassifier

GAMMAS, STEPS, INNER, CLIP, COLUMN = (1, 2, 5, 10), 200, 10, 12.0, 8
"""Strengths of NDTM, its steps, inner steps and clipping, and columns of the picture."""

GOAL = 0.3
"""The fiber RMS for which EnergyDPS looks for its strengths: about that of flow matching."""

WEIGHT = 1.0
"""Of the fiber loss, in a row that has it."""

WIDTH, BLOCKS, UPDATES, SAMPLES, GUIDED = 128, 3, 4000, 10, 2
"""Of the models' networks, the steps of their training, and samples of each target, by amortised and guided models."""


def main(
    file: str | None = None,
    parts: list[str] = ["rows", "figure"],  # noqa: B006 (read only)
    only: list[str] | None = None,
    num_targets: int | None = None,
) -> None:
    """Runs the parts.

    Args:
        file: a CSV file of continuous columns, the last one with the classes; None takes the embedded table.
        parts: `subject`, `rows`, `figure`.
        only: patterns of rows; others are skipped.
        num_targets: rows of the test split; None takes all of them, at most 1000.
    """
    data = Table(file)
    name = "table" if data.name == EMBEDDED else data.name
    weights, results = Path(f"data/weights/{name}/classifier.safetensors"), ROOT / "results" / name
    if "subject" in parts or not (ROOT / weights).exists():
        train_subject(data, weights)
    subject = classifier(data, str(ROOT / weights))
    choice = Choice(num_targets or min(1000, len(data.split("test"))), SAMPLES)
    if "rows" in parts:
        score_rows(data, subject, choice, results, only)
    if "figure" in parts:
        of_columns(data, subject, results)


def classifier(data: Table, weights: str | None = None) -> Classifier:
    """A residual perceptron with one logit for each class."""
    return Classifier(encoder(data), data.classes, exclusive=True, weights=weights)


def encoder(data: Table) -> Cut:
    """Columns to 128 features."""
    dims = len(data.columns)
    shape = {"inputs": dims, "outputs": 128, "width": 128, "blocks": 1}
    return Cut("fibermodels.nn.residual_mlp.ResidualMLP", "logits", network_args=shape, input_shape=[dims])


def train_subject(data: Table, weights: Path) -> None:
    """Trains the classifier with the labels, calibrates its temperature and publishes it."""
    torch.manual_seed(0)
    learner = FinetunedClassifier(encoder(data), data.classes, exclusive=True)
    learner, seconds = trained(learner, data, 30, learning_rate=1e-3, weight_decay=0.1)
    product = learner.product(data.split("val").batches(256))
    test = data.split("test")
    right = (product(test.inputs()).argmax(1) == test.labels()).float().mean()
    publish(product, weights, data.name, {"accuracy": float(right)}, seconds)


def score_rows(data: Table, subject: Classifier, choice: Choice, results: Path, only: list[str] | None) -> None:
    """Scores every row that is missing, and compares all."""
    seconds: dict[str, float] = {}
    for name, build in rows(data, subject, seconds).items():
        if wanted(name, only) and not scored(results / name):
            model = build()
            own = replace(choice, samples_per_target=GUIDED) if name.startswith(("ndtm", "energy_dps")) else choice
            about: Metrics = {"name": name}
            if name.endswith(f"lambda{WEIGHT:g}"):
                about["fiber_weight"] = WEIGHT
            if (source := TRAINED.get(name.partition("-gamma")[0].partition("-target")[0], name)) in seconds:
                about |= {"training_seconds": round(seconds[source], 1), "training_device": device_name("cpu")}
            samples, values = evaluate(model.eval(), subject, data, own, about=about)
            values |= column_scores(samples, data, subject)
            save(results / name, samples, values)
            shrink(results / name / "samples.png")
            print(f"{name}: fiber RMS {values['fiber_rms']}, column W1 {values['column_w1']}")
    compare([str(path.parent) for path in sorted(results.glob("*/metrics.json"))], results)


TRAINED = {
    "feedback": "energy_score",
    "flow_matching-projection": "flow_matching",
    "ndtm": "prior",
    "energy_dps": "prior",
}
"""The training that another row takes."""


def rows(data: Table, subject: Classifier, seconds: dict[str, float]) -> dict[str, Callable[[], FiberModel]]:
    """Every row by name; `seconds` get the times of trainings."""
    dims, count = len(data.columns), len(data.split("train"))
    space, told = Identity(input_shape=[dims]), [len(data.classes)]
    epochs = max(1, UPDATES // math.ceil(count / data.batch_size))
    made: dict[str, FiberModel] = {}

    def once(name: str, learner: Diffusion | FlowMatching | EnergyScore, weight: float = 0.0) -> FiberModel:
        if name not in made:
            fiber = FiberLoss(weight) if weight else None
            made[name], seconds[name] = trained(learner, data, epochs, subject, fiber, average=0.999, clip=1.0)
        return made[name]

    def flow() -> FiberModel:
        return once("flow_matching", FlowMatching(space, told, MLP(WIDTH, BLOCKS)))

    def generator(weight: float = 0.0) -> FiberModel:
        name = f"energy_score-lambda{weight:g}" if weight else "energy_score"
        return once(name, EnergyScore(space, told, MLP(WIDTH, BLOCKS)), weight)

    def prior() -> Diffusion:
        found = once("prior", Diffusion(space, [], MLP(WIDTH, BLOCKS), "linear"))
        assert isinstance(found, Diffusion)
        return found

    def ndtm(gamma: float) -> FiberModel:
        guidance = NDTM(gamma=gamma, inner=INNER, clip=CLIP)
        return Guided(prior(), subject, guidance, sampler=Ancestral(STEPS))

    def energy_dps() -> FiberModel:
        soft = Guided(prior(), subject, DPS(), FiberDistance("rms"), Ancestral(STEPS // 2))
        return StrengthSearch(soft, GOAL)

    return {
        "nearest_neighbour": NearestNeighbour,
        "prior": lambda: Unguided(prior(), DDIM(50)),
        "flow_matching": flow,
        "flow_matching-projection": lambda: FiberProjection(flow(), subject, space, 10),
        "energy_score": generator,
        f"energy_score-lambda{WEIGHT:g}": lambda: generator(WEIGHT),
        "feedback": lambda: ConditionFeedback(generator(), subject, 5),
        f"energy_dps-target_rms{GOAL}": energy_dps,
        **{f"ndtm-gamma{gamma}": (lambda own=gamma: ndtm(own)) for gamma in GAMMAS},
    }


def column_scores(samples: FiberSamples, data: Table, subject: Classifier) -> Metrics:
    """The floor of `column_w1`, that of training rows; the rank correlation of movement and sensitivity over columns,
    and its p-value; and the distance to the nearest training row, relative to that of the targets."""
    train = data.split("train").inputs()
    moved, seen = movement(samples), sensitivity(subject, samples.x)
    found = spearmanr(moved.numpy(), seen.numpy())
    nearest = [torch.cdist(rows, train).amin(1).median() for rows in (samples.x_hat.flatten(0, 1), samples.x)]
    values = {
        "column_w1_floor": (wasserstein(train, samples.x) / deviation(samples.x)).mean(),
        "movement_spearman": found.statistic,
        "movement_spearman_pvalue": found.pvalue,
        "training_distance": nearest[0] / nearest[1],
    }
    return {name: round(float(value), 6) for name, value in values.items()}


SHOWN = ("flow_matching", "energy_score", "ndtm-gamma5", "prior")
"""The rows whose columns are drawn, the last one as the null."""


def of_columns(data: Table, subject: Classifier, results: Path) -> None:
    """Writes `columns.md`, what the network sees of each column, how far it moves and the distance of its law; and
    `columns.png`, movement against sensitivity."""
    from torchvision.utils import save_image

    from fibermodels.pictures import as_tensor, new_figure

    made = [name for name in SHOWN if scored(results / name)]
    if missing := [name for name in made if not (results / name / "samples.safetensors").exists()]:
        print(f"columns.md and columns.png stay as they are: no samples of {missing}; delete these folders")
        return
    found = {name: load_samples(results / name) for name in made}
    x = next(iter(found.values())).x
    seen = sensitivity(subject, x)
    order = seen.argsort(descending=True)
    moved = {name: movement(samples) for name, samples in found.items()}
    far = {name: column_distances(samples) for name, samples in found.items()}
    titles = ["column", "sensitivity", *(f"{name}: movement, W1" for name in found)]
    lines = [
        [data.columns[i], number(float(seen[i])), *(f"{moved[n][i]:.2f}, {far[n][i]:.3f}" for n in found)]
        for i in (*order[:COLUMN].tolist(), *order[-COLUMN:].tolist())
    ]
    write_text(results / "columns.md", markdown(titles, lines))
    figure = new_figure(5, 3)
    axes = figure.subplots(1, len(found), sharey=True, squeeze=False)[0]
    for each, (name, own) in zip(axes, moved.items(), strict=True):
        each.scatter(seen, own, s=9, color="#d1495b" if name != SHOWN[-1] else "0.5", linewidths=0)
        rank = spearmanr(own.numpy(), seen.numpy())
        each.set_title(f"{name}\nSpearman {rank.statistic:.2f} (p = {rank.pvalue:.2g})", fontsize=8)
        each.set_xlabel("sensitivity of the logits", fontsize=7)
        each.axhline(math.sqrt(2), color="0.8", lw=0.8, zorder=0)
        each.tick_params(labelsize=6)
    axes[0].set_ylabel("movement along the fiber, deviations", fontsize=7)
    replace_file(results / "columns.png", lambda file: save_image(as_tensor(figure), file, format="png"))


if __name__ == "__main__":
    auto_cli(main)
