"""Which classifier cannot see the colour: the fibers of ERM and IRM on digits whose colour goes with the label.

    FIBERMODELS_DATA=... python benchmarks/causal.py [--parts '[subjects, prior, fibers]'] [--num_targets 200]

`subjects` trains and publishes three classifiers: by empirical risk (ERM), by invariant risk (IRM), and one that sees
grey images. `prior` trains a diffusion model that is told the label, where 80 % of colours agree with it. `fibers`
takes images where 10 % agree, and samples their fibers, told their label: by NDTM, and by
the nearest of the prior's own training images of the label. If a classifier cannot see the colour, 80 % of the samples'
colours agree with the label; if it can, about as few as in the images. Results are in `results/causal`.
"""

import time
from collections.abc import Iterator
from pathlib import Path

import torch
from jsonargparse import auto_cli
from runner import scored, shrink
from torch import Tensor
from torch.nn import functional
from trained import ROOT, facts, publish

from fibermodels.core import FiberModel, FiberSamples
from fibermodels.diffusion import DDIM, Ancestral, Told
from fibermodels.evaluation.results import Metrics, save
from fibermodels.evaluation.scoring import score
from fibermodels.files import save_tensors
from fibermodels.guidance import NDTM, Guided, Unguided
from fibermodels.latents import Identity
from fibermodels.models import Diffusion, NearestNeighbour
from fibermodels.nn import MLP
from fibermodels.noise import seeded
from fibermodels.suites.causal_digits import SHAPE, CausalClassifier, CausalDigits, colour_of, recoloured

RESULTS, WEIGHTS, PRIOR = ROOT / "results/causal", Path("data/weights/causal"), ROOT / "runs/causal/prior.safetensors"

ENVIRONMENTS, HELD_OUT, AGREEMENT = (0.9, 0.8), 0.1, 0.8
"""Shares of agreeing colours where classifiers are trained, in the test, and in the prior's images."""

COUNT, WIDTH, STEPS, RATE, DECAY, PENALTY, ANNEAL = 25_000, 128, 501, 4.9e-4, 1.1e-3, 91_257.0, 190
"""Images of each environment, width of the hidden layers, steps on all images, Adam's rate, weight decay, the weight of
IRM's penalty, and the step from which it has this weight; before, 1. All are the reference's, whose width is 390."""

UPDATES, BATCH, PEAK = 2500, 96, 2e-3
"""Steps of the prior's training, images of each, and the largest rate."""

GAMMA, SAMPLER, INNER, LEARNING_RATE = [[0.5, 0.0, 14.0, 40.0]], 100, 6, 0.004
"""NDTM's strength over the second half of the steps, the steps, the inner ones and their rate: as published, with half
of the steps and twice the strength."""

SUBJECTS, METHODS, RESAMPLES = ("erm", "irm", "grey"), ("neighbours", "prior", "ndtm"), 2000


def main(parts: list[str] = ["subjects", "prior", "fibers"], num_targets: int = 200) -> None:  # noqa: B006 (read only)
    """Runs the parts; what exists is kept.

    Args:
        parts: `subjects`, `prior`, `fibers`.
        num_targets: images whose fibers are sampled.
    """
    if "subjects" in parts:
        for name in SUBJECTS:
            if not (ROOT / WEIGHTS / f"{name}.safetensors").exists():
                train_subject(name)
    if "prior" in parts and not PRIOR.exists():
        train_prior()
    if "fibers" in parts:
        fibers(num_targets)


def train_subject(name: str) -> None:
    """Trains on two environments, all images in each step, as the reference does."""
    torch.manual_seed(0)
    began = time.perf_counter()
    parts = [CausalDigits(agreement, seed=i).split("train") for i, agreement in enumerate(ENVIRONMENTS)]
    environments = [(each.inputs(slice(COUNT)), each.labels()[:COUNT].float()) for each in parts]  # type: ignore[index]
    subject = CausalClassifier(WIDTH, grey=name == "grey").requires_grad_(True)
    adam = torch.optim.Adam(subject.parameters(), RATE, weight_decay=0.0)
    start = torch.tensor(0.0)
    for step in range(STEPS):
        risks, penalties = zip(*(risk(subject, x, y) for x, y in environments), strict=True)
        weight = (PENALTY if step >= ANNEAL else 1.0) if name == "irm" else 0.0
        decay = DECAY * sum((p.square().sum() for p in subject.parameters()), start)
        loss = torch.stack(risks).mean() + decay + weight * torch.stack(penalties).mean()
        adam.zero_grad()
        (loss / max(1.0, weight)).backward()
        adam.step()
    subject.requires_grad_(False)
    seconds = time.perf_counter() - began
    scores = {
        f"accuracy_{agreement}": accuracy(subject, CausalDigits(agreement)) for agreement in (*ENVIRONMENTS, HELD_OUT)
    }
    publish(subject, WEIGHTS / f"{name}.safetensors", "causal_mnist", scores, seconds)


