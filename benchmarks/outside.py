"""Inputs that are not like the data: is a fiber that the model does not reach a sign of them?

    FIBERMODELS_DATA=... python benchmarks/outside.py [--parts '[digits, cifar10]']

A fiber model samples inputs like its data. The representation of another input may have none of them in its fiber, and
then the samples miss it: their fiber RMS is a detector. It is compared with the distance to the nearest representation
of the training inputs and with the classifier's confidence, by the area under the curve of true against false alarms.

`digits`: scikit-learn's digits without one class, a small classifier and flow matching, trained in a minute. Noise,
inverted and rotated digits, and the held-out class. `cifar10`: the committed generator of ResNet-20's last map. Noise,
inverted and rotated images, and handwritten digits. Results are in `results/outside`.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jsonargparse import auto_cli
from runner import scored, shrink
from torch import Tensor
from trained import ROOT, trained

from fibermodels.component import device_name, fingerprint
from fibermodels.core import FiberModel, FiberSamples, Subject
from fibermodels.data import InMemory
from fibermodels.evaluation.results import Metrics, commit, save
from fibermodels.latents import Identity
from fibermodels.metrics.fidelity import pair_rms
from fibermodels.models import FlowMatching
from fibermodels.nn import MLP
from fibermodels.noise import seeded
from fibermodels.subjects import Cut, FinetunedClassifier
from fibermodels.subjects.multilabel import auroc

RESULTS = ROOT / "results/outside"
HELD_OUT, SAMPLES, SHOWN, RESAMPLES = 9, 4, 3, 1000
"""The digit that is not shown, samples of each target, targets of each set in the picture, and draws for intervals."""

INSIDE = "inside"
"""The name of the inputs like the data."""


@dataclass(frozen=True)
class World:
    """A model with its subject, and inputs of several kinds."""

    model: FiberModel
    subject: Subject
    confidence: Callable[[Tensor], Tensor]
    """From inputs to the largest probability of a class, `(B,)`."""
    train: Tensor
    """Inputs of the training, `(N, *input_shape)`."""
    sets: dict[str, Tensor]
    """Inputs by kind; `INSIDE` are like the training's."""


def main(parts: list[str] = ["digits", "cifar10"], samples: int = SAMPLES) -> None:  # noqa: B006 (read only)
    """Scores each part that is missing.

    Args:
        parts: `digits`, `cifar10`.
        samples: of each target.
    """
    for part in parts:
        if not scored(RESULTS / part):
            world = {"digits": of_digits, "cifar10": of_cifar10}[part]()
            found, values = scores(world, samples)
            save(RESULTS / part, found, {"name": part, "dataset": part, **values})
            shrink(RESULTS / part / "samples.png")
            print({key: value for key, value in values.items() if key.startswith("auroc")})


@torch.no_grad()
def scores(world: World, n: int) -> tuple[FiberSamples, Metrics]:
    """Some samples of each kind for the picture, and the fiber RMS and the areas of each detector by kind."""
    seen = world.subject(world.train).flatten(1)
    alarms: dict[str, dict[str, Tensor]] = {}
    shown: list[FiberSamples] = []
    for kind, x in world.sets.items():
        h = world.subject(x)
        x_hat = world.model.sample(h, n, seeded("outside", kind))
        samples = FiberSamples(x, h, x_hat, torch.stack([world.subject(slot) for slot in x_hat]))
        nearest = torch.cdist(h.flatten(1), seen).amin(1)
        alarms[kind] = {"fiber": pair_rms(samples).mean(0), "neighbour": nearest, "confidence": -world.confidence(x)}
        shown.append(FiberSamples(x[:SHOWN], h[:SHOWN], x_hat[:, :SHOWN], samples.h_hat[:, :SHOWN]))
    own = alarms.pop(INSIDE)
    values: Metrics = {
        "family": type(world.model).__name__,
        "fiber_weight": 0.0,
        "subject": fingerprint(world.subject),
        "num_targets": len(world.sets[INSIDE]),
        "samples_per_target": n,
        "seed": 0,
        "device": device_name("cpu"),
        "commit": commit(),
        "fiber_rms": round(float(own["fiber"].mean()), 6),
    }
    for kind, theirs in alarms.items():
        values[f"fiber_rms_{kind}"] = round(float(theirs["fiber"].mean()), 6)
        for detector, alarm in theirs.items():
            area, low, high = interval(own[detector], alarm)
            values |= {f"auroc_{detector}_{kind}": area}
            if detector == "fiber":
                values |= {f"auroc_{detector}_{kind}_low": low, f"auroc_{detector}_{kind}_high": high}
    parts = [
        torch.cat([getattr(each, name) for each in shown], int("_hat" in name)) for name in ("x", "h", "x_hat", "h_hat")
    ]
    return FiberSamples(*parts), values


