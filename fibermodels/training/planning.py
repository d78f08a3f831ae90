"""How long the recipe is trained, and how large its generator is: the whole recipe, or what minutes allow."""

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

import torch
from torch import Tensor

from fibermodels.training.module import Training
from fibermodels.training.objective import own_terms
from fibermodels.training.recipe import BATCH, STEPS, WIDTHS

ENOUGH = 400
"""Steps that a generator should have: a narrower one is taken where the minutes do not allow them."""

EPOCHS = 8
"""Previews of a training, at most."""

LEAST, SMALLEST = 20, 8
"""Steps of the shortest training, and images of the smallest batch."""

SHARE, PATIENCE = 0.85, 0.05
"""Of the minutes: for steps, the rest being for validation and pictures; and after which no wider one is measured."""

MEASURED = 4
"""Steps of a width that are measured, if there is time: other work on the machine makes some of them slow."""

CLEARLY = 0.8
"""Where bfloat16 is on a CPU, a convolution takes at most this part of the time."""


@dataclass(frozen=True)
class Plan:
    """How long is trained, and how large."""

    width: int
    """Channels of the generator."""
    precision: str
    """Of the trainer."""
    epochs: int
    steps: int
    """Of each epoch."""
    seconds: float | None = None
    """Of a step, as measured; None for a plan that was not measured, whose epochs are passes over all images."""
    batch: int = BATCH
    """Images of a step."""

    @property
    def ema_decay(self) -> float:
        """The averages remember about a twentieth of the training."""
        return round(max(0.9, min(0.998, 1 - 20 / (self.epochs * self.steps))), 5)

    def __str__(self) -> str:
        total = self.epochs * self.steps
        time = (
            f", {self.seconds:.2g} s a step: about {total * self.seconds / SHARE / 60:.2g} minutes"
            if self.seconds
            else ""
        )
        return f"{total} steps, batches of {self.batch}, width {self.width}, {self.precision}{time}"

    def trainer(self) -> dict[str, Any]:
        """Options of the trainer."""
        limits = {} if self.seconds is None else {"limit_train_batches": self.steps, "limit_val_batches": 4}
        if self.epochs > EPOCHS:
            limits["check_val_every_n_epoch"] = math.ceil(self.epochs / EPOCHS)
        return {"max_epochs": self.epochs, **limits, "precision": self.precision}

    def values(self) -> dict[str, Any]:
        """In plain types."""
        return asdict(self)


def whole(images: int, device: torch.device, batch: int = BATCH, places: bool = True) -> Plan:
    """The whole recipe, whatever time it takes.

    Args:
        images: number of training images.
        device: where it runs.
        batch: images of a step.
        places: whether they are images or maps, whose network has convolutions.
    """
    steps = max(1, images // batch)
    return Plan(WIDTHS[-1], fastest(device, places), validated(max(1, round(STEPS / steps))), steps)


def validated(epochs: int) -> int:
    """The next number of epochs of which the last one is validated: of few inputs, there are many short ones."""
    every = math.ceil(epochs / EPOCHS)
    return every * math.ceil(epochs / every)


def planned(
    build: Callable[[int], Training], x: Tensor, images: int, minutes: float, device: torch.device, since: float
) -> Plan:
    """Measures a step of each width, and takes the widest that has enough steps in the minutes.

    Where the narrowest has not, the batch is halved until it has, or has `SMALLEST` images.

    Args:
        build: the training of a width.
        x: a batch of images.
        images: number of training images.
        minutes: of the training, with all that came before it.
        device: where it runs.
        since: when the minutes began, by `time.perf_counter`.
    """
    precision, planning = fastest(device, x.ndim == 4), time.perf_counter()
    width = seconds = total = 0.0
    for wider in WIDTHS:
        measured = step_seconds(build(wider).to(device), x.to(device), precision, PATIENCE * 60 * minutes)
        now = time.perf_counter()
        steps = max(LEAST, int(SHARE * (60 * minutes - (now - since)) / measured))
        if width and steps < ENOUGH:
            break
        width, seconds, total = wider, measured, steps
        if steps < ENOUGH or now - planning > PATIENCE * 60 * minutes:
            break
    batch, left = len(x), SHARE * (60 * minutes - (time.perf_counter() - since))
    while left / seconds < ENOUGH and batch >= 2 * SMALLEST:
        batch, seconds = batch // 2, seconds / 2
        total = max(LEAST, int(left / seconds))
    epochs = validated(max(1, min(EPOCHS, int(total) // 20), math.ceil(total / max(1, images // batch))))
    return Plan(int(width), precision, epochs, math.ceil(total / epochs), round(seconds, 4), batch)


def fastest(device: torch.device, places: bool = True) -> str:
    """The precision in which this machine is fastest: bfloat16 is on accelerators and some CPUs, slow on others.

    Without `places`, the network is a small perceptron, which gains nothing by it.
    """
    if device.type == "cuda" and places:
        return "bf16-mixed" if torch.cuda.is_bf16_supported() else "32-true"
    if device.type != "cpu" or not places:
        return "32-true"
    layer, x = torch.nn.Conv2d(32, 32, 3), torch.ones(16, 32, 16, 16)
    times: dict[str, list[float]] = {"32-true": [], "bf16-mixed": []}
    for _ in range(5):  # in turn, because other work on the machine slows some of them
        for precision, own in times.items():
            own.append(seconds_of(lambda: layer(x).sum().backward(), device, precision))
    return "bf16-mixed" if min(times["bf16-mixed"]) < CLEARLY * min(times["32-true"]) else "32-true"


def step_seconds(module: Training, x: Tensor, precision: str, patience: float) -> float:
    """The median time of a forward and a backward pass on a batch.

    Args:
        module: what is trained.
        x: the batch.
        precision: of the trainer.
        patience: a step that takes more seconds is judged by an eighth of the batch.
    """
    learner: Any = module.learner

    def step(x: Tensor) -> None:
        found = own_terms(learner, module.subject, {"x": x})
        terms = [*found.values.values()]
        if module.fiber.weight:
            terms.append(module.fiber(learner, module.subject, found.h, x=x, drawn=found.drawn))
        torch.stack([term.mean() for term in terms]).sum().backward()

    few = x[: max(1, len(x) // 8)]
    own = [seconds_of(lambda: step(few), x.device, precision) for _ in range(2)]  # the first one has preparations, too
    rough = min(own) * len(x) / len(few)
    if rough > patience:
        return rough
    start, times = time.perf_counter(), list[float]()
    while not times or (len(times) < MEASURED and time.perf_counter() - start < patience):
        times.append(seconds_of(lambda: step(x), x.device, precision))
    return median(times)


def seconds_of(call: Callable[[], None], device: torch.device, precision: str) -> float:
    """The time that a call takes in a precision of the trainer."""
    start = time.perf_counter()
    with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16-mixed"):
        call()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start
