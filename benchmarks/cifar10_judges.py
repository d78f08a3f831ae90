"""The judges of CIFAR-10: five small classifiers of different kinds, ten minutes of training each on one CPU core.

`UNSEEN` score samples and never take part in a training. `SHOWN` may serve in losses, and scores nothing.
"""

from collections.abc import Sequence
from pathlib import Path

from runner import publish, train, wanted

NETWORKS = {"plain": "PlainCnn", "vgg": "Vgg", "wide": "WideResNet", "depthwise": "Depthwise", "mixer": "Mixer"}
"""The judges' names, and their classes in `examples/cifar_judges.py`."""

SHOWN = ("plain",)
UNSEEN = tuple(name for name in NETWORKS if name not in SHOWN)

PARTS = Path("configs/parts/cifar10/judges")
WEIGHTS = Path("data/weights/cifar10/judges")


def unseen(subject: str = "") -> list[object]:
    """The options of `evaluate.py` that let the unseen judges score, without the one that is the subject."""
    return [part for name in UNSEEN if name != subject for part in (f"--judges.{name}", PARTS / f"{name}.yaml")]


def train_judges(only: Sequence[str] | None) -> None:
    """Trains and exports `judge-<name>` whose weights are missing and whose name matches a pattern."""
    key = "--model.learner.init_args.encoder.init_args.network"
    for name, network in NETWORKS.items():
        if wanted(f"judge-{name}", only) and not (WEIGHTS / f"{name}.safetensors").exists():
            own = (key, f"examples.cifar_judges.{network}")
            last = train(Path("configs/cifar10/judge.yaml"), f"cifar10/judge-{name}", *own)
            publish(last, WEIGHTS / name, "--half", "true")