def area(inside: Tensor, outside: Tensor) -> float:
    """The probability that an alarm outside `(N,)` is above one inside `(M,)`; ties count half."""
    labels = torch.cat((torch.zeros(len(inside)), torch.ones(len(outside))))
    return float(auroc(torch.cat((inside, outside))[:, None], labels[:, None])[0])


def interval(inside: Tensor, outside: Tensor) -> tuple[float, float, float]:
    """The area, and its 95 % interval over inputs."""
    generator = seeded("intervals")

    def again(alarm: Tensor) -> Tensor:
        return alarm[torch.randint(len(alarm), (len(alarm),), generator=generator)]

    drawn = torch.tensor([area(again(inside), again(outside)) for _ in range(RESAMPLES)])
    low, high = drawn.quantile(torch.tensor([0.025, 0.975])).tolist()
    return round(area(inside, outside), 4), round(low, 4), round(high, 4)


def of_digits() -> World:
    """Digits of 8 x 8 pixels as vectors, without one class."""
    from sklearn.datasets import load_digits

    found = load_digits()
    x, y = torch.from_numpy(found.data).float() / 16, torch.from_numpy(found.target).long()
    data = InMemory(x[y != HELD_OUT], y[y != HELD_OUT], val_size=0.2, name="digits")
    torch.manual_seed(0)
    shape = {"inputs": 64, "outputs": 32, "width": 128, "blocks": 1}
    encoder = Cut("fibermodels.nn.residual_mlp.ResidualMLP", "logits", network_args=shape, input_shape=[64])
    names = [str(i) for i in range(10) if i != HELD_OUT]
    learner, _ = trained(FinetunedClassifier(encoder, names, exclusive=True), data, 30, learning_rate=1e-3)
    classifier = learner.product(data.split("val").batches(256))
    subject, train = classifier.encoder, data.split("train").inputs(slice(None))
    std = float(train.std())
    space = Identity(input_shape=[64], mean=train.mean(0).tolist(), std=64 * [std])
    flow = FlowMatching(space, [32], MLP(128, 3))
    model, _ = trained(flow, data, 250, subject, average=0.999, clip=1.0)
    inside = data.split("test").inputs(slice(None))
    pictures = inside.view(-1, 8, 8)
    sets = {
        INSIDE: inside,
        "noise": torch.rand(inside.shape, generator=seeded("noise")),
        "inverted": 1 - inside,
        "rotated": pictures.rot90(1, (1, 2)).flatten(1),
        "held_out": x[y == HELD_OUT],
    }
    return World(model, subject, lambda inputs: classifier.probabilities(inputs).amax(1), train, sets)


def of_cifar10(count: int = 200) -> World:
    """Images of the test, and others, for the committed generator."""
    import sys

    from cifar10 import unpack

    from fibermodels.data.digits import load_labelled
    from fibermodels.evaluation.building import build, network

    sys.path.append(str(ROOT))
    unpack()
    model, subject, data, _ = build(None, str(ROOT / "configs/cifar10/best.yaml"), [])
    classifier = network("classifier", str(ROOT / "configs/parts/cifar10/resnet20.yaml"))
    inside = data.split("test").inputs(slice(count))
    digits = torch.nn.functional.pad(load_labelled("mnist", "test")[0][:count], (2, 2, 2, 2)).expand(-1, 3, -1, -1)
    sets = {
        INSIDE: inside,
        "noise": torch.rand(inside.shape, generator=seeded("noise")),
        "inverted": 1 - inside,
        "rotated": inside.rot90(1, (2, 3)),
        "digits": digits.contiguous(),
    }
    train = data.split("train").inputs(slice(2000))
    return World(model.eval(), subject, lambda inputs: classifier(inputs).softmax(1).amax(1), train, sets)


if __name__ == "__main__":
    auto_cli(main)
