"""The two grids of EquiDiff's appendix: twenty low-pass filters, and optimisers times learning rates.

    FIBERMODELS_DATA=... python benchmarks/equidiff.py [--parts '[optimisers, filters]'] [--steps 40]

As there, the target is the probabilities of a classifier: ten digits, by multinomial regression on the representation
of the subject of colour MNIST. The noise of the prior behind `configs/colour_mnist/equidiff.yaml` is optimised in 40
steps instead of 512, through a sampler of 4 steps, for four samples instead of eight of each of eight test images.
Tables, the figure and a record of each grid are in `results/equidiff`. Finished cells are skipped.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from equidiff_figure import draw
from jsonargparse import auto_cli
from torch import Tensor, nn
from trained import ROOT

from fibermodels.component import device_name, fingerprint
from fibermodels.core import Subject
from fibermodels.data.digits import load_labelled
from fibermodels.diffusion import Heun
from fibermodels.evaluation.building import build
from fibermodels.evaluation.results import commit
from fibermodels.evaluation.tables import markdown, number
from fibermodels.files import write_text
from fibermodels.filters import low_pass
from fibermodels.guidance import FiberDistance, LowPass, NoiseOptimisation, Unguided
from fibermodels.guidance.descent import OptimizerName
from fibermodels.noise import seeded

CONFIG, RESULTS = ROOT / "configs/colour_mnist/equidiff.yaml", ROOT / "results/equidiff"
TARGETS, SAMPLES, SOLVER, STOP = 8, 4, 4, 0.01
"""Test images and samples of each; steps of the sampler; and the loss at which a sample is done."""

SHOWN, FITTED = 0.5, 10_000
"""The cut-off of the filter that the scores apply to samples, and training digits of the classifier."""

OPTIMISERS: tuple[OptimizerName, ...] = ("sgd", "adam", "adagrad")
RATES = (1.0, 5.0, 10.0, 30.0, 50.0)
CUTOFFS, SIGMAS = (0.2, 0.3, 0.4, 0.5, 0.6), (0.1, 0.15, 0.2, 0.25, 0.3, 0.35)
ORDERS, OWN_ORDER, OWN_CUTOFF = (2, 4, 6, 8), 2, 0.4
"""The grid of filters: the Butterworth filters of five cut-offs have one order, those of four orders one cut-off."""


class Digit(Subject):
    """The probabilities of ten digits: `softmax(A phi(x) + b)`.

    Args:
        encoder: the subject `phi`, with a vector as its representation.
        head: the linear map.
    """

    def __init__(self, encoder: Subject, head: nn.Linear) -> None:
        super().__init__()
        self.encoder, self.head = encoder, head
        self.input_space, self.feature_shape = encoder.input_space, (head.out_features,)
        self.freeze()

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.encoder(images)).softmax(1)


def fitted(encoder: Subject, x: Tensor, y: Tensor, penalty: float = 1e-4) -> Digit:
    """The classifier of images `x` with labels `y`: the convex problem is solved by L-BFGS."""
    h, head = encoder(x), nn.Linear(encoder.feature_shape[0], int(y.max()) + 1)
    nn.init.zeros_(head.weight), nn.init.zeros_(head.bias)
    solver = torch.optim.LBFGS(head.parameters(), max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        solver.zero_grad()
        found = nn.functional.cross_entropy(head(h), y) + penalty * head.weight.square().sum()
        found.backward()
        return found

    solver.step(loss)
    return Digit(encoder, head)


@dataclass(frozen=True)
class Study:
    """What all cells share: the prior with its sampler, the classifier, and the targets."""

    model: Unguided
    subject: Digit
    h: Tensor
    """`(8, 10)`."""
    accuracy: float
    steps: int

    def scores(self, cell: "Cell") -> dict[str, float]:
        """Of one cell: the sum of squares of the probabilities (its mean; and over the images, each the mean of its
        samples, the least, the largest and the deviation), the share of samples below the threshold, the share with
        the target's digit, and the last two after a low-pass filter."""
        cost = LowPass(FiberDistance("l2_squared"), **cell.options)
        steps = self.steps if cell.steps is None else cell.steps
        model = NoiseOptimisation(self.model, self.subject, cost, steps, cell.rate, cell.optimiser, stop=STOP)
        x_hat = model.sample(self.h, SAMPLES, seeded("equidiff"))
        found = torch.stack([self.subject(slot) for slot in x_hat])
        seen = torch.stack([self.subject(low_pass(slot, SHOWN)) for slot in x_hat])
        loss, blurred = ((each - self.h).square().sum(-1) for each in (found, seen))
        images, digit = loss.mean(0), self.h.argmax(-1)
        values = {
            "loss": loss.mean(),
            "least": images.amin(),
            "most": images.amax(),
            "std": images.std(),
            "done": (loss < STOP).float().mean(),
            "same_digit": (found.argmax(-1) == digit).float().mean(),
            "loss_filtered": blurred.mean(),
            "same_digit_filtered": (seen.argmax(-1) == digit).float().mean(),
        }
        return {key: round(float(value), 6) for key, value in values.items()}


