"""Shape or texture: which label of a digit filled with a texture do the fibers of a network keep?

    FIBERMODELS_DATA=... python benchmarks/label_preference.py [--num_targets 1000]

Three small classifiers of `suites.CueDigits` are trained: `shape` and `texture` on images whose two labels are
independent, each with one of them as the label, and `both` on images whose labels agree. Their subjects are the pooled
features. Fibers are sampled by the nearest of the training images whose labels are independent, and those of the first
two by flow matching of these images, too. A judge, trained as `both` with another seed, decides for each sample. As
in arXiv 2603.21782 (figure 8), the preference is the share of shapes among its decisions for one of the two labels.

For targets on which two classifiers are right, the agreement (figures 10 and 16) is the share of samples of one's
fibers on which both keep the label, and the AUROC is that of the other's probabilities there. `twin` is trained as the
subject, with another seed (figure 17). All is trained in memory; results are in `results/label_preference`.
"""

from collections.abc import Callable

import torch
from jsonargparse import auto_cli
from label_preference_figure import Curve, draw
from runner import scored, shrink
from torch import Tensor, nn
from trained import ROOT, facts, trained

from fibermodels.core import FiberModel, FiberSamples, Subject
from fibermodels.evaluation.results import Metrics, save
from fibermodels.evaluation.scoring import score
from fibermodels.latents import Identity
from fibermodels.metrics.shape_texture import cue_preference
from fibermodels.models import FlowMatching, NearestNeighbour
from fibermodels.nn import MLP
from fibermodels.noise import seeded
from fibermodels.subjects import Live
from fibermodels.subjects.multilabel import auroc
from fibermodels.suites.cue_digits import CLASSES, CueDigits, silhouette, texture_of

RESULTS = ROOT / "results/label_preference"

SUBJECTS, METHODS = ("shape", "texture", "both"), ("neighbours", "flow_matching")
ROWS = [(name, method) for method in METHODS for name in SUBJECTS if (name, method) != ("both", "flow_matching")]
INDEPENDENT, SHAPE = 1 / CLASSES, [1, 14, 14]

STEPS, BATCH, RATE, WIDTH = 500, 128, 3e-3, 32
"""Of the classifiers' training, and the number of their features."""

EPOCHS, LAYERS = 5, (256, 2)
"""Of flow matching, and the width and blocks of its network."""

RESAMPLES = 1000
"""Draws of targets for 95 % intervals."""


