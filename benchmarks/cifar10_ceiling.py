"""What an exact sampler would reach: how far a representation decides what unseen judges say.

    FIBERMODELS_DATA=... python benchmarks/cifar10_ceiling.py [--only "['resnet20-pooled']"]

A fiber model knows `h` and nothing else. Let `p(c | h)` be the law of a judge's decision `c` on the inputs of the fiber
of `h`. An input that is drawn from the data on the fiber, independently of the target, gets the target's decision with
the probability

    sampled = E sum_c p(c | h)^2 = E p(c(x) | h),

and no rule that knows `h` alone, so no sampler either, meets the decision more often than

    guessed = E max_c p(c | h).

`p` is estimated by a small classifier from `h` to the decisions of all judges (a probe), which is trained on training
images, calibrated on validation images by one temperature of each judge, and scored on test images. A better
probe can only raise both figures, so they are lower bounds of the true ones. The two forms of `sampled` agree if it is
calibrated.
"""

import json
import sys
from collections.abc import Sequence

import torch
from cifar10 import unpack
from cifar10_judges import UNSEEN
from cifar10_rows import CUTS, PARTS, RESULTS, subject
from jsonargparse import auto_cli
from rich.progress import track
from runner import wanted
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from fibermodels.component import device_name
from fibermodels.core import Subject
from fibermodels.data.image_set import ImageSet
from fibermodels.evaluation.building import build, network
from fibermodels.evaluation.results import commit

KINDS = 10
"""Classes of a decision."""

TEMPERATURES = torch.linspace(0.4, 4, 73)


class Probe(nn.Module):
    """Logits `(B, judges, 10)` of the judges' decisions, from a representation `(B, C)` or `(B, C, H, W)`.

    Args:
        shape: of the representation.
        judges: how many.
    """

    def __init__(self, shape: tuple[int, ...], judges: int, width: int = 192) -> None:
        super().__init__()
        first, *places = shape
        self.judges, self.maps = judges, bool(places)
        hidden = width if places else 2 * width
        if places:
            body = [nn.Conv2d(first, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(), nn.Dropout2d(0.2)]
            body += [nn.Conv2d(width, width, 3, stride=2, padding=1), nn.BatchNorm2d(width), nn.ReLU()]
        else:
            body = [nn.Linear(first, hidden), nn.BatchNorm1d(hidden), nn.ReLU(), nn.Dropout(0.2)]
        self.body = nn.Sequential(*body)
        self.last = nn.Sequential(nn.Dropout(0.3), nn.Linear(first + hidden, KINDS * judges))

    def forward(self, h: Tensor) -> Tensor:
        seen = self.body(h)
        both = (seen.mean((2, 3)), h.mean((2, 3))) if self.maps else (seen, h)
        return self.last(torch.cat(both, 1)).unflatten(1, (self.judges, KINDS))


def trained(h: Tensor, decisions: Tensor, epochs: int = 5, rate: float = 2e-3, batch: int = 128) -> Probe:
    """A probe of standardised representations `(N, ...)` and decisions `(N, judges)`."""
    probe = Probe(tuple(h.shape[1:]), decisions.shape[1])
    optimizer = torch.optim.AdamW(probe.parameters(), rate, weight_decay=0.05)
    steps = len(h) // batch
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=epochs * steps)
    for _ in track(range(epochs), "probing"):
        for rows in torch.randperm(len(h))[: steps * batch].split(batch):
            loss = cross_entropy(probe(h[rows]).flatten(0, 1), decisions[rows].flatten())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return probe.eval()


@torch.no_grad()
def predicted(probe: Probe, h: Tensor) -> Tensor:
    """The probe's logits `(N, judges, 10)`."""
    return torch.cat([probe(part) for part in h.split(500)])


def temperatures(logits: Tensor, decisions: Tensor) -> Tensor:
    """The temperature of each judge `(judges, 1)` with the least log loss (Guo et al., 2017)."""

    def best(judge: int) -> Tensor:
        losses = [cross_entropy(logits[:, judge] / t, decisions[:, judge]) for t in TEMPERATURES]
        return TEMPERATURES[torch.stack(losses).argmin()]

    return torch.stack([best(judge) for judge in range(logits.shape[1])])[:, None]


