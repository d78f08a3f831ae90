"""What `features.py` looks at: features and neurons of ResNet-20's last map, images, a prior and judges."""

import json
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

import torch
import yaml
from cifar10_rows import CONFIGS, PARTS, WEIGHTS
from runner import publish, train
from torch import Tensor

from fibermodels.config import build
from fibermodels.core import Subject
from fibermodels.data import ImageFolder, Representations
from fibermodels.diffusion import DDIM
from fibermodels.guidance import ScoreEnergy, Unguided
from fibermodels.noise import seeded
from fibermodels.subjects import Classifier, Codes, Cut, SparseAutoencoder

SPARSE = WEIGHTS / "sparse"
JUMPRELU = ("--model.learner.init_args.gate", "jumprelu", "--model.learner.init_args.sparsity", 1.0)
DICTIONARIES: dict[str, tuple[object, ...]] = {
    "topk": (),
    "jumprelu": JUMPRELU,
    "topk-3x3": ("--model.learner.init_args.kernel", 3),
    "jumprelu-3x3": (*JUMPRELU, "--model.learner.init_args.kernel", 3),
}
"""Their names, and the options of their trainings."""

STEPS = 12
"""Of DDIM, guided or not."""

POOL = 4000
"""Training images among which the most active ones are searched."""

SCORE = ScoreEnergy(reduction="mix")
"""The score of a unit: .7 times its maximum over places and .3 times its mean."""


def train_dictionaries(precision: str, names: list[str] | None = None) -> None:
    """Trains and exports the dictionaries whose weights are missing."""
    for name, options in DICTIONARIES.items():
        if (names is None or name in names) and not (SPARSE / f"{name}.safetensors").exists():
            own = (*options, "--trainer.precision", precision)
            publish(train(CONFIGS / "sparse.yaml", f"cifar10/sparse-{name}", *own), SPARSE / name, "--half", "true")


def part(path: Path) -> object:
    """The object of a YAML file, whose arguments may be files beside it."""

    def read(path: Path) -> object:
        return resolved(yaml.safe_load(path.read_text()), path.parent)

    def resolved(value: object, folder: Path) -> object:
        if isinstance(value, dict):
            return {key: resolved(item, folder) for key, item in value.items()}
        return read(folder / value) if isinstance(value, str) and value.endswith(".yaml") else value

    return build(read(path))  # type: ignore[arg-type]


@dataclass(frozen=True)
class Unit:
    """A feature of the dictionary or a neuron, that is a channel of the map.

    Args:
        kind: `feature` or `neuron`.
        number: which.
        goal: its mean score over the best images.
        best: these images' numbers in the pool.
    """

    kind: str
    number: int
    goal: float
    best: Tensor


class Laboratory:
    """Everything that is loaded once."""

    def __init__(self) -> None:
        data = yaml.safe_load((CONFIGS / "sparse.yaml").read_text())["data"]["init_args"]
        images = data["data"]["init_args"]
        self.pool = ImageFolder(**images)
        self.photos = ImageFolder(**images | {"cache": False, "workers": 0})
        """The same images; only those that are asked for are decoded."""
        self.cut: Cut = part(PARTS / "resnet20-spatial.yaml")  # type: ignore[assignment]
        self.maps = Representations(self.pool, self.cut, data["batch_size"])
        self.dictionary = SparseAutoencoder([64, 8, 8], weights=str(SPARSE / "topk.safetensors"))
        self.dictionary.requires_grad_(False).eval()

    @cached_property
    def unguided(self) -> Unguided:
        """The prior."""
        return Unguided(part(PARTS / "prior.yaml").requires_grad_(False).eval(), DDIM(STEPS))  # type: ignore[attr-defined]

    @cached_property
    def eyes(self) -> Subject:
        """ResNet-56's pooled vector, in which distances between laws are measured."""
        return part(PARTS / "resnet56-pooled.yaml")  # type: ignore[return-value]

    @cached_property
    def judge(self) -> Classifier:
        """A network of another kind that took no part."""
        return part(PARTS / "judges/wide.yaml")  # type: ignore[return-value]

    @cached_property
    def tasked(self) -> Classifier:
        """The network whose log-probability is injected."""
        return part(PARTS / "judges/vgg.yaml")  # type: ignore[return-value]

    def subject(self, unit: Unit) -> Subject:
        """The unit as a subject, `(B, 1, 8, 8)`."""
        if unit.kind == "feature":
            return Codes(self.cut, self.dictionary, [unit.number], through=True)
        return Cut(**self.cut.arguments | {"units": [unit.number]})

    @cache  # noqa: B019 (it lives as long as the program)
    @torch.no_grad()
    def activations(self, kind: str) -> Tensor:
        """Scores of the pool's images, `(N, K)`, of all features or all neurons."""
        found = []
        for maps in self.maps.split("train").inputs(slice(POOL)).split(500):
            codes = self.dictionary.encode(maps) if kind == "feature" else maps
            places = codes.flatten(2)
            found.append(torch.lerp(places.mean(2), places.amax(2), 0.7))
        return torch.cat(found)

    def units(self, kind: str, count: int, best: int) -> list[Unit]:
        """Random units that are on in at least one in a hundred images, with their `best` images."""
        scores = self.activations(kind)
        alive = ((scores > 0).double().mean(0) >= 0.01).nonzero()[:, 0]
        chosen = alive[torch.randperm(len(alive), generator=seeded("units", kind))[:count]]
        tops = scores[:, chosen].topk(best, dim=0)
        pairs = zip(chosen.tolist(), tops.values.mean(0).tolist(), tops.indices.T, strict=True)
        return [Unit(kind, number, goal, rows) for number, goal, rows in pairs]

    def images(self, rows: Tensor) -> Tensor:
        """Images of the pool."""
        return self.photos.split("train").inputs(rows)


def of_dictionaries() -> str:
    """The table of the dictionaries, from the cards of their weights."""
    from fibermodels.evaluation.tables import markdown

    lines = []
    root = Path(__file__).parents[1] / SPARSE
    for name in DICTIONARIES:
        if (root / f"{name}.json").is_file():
            card = json.loads((root / f"{name}.json").read_text())
            scores = card["test_scores"]
            numbers = [f"{scores['explained']:.3f}", f"{scores['active']:.2f}", f"{100 * scores['dead']:.0f} %"]
            lines.append([name, *numbers, str(card["training_steps"]), f"{card['training_seconds'] / 60:.1f}"])
    titles = ["dictionary", "variance explained", "features on at a place", "dead", "steps", "minutes"]
    return markdown(titles, lines)