def classifier(kind: str, data: CueDigits, seed: int = 0) -> nn.Sequential:
    """A network of two convolutions, trained on the label of its kind."""
    torch.manual_seed(seed)
    network = nn.Sequential(
        *(nn.Conv2d(1, 16, 5, 2, 2), nn.ReLU(), nn.Conv2d(16, 24, 3, 1, 1), nn.ReLU(), nn.Flatten()),
        *(nn.Linear(24 * 49, WIDTH), nn.ReLU(), nn.Linear(WIDTH, CLASSES)),
    )
    split = data.split("train")
    x, y = split.inputs(), split.labels()[:, int(kind == "texture")]  # type: ignore[index]
    adam = torch.optim.Adam(network.parameters(), RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(adam, RATE, total_steps=STEPS)
    for rows in torch.randint(len(x), (STEPS, BATCH), generator=seeded("batches", kind, seed)):
        adam.zero_grad()
        nn.functional.cross_entropy(network(x[rows]), y[rows]).backward()
        adam.step()
        schedule.step()
    return network.eval().requires_grad_(False)


def main(num_targets: int = 1000) -> None:
    """Trains the networks, and scores what is missing.

    Args:
        num_targets: test images whose labels differ, and as many whose labels agree.
    """
    if all(scored(RESULTS / "-".join(row)) for row in ROWS):
        return
    data = {share: CueDigits(share) for share in (0.0, INDEPENDENT, 1.0)}
    seen_by = {name: data[1.0 if name == "both" else INDEPENDENT] for name in SUBJECTS}
    networks, twins = ({name: classifier(name, own, seed) for name, own in seen_by.items()} for seed in (0, 1))
    right = {name: accuracy(network, name, seen_by[name]) for name, network in networks.items()}
    judge = classifier("both", data[1.0], 2)
    print(right, flush=True)
    conflicting, agreeing = (data[share].split("test") for share in (0.0, 1.0))
    cues, labels = conflicting.labels()[:num_targets], agreeing.labels()[:num_targets, 0]  # type: ignore[index]
    curves: dict[tuple[str, str], list[Curve]] = {}
    for name, method in ROWS:
        folder = RESULTS / f"{name}-{method}"
        subject = Live(networks[name], "pooled", SHAPE)
        model = {"neighbours": neighbours, "flow_matching": flow_matching}[method](subject, data[INDEPENDENT])
        draws = [drawn(model, subject, x[:num_targets], name) for x in (conflicting.inputs(), agreeing.inputs())]
        others = {**{other: networks[other] for other in SUBJECTS if other != name}, "twin": twins[name]}
        agreed, curves[name, method] = agreement(draws[1], labels, networks[name], others)
        values: Metrics = {
            **facts(folder, method, "cue_mnist", subject, num_targets),
            "accuracy": right[name],
            "judge_accuracy": accuracy(judge, "both", data[1.0]),
            **score(draws[0]),
            **preference(draws[0], cues, judge),
            **agreed,
        }
        save(folder, draws[0], values)
        shrink(folder / "samples.png")
        print(
            folder.name, {key: values[key] for key in ("fiber_rms", "shape_preference", "agreement_twin")}, flush=True
        )
    draw(curves, RESULTS / "roc.png")


def neighbours(subject: Subject, data: CueDigits) -> FiberModel:
    """The nearest training images."""
    x = data.split("train").inputs()
    return NearestNeighbour().remember(x, seen(subject, x))


def flow_matching(subject: Subject, data: CueDigits) -> FiberModel:
    """Flow matching of pixels, trained on the same images."""
    space = Identity(SHAPE)
    flow = FlowMatching(space, list(subject.feature_shape), MLP(*LAYERS))
    return trained(flow, data, EPOCHS, subject, average=0.998, clip=1.0)[0]


@torch.no_grad()
def seen(network: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """A network's outputs, in batches."""
    return torch.cat([network(part) for part in images.split(2000)])


@torch.no_grad()
def drawn(model: FiberModel, subject: Subject, x: Tensor, name: str) -> FiberSamples:
    """One sample of each target's fiber."""
    h = seen(subject, x)
    x_hat = model.sample(h, 1, seeded("label_preference", name))
    return FiberSamples(x, h, x_hat, seen(subject, x_hat[0])[None])


def accuracy(network: nn.Module, kind: str, data: CueDigits) -> float:
    """Of a classifier on test images."""
    test = data.split("test")
    truth = test.labels()[:, int(kind == "texture")]  # type: ignore[index]
    return round(float((seen(network, test.inputs()).argmax(1) == truth).double().mean()), 4)


def preference(samples: FiberSamples, cues: Tensor, judge: nn.Module) -> Metrics:
    """What the judge decides for samples and targets, and whether samples have the target's texture and silhouette."""
    values: Metrics = {}
    for end, images in (("", samples.x_hat[0]), ("_targets", samples.x)):
        decided = seen(judge, images).argmax(1)
        found = cue_preference(decided, cues)
        rows = torch.randint(len(cues), (RESAMPLES, len(cues)), generator=seeded("intervals"))
        again = torch.tensor([cue_preference(decided[i], cues[i])["shape_preference"] for i in rows])
        low, high = again.nanquantile(torch.tensor([0.025, 0.975])).tolist()
        found |= {"shape_preference_low": low, "shape_preference_high": high}
        for label in range(CLASSES):
            own = cues[:, 0] == label
            found[f"shape_preference_{label}"] = cue_preference(decided[own], cues[own])["shape_preference"]
        values |= {f"{key}{end}": round(value, 4) for key, value in found.items() if value == value}
    same = texture_of(samples.x_hat[0]) == cues[:, 1]
    here, there = silhouette(samples.x), silhouette(samples.x_hat[0])
    overlap = (here * there).sum((1, 2, 3)) / (here + there).clamp(max=1).sum((1, 2, 3))
    return values | {"same_texture": round(float(same.double().mean()), 4), "overlap": round(float(overlap.mean()), 4)}


def agreement(
    samples: FiberSamples, labels: Tensor, own: nn.Module, others: dict[str, nn.Module]
) -> tuple[Metrics, list[Curve]]:
    """Where two classifiers are right on the target: the share of samples with the label by both, for all and for each
    class; the AUROC of the other's probabilities, on targets and samples; and these probabilities, with labels."""
    values: Metrics = {}
    curves = []
    right, kept = (seen(own, x).argmax(1) == labels for x in (samples.x, samples.x_hat[0]))
    truth = nn.functional.one_hot(labels, CLASSES).float()
    for name, other in others.items():
        before, after = (seen(other, x).softmax(1) for x in (samples.x, samples.x_hat[0]))
        rows = right & (before.argmax(1) == labels)
        both = (kept & (after.argmax(1) == labels))[rows].double()
        values |= {f"both_right_{name}": int(rows.sum()), f"agreement_{name}": round(float(both.mean()), 4)}
        for label in range(CLASSES):
            if (labels[rows] == label).any():
                values[f"agreement_{name}_{label}"] = round(float(both[labels[rows] == label].mean()), 4)
        for end, p in (("", after), ("_targets", before)):
            areas = auroc(p[right], truth[right])
            values[f"auroc_{name}{end}"] = round(float(areas.mean()), 4)
            values |= {f"auroc_{name}_{label}{end}": round(float(area), 4) for label, area in enumerate(areas)}
        curves.append((name, after[right], truth[right]))
    return values, curves


if __name__ == "__main__":
    auto_cli(main)
