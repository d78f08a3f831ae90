"""What a report shows of the fibers: targets beside their samples, and how far the samples of a target vary."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain

import torch
from torch import Tensor

from fibermodels.core import FiberSamples
from fibermodels.evaluation.report.pictures import Picture, of_pixels, picture, size
from fibermodels.evaluation.tables import number
from fibermodels.metrics.fidelity import pair_rms
from fibermodels.pictures import Plot, coloured, has_places

MOST_SAMPLES, FEWEST_SAMPLES = 8, 4
"""Samples that are shown of a target; the smaller number for large images."""


@dataclass(frozen=True)
class Fibers:
    """Targets and samples that a report can show."""

    x: Tensor
    """Targets, as pictures `(B, C, H, W)` in [0, 1]; inputs that are plotted as they are."""
    x_hat: Tensor
    """Their samples `(n, B, ...)`."""
    rms: Tensor | None = None
    """The fiber RMS of each sample `(n, B)`; None if the representations are not there."""

    @cached_property
    def plot(self) -> Plot | None:
        """What plots inputs that have no places; None for pictures."""
        return None if has_places(self.x) else Plot(self.x, self.x_hat)


def of_samples(samples: FiberSamples) -> Fibers:
    """All targets and samples of a result."""
    x, x_hat = coloured(samples.x, samples.x_hat) if has_places(samples.x) else (samples.x, samples.x_hat)
    return Fibers(x, x_hat, pair_rms(samples))


@dataclass(frozen=True)
class Shown:
    """A target beside its samples."""

    title: str
    note: str
    target: Picture
    samples: list[Picture]


def shown(fibers: Fibers, targets: Iterable[int], most: int) -> list[Shown]:
    """Targets beside their first samples, as many as take at most `most` characters, and at least one.

    Args:
        fibers: targets and samples.
        targets: the numbers of the targets, the most important ones first.
        most: characters of the page for the pictures.
    """
    found: list[Shown] = []
    left, samples = most, MOST_SAMPLES
    for target in targets:
        if fibers.plot:
            panel = of_pixels(fibers.plot.one(target), f"target {target} and its samples")
            left -= size([panel])
            if left < 0 and found:
                break
            found.append(Shown(f"target {target}", _mean(fibers, target), panel, []))
            continue
        first = picture(fibers.x[target], f"target {target}")
        if not found and (MOST_SAMPLES + 1) * size([first]) > most / 4:
            samples = FEWEST_SAMPLES
        own = [picture(each[target], _label(fibers, target, slot)) for slot, each in enumerate(fibers.x_hat[:samples])]
        left -= size([first, *own])
        if left < 0 and found:
            break
        found.append(Shown(f"target {target}", _mean(fibers, target), first, own))
    return found


def _label(fibers: Fibers, target: int, slot: int) -> str:
    rms = "" if fibers.rms is None else f", fiber RMS {number(fibers.rms[slot, target].item())}"
    return f"target {target}, sample {slot}{rms}"


def _mean(fibers: Fibers, target: int) -> str:
    return "" if fibers.rms is None else f"mean fiber RMS {number(fibers.rms[:, target].mean().item())}"


def extremes(rms: Tensor, count: int) -> tuple[list[int], list[int]]:
    """The targets with the largest and with the smallest mean fiber RMS, each the most extreme first; no target is in
    both.

    Args:
        rms: the fiber RMS of each sample, `(n, B)`.
        count: the number of targets on each side; fewer if there are not twice as many.
    """
    order = rms.mean(0).argsort(stable=True).tolist()
    count = min(count, len(order) // 2)
    return order[::-1][:count], order[:count]


@dataclass(frozen=True)
class Variation:
    """How far the samples of a target vary: the target, the mean of its samples, and their spread in colours."""

    title: str
    pictures: list[Picture]


@dataclass(frozen=True)
class Invariance:
    """Invariance maps of some targets, with one colour scale."""

    maps: list[Variation]
    colours: list[str]
    """The scale's colours, from 0 to the largest spread."""
    ticks: list[str]
    """Numbers below the scale, evenly spaced."""
    samples: int
    """The number of samples of each target that were compared."""


def spread(x_hat: Tensor) -> Tensor:
    """The standard deviation of each pixel over the samples `(n, B, C, H, W)` of a target, `(B, H, W)`: the root of the
    mean of its channels' variances, in the unit of the pixels."""
    return x_hat.var(0, correction=1).mean(1).sqrt()


def invariance(fibers: Fibers, targets: Sequence[int], most: int) -> Invariance | None:
    """Invariance maps of targets, as many as take at most `most` characters; None with fewer than two samples, and for
    inputs that are plotted."""
    if len(fibers.x_hat) < 2 or fibers.plot:
        return None
    import matplotlib

    colours = matplotlib.colormaps["viridis"]
    own = fibers.x_hat[:, list(targets)]
    spreads = spread(own)
    top = max(spreads.max().item(), 1e-6)
    maps: list[Variation] = []
    for target, mean, deviation in zip(targets, own.mean(0), spreads, strict=True):
        coloured = torch.from_numpy(colours((deviation / top).numpy())).float()[..., :3].permute(2, 0, 1)
        pictures = [
            picture(fibers.x[target], f"target {target}"),
            picture(mean, f"target {target}, mean of its samples"),
            picture(coloured, f"target {target}, standard deviation of its samples"),
        ]
        if maps and size(chain(pictures, *(each.pictures for each in maps))) > most:
            break
        maps.append(Variation(f"target {target}", pictures))
    scale = [matplotlib.colors.to_hex(colours(i / 16)) for i in range(17)]
    return Invariance(maps, scale, [number(top * i / 4) for i in range(5)], len(own))