def limits(logits: Tensor, decisions: Tensor) -> dict[str, Tensor]:
    """Of each judge `(judges,)`: the shares that a guess and a sample meet, and the second as the probe expects it."""
    p = logits.softmax(-1)
    own = p.gather(-1, decisions[..., None])[..., 0]
    return {
        "guessed": (p.argmax(-1) == decisions).double().mean(0),
        "sampled": own.double().mean(0),
        "sampled_expected": p.double().square().sum(-1).mean(0),
    }


@torch.no_grad()
def decided(images: ImageSet, count: int, phi: Subject, judges: dict[str, Subject]) -> tuple[Tensor, Tensor]:
    """Representations, and the decisions `(N, judges)`, of the first images of a split."""
    seen, decisions = [], []
    for rows in track(torch.arange(min(count, len(images))).split(250), "judging"):
        x = images.inputs(rows)
        seen.append(phi(x))
        decisions.append(torch.stack([judge(x).argmax(1) for judge in judges.values()], 1))
    return torch.cat(seen), torch.cat(decisions)


def cut_at(cut: str, maps: Tensor, head: nn.Module) -> Tensor:
    """The representation at a cut: the last maps, their means over places, or the linear layer of these."""
    if cut == "spatial":
        return maps
    pooled = maps.mean((2, 3))
    with torch.no_grad():
        return pooled if cut == "pooled" else head(pooled)


def standardised(parts: Sequence[Tensor]) -> list[Tensor]:
    """Representations, each channel with mean 0 and deviation 1 in the first part."""
    over = (0, *range(2, parts[0].ndim))
    mean, std = parts[0].mean(over, keepdim=True), parts[0].std(over, keepdim=True)
    return [(part - mean) / std for part in parts]


def main(only: list[str] | None = None, training: int = 25_000, seed: int = 0) -> None:
    """Measures and writes `results/cifar10/ceiling.json`; rows that are there already stay.

    Args:
        only: patterns of the subjects, such as `resnet20-pooled`.
        training: training images of a probe.
        seed: of the probes.
    """
    unpack()
    sizes = {"train": training, "val": sys.maxsize, "test": sys.maxsize}
    file = RESULTS / "ceiling.json"
    rows = json.loads(file.read_text()) if file.exists() else {}
    for own in ("resnet20", "resnet56"):
        cuts = [cut for cut in CUTS if wanted(f"{own}-{cut}", only) and f"{own}-{cut}" not in rows]
        if not cuts:
            continue
        other = "resnet56" if own == "resnet20" else "resnet20"
        files = {other: PARTS / f"{other}.yaml", **{name: PARTS / f"judges/{name}.yaml" for name in UNSEEN}}
        judges = {name: network(name, str(path)).eval() for name, path in files.items()}
        _, phi, data, _ = build(None, "configs/cifar10/nearest_neighbour.yaml", [*map(str, subject(f"{own}-spatial"))])
        head = network("head", str(PARTS / f"{own}.yaml")).get_submodule("network.linear")
        seen = [decided(data.split(name), count, phi, judges) for name, count in sizes.items()]
        maps, decisions = zip(*seen, strict=True)
        for cut in cuts:
            torch.manual_seed(seed)
            train, *held = standardised([cut_at(cut, each, head) for each in maps])
            probe = trained(train, decisions[0])
            val, test = (predicted(probe, each) for each in held)
            found = limits(test / temperatures(val, decisions[1]), decisions[2])
            rows[f"{own}-{cut}"] = {
                **{key: each.mean().item() for key, each in found.items()},
                **{
                    f"{key}_{name}": value
                    for key, each in found.items()
                    for name, value in zip(judges, each.tolist(), strict=True)
                },
                "targets": len(test),
                "seed": seed,
                "commit": commit(),
                "device": device_name("cpu"),
            }
            file.write_text(json.dumps(rows, indent=2) + "\n")
            print(f"{own}-{cut}", rows[f"{own}-{cut}"], flush=True)


if __name__ == "__main__":
    auto_cli(main)
