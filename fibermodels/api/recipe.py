"""The training that `fit` plans: the recipe that won on real images, sized to the images and to the minutes.

A generator in one call (`EnergyScore` with `nn.Upsampler`, over pixels) is trained by the energy score of patches and
of the first two stages of the subject's own network, and by the fiber loss of the layer and of the logits. See
`docs/cifar10.md` for its figures. Inputs without places (points, tables, signals) have flow matching with `nn.MLP`,
over the inputs as they are, standardised.
"""

import math
import time
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from fibermodels.core import Subject
from fibermodels.diffusion import Midpoint
from fibermodels.latents import Identity
from fibermodels.models import EnergyScore, FiberLoss, FlowMatching
from fibermodels.nn import MLP, Upsampler
from fibermodels.spaces import ImageSpace
from fibermodels.subjects.live import Live
from fibermodels.subjects.stages import first_stages, has_logits
from fibermodels.trainable import TrainableFiberModel
from fibermodels.training import Training
from fibermodels.training.objective import own_terms

WIDTHS = (48, 64, 96, 128)
"""Channels of the generator, from the cheapest to the best."""

ENOUGH = 400
"""Steps that a generator should have: a narrower one is taken where the minutes do not allow them."""

EPOCHS = 8
"""Previews of a training, at most."""

SHARE = 0.85
"""Of the minutes, for steps; the rest is for validation and pictures."""


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
    seconds: float
    """Of a step, as measured."""

    @property
    def every(self) -> int:
        """Epochs from one validation to the next."""
        return max(1, self.epochs // EPOCHS)

    @property
    def ema_decay(self) -> float:
        """The averages remember about a twentieth of the training."""
        return max(0.9, min(0.998, 1 - 20 / (self.epochs * self.steps)))

    def values(self) -> dict[str, Any]:
        """In plain types."""
        return asdict(self)


@dataclass(frozen=True)
class Scale:
    """Mean and deviation of inputs, for each entry of a vector or each channel of a signal or map."""

    mean: list[float]
    std: list[float]

    @classmethod
    def of(cls, x: Tensor) -> "Scale":
        """Those of inputs `(N, *input_shape)`; the deviation of what does not vary is 1."""
        flat = x.transpose(0, 1).flatten(1)
        std = flat.std(1, correction=0)
        return cls(flat.mean(1).tolist(), torch.where(std > 0, std, 1).tolist())


def learner_of(subject: Subject, width: int, scale: Scale) -> TrainableFiberModel:
    """What is trained for inputs of this kind; arguments as in `training`."""
    space, features = subject.input_space, list(subject.feature_shape)
    if isinstance(space, ImageSpace):
        return EnergyScore(Identity(space.shape, 0.5), features, Upsampler(width=width), features=stages(subject))
    latents = Identity(input_shape=list(space.shape), mean=scale.mean, std=scale.std)
    if len(space.shape) == 3 and space.shape[1] % 4 == space.shape[2] % 4 == 0:
        return EnergyScore(latents, features, Upsampler(width=width), features=stages(subject))
    return FlowMatching(latents, features, MLP(4 * width, 3), Midpoint(8))


def training(
    subject: Subject,
    width: int,
    scale: Scale,
    fiber_weight: float | None,
    learning_rate: float,
    seed: int,
    classifier: Subject | None,
) -> Training:
    """The module that is trained.

    Args:
        subject: the network under study.
        width: channels of the generator; an MLP is four times as wide.
        scale: of the inputs, unless they are images.
        fiber_weight: lambda; None takes 2 for generators, and 0 for flow matching, whose law it would bend.
        learning_rate: its peak.
        seed: of all random numbers.
        classifier: the logits of the subject's network, which the fiber loss asks for, too; None for no such layer.
    """
    learner = learner_of(subject, width, scale)
    if fiber_weight is None:
        fiber_weight = 2.0 if isinstance(learner, EnergyScore) else 0.0
    fiber = FiberLoss(fiber_weight, "cosine", later=[classifier] if classifier is not None else [])
    return Training(learner, subject, fiber, learning_rate=learning_rate, seed=seed, preview=32)


def stages(subject: Subject) -> list[Subject]:
    """The first stages of a network in memory, before the subject's layer."""
    if not isinstance(subject, Live):
        return []
    return [at(subject, name) for name in first_stages(subject, subject.arguments["layer"])]


def at(subject: Live, layer: str) -> Live:
    """Another layer of the same network."""
    return Live(**subject.arguments | {"network": subject.network, "layer": layer, "units": None})


def logits(subject: Subject) -> Live | None:
    """The output of a network in memory, if it is a vector that comes after the subject's layer."""
    if isinstance(subject, Live) and has_logits(subject, subject.arguments["layer"]):
        return at(subject, "logits")
    return None


def planned(build: Any, x: Tensor, images: int, minutes: float, device: torch.device) -> Plan:
    """Measures a step of each width and precision, and takes the widest that has enough steps in the minutes.

    Args:
        build: the training of a width.
        x: a batch of inputs.
        images: number of training inputs.
        minutes: of the training.
        device: where it runs.
    """
    start = time.perf_counter()
    found: dict[str, Any] = {}
    choices = precisions(device)
    for width in WIDTHS:
        module: Training = build(width).to(device)
        timed = {precision: step_seconds(module, x.to(device), precision) for precision in choices}
        choices = (min(timed, key=lambda name: timed[name]),)
        left = 60 * minutes - (time.perf_counter() - start)
        total = max(20, int(SHARE * left / timed[choices[0]]))
        if found and total < ENOUGH:
            break
        found = {"width": width, "precision": choices[0], "seconds": round(timed[choices[0]], 4), "total": total}
    total = int(found.pop("total"))
    epochs = max(1, min(EPOCHS, total // 20))
    most = max(1, images // len(x))
    while math.ceil(total / epochs) > most:
        epochs += 1
    if epochs > EPOCHS:  # of few inputs; the last one is validated
        epochs = EPOCHS * math.ceil(epochs / EPOCHS)
    return Plan(epochs=epochs, steps=math.ceil(total / epochs), **found)


def precisions(device: torch.device) -> tuple[str, ...]:
    """What may be fastest: bfloat16 is on accelerators, and on some CPUs."""
    if device.type == "cpu":
        return ("32-true", "bf16-mixed")
    return ("bf16-mixed",) if device.type == "cuda" and torch.cuda.is_bf16_supported() else ("32-true",)


def step_seconds(module: Training, x: Tensor, precision: str, steps: int = 1) -> float:
    """The time of a forward and a backward pass on a batch, the fastest of some, after one that is not counted."""
    times = []
    for _ in range(steps + 1):
        start = time.perf_counter()
        with torch.autocast(x.device.type, torch.bfloat16, enabled=precision == "bf16-mixed"):
            found = own_terms(module.learner, module.subject, {"x": x})
            learner: Any = module.learner
            terms = [*found.values.values()]
            if module.fiber.weight:
                terms.append(module.fiber(learner, module.subject, found.h, x=x, drawn=found.drawn))
            torch.stack([term.mean() for term in terms]).sum().backward()
        if x.device.type == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    module.zero_grad(set_to_none=True)
    return min(times[1:])