def risk(subject: CausalClassifier, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """The cross entropy, and the squared derivative in a scale of the logits (IRMv1)."""
    scale = torch.ones((), requires_grad=True)
    value = functional.binary_cross_entropy_with_logits(scale * subject(x)[:, 0], y)
    (slope,) = torch.autograd.grad(value, scale, create_graph=True)
    return value, slope.square()


def accuracy(subject: CausalClassifier, data: CausalDigits) -> float:
    """On the test split."""
    test = data.split("test")
    return float(((subject(test.inputs())[:, 0] > 0) == (test.labels() == 1)).float().mean())


def new_prior(weights: str | None = None) -> Diffusion:
    """A diffusion model of the inputs, told the label as two numbers."""
    x = CausalDigits(AGREEMENT).split("train").inputs()
    space = Identity(input_shape=list(SHAPE), mean=x.mean((0, 2, 3)).tolist(), std=x.std((0, 2, 3)).tolist())
    return Diffusion(space, [2], MLP(256, 2), "linear", "velocity", DDIM(50), weights)


def train_prior() -> None:
    """Trains the prior; a minute or more of one core."""
    torch.manual_seed(0)
    data = CausalDigits(AGREEMENT).split("train")
    x, told = data.inputs(), functional.one_hot(data.labels(), 2).float()  # type: ignore[arg-type]
    model = new_prior()
    model.network.standardise.measure(told)
    adam = torch.optim.AdamW(model.parameters(), PEAK)
    schedule = torch.optim.lr_scheduler.OneCycleLR(adam, PEAK, total_steps=UPDATES, pct_start=0.1)
    averaged = [p.detach().clone() for p in model.parameters()]
    for step, rows in enumerate(torch.randint(len(x), (UPDATES, BATCH), generator=seeded("batches"))):
        loss = torch.stack([term.mean() for term in model.loss(x[rows], told[rows]).values()]).sum()
        adam.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        adam.step()
        schedule.step()
        with torch.no_grad():
            share = min(0.998, (1 + step) / (10 + step))
            torch._foreach_lerp_(averaged, [p.detach() for p in model.parameters()], 1 - share)
        if step % 500 == 0:
            print(f"step {step}: {loss.item():.3f}", flush=True)
    with torch.no_grad():
        for own, average in zip(model.parameters(), averaged, strict=True):
            own.copy_(average)
    PRIOR.parent.mkdir(parents=True, exist_ok=True)
    save_tensors(model.state_dict(), PRIOR)


def fibers(num_targets: int) -> None:
    """Samples the fibers of each classifier by each method, and writes what their colours say; without the prior's
    weights, by neighbours alone."""
    test = CausalDigits(HELD_OUT).split("test")
    x, y = test.inputs(slice(num_targets)), test.labels()[:num_targets]  # type: ignore[index]
    for method in METHODS if PRIOR.exists() else METHODS[:1]:
        for name in SUBJECTS:
            folder = RESULTS / f"{name}-{method}"
            if scored(folder):
                continue
            subject = CausalClassifier(WIDTH, grey=name == "grey", weights=str(ROOT / WEIGHTS / f"{name}.safetensors"))
            h = subject(x)
            x_hat = torch.empty(1, *x.shape)
            for label, model in models(method, subject):
                own = y == label
                x_hat[:, own] = model.sample(h[own], 1, seeded("causal", method, str(label)))
            samples = FiberSamples(x, h, x_hat, subject(x_hat[0])[None])
            values: Metrics = {
                **facts(folder, method, "causal_mnist", subject, num_targets),
                **score(samples),
                **colours(samples, y, subject),
            }
            save(folder, samples, values)
            shrink(folder / "samples.png")
            print(f"{folder.name}: RMS {values['fiber_rms']}, agreement {values['agreement']}", flush=True)


def models(method: str, subject: CausalClassifier) -> Iterator[tuple[int, FiberModel]]:
    """A model for each label."""
    if method == "neighbours":
        train = CausalDigits(AGREEMENT).split("train")
        for label in (0, 1):
            pool = train.inputs()[train.labels() == label]
            yield label, NearestNeighbour().remember(pool, subject(pool))
        return
    prior = new_prior()
    prior.load_weights(str(PRIOR))
    prior.eval().requires_grad_(False)
    for label in (0, 1):
        told = Told(prior, [float(label == 0), float(label == 1)])
        guidance = NDTM(GAMMA, inner=INNER, learning_rate=LEARNING_RATE)
        guided = Guided(told, subject, guidance, sampler=Ancestral(SAMPLER))
        yield label, guided if method == "ndtm" else Unguided(told, DDIM(50))


def colours(samples: FiberSamples, y: Tensor, subject: CausalClassifier) -> Metrics:
    """The share of colours that agree with the label and their correlation, in samples and targets, with 95 % intervals
    over targets; and how far the logit moves if the colour alone changes, in its deviations."""
    before, after = (colour_of(each) for each in (samples.x, samples.x_hat[0]))
    rows = torch.randint(len(y), (RESAMPLES, len(y)), generator=seeded("intervals"))
    values = {"agreement_targets": float((before == y).float().mean()), "agreement": float((after == y).float().mean())}
    values["correlation_targets"], values["correlation"] = correlation(before, y), correlation(after, y)
    values["correlation_change"] = values["correlation"] - values["correlation_targets"]
    drawn = torch.tensor(
        [
            [float((after[i] == y[i]).float().mean()), correlation(after[i], y[i]) - correlation(before[i], y[i])]
            for i in rows
        ]
    )
    for name, own in zip(("agreement", "correlation_change"), drawn.T, strict=True):
        values[f"{name}_low"], values[f"{name}_high"] = own.quantile(torch.tensor([0.025, 0.975])).tolist()
    moved = (subject(samples.x) - subject(recoloured(samples.x))).square().mean().sqrt() / samples.h.std()
    return {name: round(value, 6) for name, value in values.items()} | {"colour_effect": round(float(moved), 6)}


def correlation(colour: Tensor, y: Tensor) -> float:
    """Of colours and labels `(N,)`."""
    return float(torch.corrcoef(torch.stack([colour.float(), y.float()]))[0, 1])


if __name__ == "__main__":
    auto_cli(main)