def study(steps: int) -> Study:
    """The prior of the config, the classifier fitted to training digits, and the first test images."""
    model, encoder, data, _ = build(None, str(CONFIG), [])
    train, test = data.split("train"), data.split("test")
    labels = {split: load_labelled("mnist", split)[1] for split in ("train", "test")}
    subject = fitted(encoder, train.inputs(slice(FITTED)), labels["train"][:FITTED])
    right = subject(test.inputs(slice(2000))).argmax(1) == labels["test"][:2000]
    prior = model.model.prior.eval()
    return Study(
        Unguided(prior, Heun(SOLVER)),
        subject,
        subject(test.inputs(slice(TARGETS))),
        float(right.float().mean()),
        steps,
    )


@dataclass(frozen=True)
class Cell:
    """A setting of the search: options of `LowPass`, and those of the optimiser; None for the study's steps."""

    options: dict[str, Any] = field(default_factory=dict)
    optimiser: OptimizerName = "sgd"
    rate: float = 10.0
    steps: int | None = None


def optimisers() -> dict[str, Cell]:
    """The cost of algorithm 1, by optimiser and learning rate, and no step at all."""
    return {"prior": Cell(steps=0)} | {
        f"{name}-{rate:g}": Cell(optimiser=name, rate=rate) for name in OPTIMISERS for rate in RATES
    }


def filters() -> dict[str, Cell]:
    """SGD at the published rate, by filter: nineteen, because one Butterworth filter is in both lists."""
    smooth = [(c, OWN_ORDER, f"{c:g}") for c in CUTOFFS]
    smooth += [(OWN_CUTOFF, order, f"{OWN_CUTOFF:g}-order{order}") for order in ORDERS if order != OWN_ORDER]
    return {
        "none": Cell({"cutoffs": [1.0], "weights": [0.0]}),
        **{f"ideal-{c:g}": Cell({"filter": "ideal", "cutoffs": [c]}) for c in CUTOFFS},
        **{f"gaussian-{c:g}": Cell({"filter": "gaussian", "cutoffs": [c]}) for c in SIGMAS},
        **{f"butterworth-{n}": Cell({"filter": "butterworth", "cutoffs": [c], "order": k}) for c, k, n in smooth},
    }


GRIDS = {"optimisers": optimisers, "filters": filters}


def best(rows: dict[str, dict[str, float]], start: str) -> str:
    """The row of least loss among those whose names begin so."""
    return min((name for name in rows if name.startswith(start)), key=lambda name: rows[name]["loss"])


def record(part: str, rows: dict[str, dict[str, float]], of: Study, out: Path) -> None:
    """Writes the record of a grid and its table; the entries of the best row of each kind have its own name, too."""
    values: dict[str, Any] = {
        "name": f"equidiff-{part}",
        "dataset": "colour_mnist",
        "subject": fingerprint(of.subject),
        "subject_accuracy": round(of.accuracy, 4),
        "num_targets": TARGETS,
        "samples_per_target": SAMPLES,
        "steps": of.steps,
        "seed": 0,
        "device": device_name("cpu"),
        "commit": commit(),
    }
    for kind in dict.fromkeys(name.partition("-")[0] for name in rows):
        own = best(rows, kind)
        values |= {f"{kind}_best": own} | {f"{kind}_{key}": value for key, value in rows[own].items()}
    values["rows"] = rows
    lines = [
        [
            name.replace("-", " "),
            *(number(row[key]) for key in ("loss", "least", "most", "std")),
            *(f"{100 * row[key]:.0f} %" for key in ("done", "same_digit")),
            number(row["loss_filtered"]),
        ]
        for name, row in rows.items()
    ]
    titles = ["setting", "loss", "least", "most", "deviation", f"below {STOP:g}", "same digit", f"loss below {SHOWN:g}"]
    write_text(out / f"{part}.md", markdown(titles, lines))
    write_text(out / part / "metrics.json", json.dumps(values, indent=2) + "\n")


def made(part: str, steps: int, out: Path) -> dict[str, dict[str, float]]:
    """The rows of a grid that exist.

    Raises:
        ValueError: they had another number of steps.
    """
    path = out / part / "metrics.json"
    values = json.loads(path.read_text()) if path.exists() else {"steps": steps, "rows": {}}
    if values["steps"] != steps:
        raise ValueError(f"steps: {path} has {values['steps']}, got {steps}")
    return dict(values["rows"])


def main(
    parts: list[str] = ["optimisers", "filters"],  # noqa: B006 (read only)
    steps: int = 40,
    out: Path = RESULTS,
) -> None:
    """Runs what is missing of the grids, and draws them.

    Args:
        parts: `optimisers`, `filters`.
        steps: of the optimiser; 512 as published.
        out: folder of the results.
    """
    torch.manual_seed(0)
    of = study(steps) if parts else None
    for part in parts:
        rows = made(part, steps, out)
        for name, cell in GRIDS[part]().items():
            if of is not None and name not in rows:
                rows[name] = of.scores(cell)
                print(name, rows[name], flush=True)
                record(part, rows, of, out)
    found = [made(part, steps, out) for part in GRIDS]
    if all(found):
        draw(*found, out / "figure.png")


if __name__ == "__main__":
    auto_cli(main)
