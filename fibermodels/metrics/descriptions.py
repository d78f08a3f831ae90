"""Numbers that describe inputs and their samples, for tests of calibration.

Every function returns `members` `(1 + n, B, ...)`: row 0 for the targets, the others for their samples. Signals
`(C, L)` are described as images of one row. What is fitted (means, spreads, principal components) is fitted on targets
and samples alike, so a right model's targets and samples stay exchangeable, and the tests stay exact without further
data.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from fibermodels.core import FiberSamples, Subject

COMPONENTS = 4
"""Principal components of one description that become scalars."""

CHANNELS = 8
"""The largest number of channels, or of entries of a vector, that are scalars each; of more, their components are."""

DIMENSIONS = 256
"""The largest dimension of a judge's vectors; larger ones are projected at random, with a fixed seed."""


def of_members(describe: Callable[[Tensor], Tensor], samples: FiberSamples) -> Tensor:
    """The description of images and of each slot of samples, stacked."""
    return torch.stack([describe(images) for images in (samples.x, *samples.x_hat)])


def as_images(x: Tensor) -> Tensor:
    """Inputs as images `(B, C, H, W)`: signals get one row."""
    return x[:, :, None] if x.ndim == 3 else x


def edge_energy(images: Tensor) -> Tensor:
    """The mean square difference of neighbouring pixels, `(B,)`."""
    steps = torch.cat([images.diff(dim=dim).flatten(1) for dim in (2, 3)], 1)
    return steps.square().sum(1) / max(1, steps.shape[1])


def contrast(images: Tensor) -> Tensor:
    """The standard deviation of each channel, `(B, C)`."""
    return images.flatten(2).std(2, correction=0)


def averaged(images: Tensor, size: int) -> Tensor:
    """Images averaged to at most `size x size` pixels, as vectors `(B, D)`."""
    height, width = (min(size, length) for length in images.shape[2:])
    return adaptive_avg_pool2d(images, (height, width)).flatten(1)


def pixel_vectors(samples: FiberSamples) -> Tensor:
    """Images averaged to 4 x 4 pixels, the contrast of each channel, and the root of the edge energy: `(1 + n, B, D)`.

    The three parts are standardised and have equal weight. They are the default features of TARP and the joint test.
    Vectors are standardised and described by nothing else.
    """
    if samples.x.ndim == 2:
        return standardised(of_members(lambda x: x, samples))
    parts = (lambda x: averaged(x, 4), contrast, lambda x: edge_energy(x)[:, None].sqrt())
    members = of_members(as_images, samples)
    described = [torch.stack([part(x) for x in members]) for part in parts]
    return torch.cat([standardised(own) for own in described], -1)


@torch.no_grad()
def judge_vectors(network: Subject, samples: FiberSamples, device: str | torch.device, batch_size: int) -> Tensor:
    """A judge's outputs for images and samples, standardised: `(1 + n, B, D)`; maps are averaged over locations."""
    network.input_space.check(samples.x[:1], f"{type(network).__name__}, as a judge")
    network.to(device)

    def describe(images: Tensor) -> Tensor:
        return torch.cat([_pooled(network(part.to(device))).cpu() for part in images.split(batch_size)])

    return standardised(of_members(describe, samples))


def _pooled(outputs: Tensor) -> Tensor:
    vectors = outputs.flatten(2).mean(2) if outputs.ndim == 4 else outputs.flatten(1)
    if vectors.shape[1] <= DIMENSIONS:
        return vectors
    projection = torch.randn(vectors.shape[1], DIMENSIONS, generator=torch.Generator().manual_seed(0))
    return vectors @ projection.to(vectors) / vectors.shape[1] ** 0.5


def standardised(members: Tensor) -> Tensor:
    """Vectors `(1 + n, B, D)` of mean 0 and mean square norm 1, with coordinates of equal variance."""
    flat = members.flatten(0, 1)
    spread = flat.std(0, correction=0)
    centred = members - flat.mean(0)
    return torch.where(spread > 1e-6, centred / spread.clamp(min=1e-6), 0) / members.shape[-1] ** 0.5


def components(members: Tensor, count: int = COMPONENTS) -> Tensor:
    """The `count` directions in which members of one target vary most, as scalars `(1 + n, B, count)`.

    These are the principal components of vectors `(1 + n, B, D)` about the mean of their target.
    """
    deviations = (members - members.mean(0)).flatten(0, 1).double()
    _, directions = torch.linalg.eigh(deviations.T @ deviations)
    return members.double() @ directions[:, -count:].flip(1)


def pixel_scalars(samples: FiberSamples) -> dict[str, Tensor]:
    """Scalars `(1 + n, B)` by name, without any judge. Of images: the mean and the contrast of each channel, edge
    energy, distance to the mean image, and the principal components of images averaged to 8 x 8 pixels. Of vectors:
    each entry, the distance to the mean, and the principal components."""
    everyone = torch.stack([x.mean(0) for x in (samples.x, *samples.x_hat)]).mean(0)
    away = of_members(lambda x: (x - everyone).flatten(1).norm(dim=1), samples)
    if samples.x.ndim == 2:
        own = of_members(lambda x: x, samples)
        scalars = _each("entry {}", own, "entries") | {"distance to the mean": away}
        return scalars | (named_components("entries", own) if own.shape[-1] <= CHANNELS else {})
    means = of_members(lambda x: x.flatten(2).mean(2), samples)
    scalars = _each("mean of channel {}", means, "channel means")
    scalars |= _each("contrast of channel {}", of_members(contrast, samples), "channel contrasts")
    scalars["edge energy"] = of_members(lambda x: edge_energy(as_images(x)), samples)
    scalars["distance to the mean image"] = away
    return scalars | named_components("pixels", of_members(lambda x: averaged(as_images(x), 8), samples))


def _each(name: str, members: Tensor, together: str) -> dict[str, Tensor]:
    """Vectors `(1 + n, B, D)` entry by entry; their principal components if they have many."""
    if members.shape[-1] > CHANNELS:
        return named_components(together, members)
    return {name.format(i + 1): own for i, own in enumerate(members.unbind(-1))}


def named_components(name: str, members: Tensor) -> dict[str, Tensor]:
    """The principal components of vectors `(1 + n, B, D)` as scalars by name."""
    own = components(members, min(COMPONENTS, members.shape[-1]))
    return {f"component {i + 1} of {name}": each for i, each in enumerate(own.unbind(-1))}
