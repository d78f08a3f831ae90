"""Where random numbers come from: one seed for each target, so that its samples depend on nothing else."""

import hashlib
import math
from collections.abc import Callable

import torch
from torch import Tensor


def seeded(*parts: int | str) -> torch.Generator:
    """A CPU generator whose stream depends on all of `parts`, and is unrelated for other parts."""
    digest = hashlib.sha256(repr(parts).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))


def log_normal(noise: Tensor) -> Tensor:
    """The log-density of standard normal noise `(B, d)`, in nats: `(B,)`."""
    return -0.5 * (noise.square() + math.log(2 * math.pi)).sum(1)


def target_generators(targets: int, generator: torch.Generator | None = None) -> list[torch.Generator]:
    """A generator for each target; batching the targets otherwise gives the same ones."""
    seeds = torch.randint(2**63 - 1, (targets,), generator=generator).tolist()
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def skip_targets(targets: int, generator: torch.Generator) -> None:
    """Advances a generator as `target_generators` of so many targets does."""
    torch.randint(2**63 - 1, (targets,), generator=generator)


def target_noise(n: int, targets: int, shape: tuple[int, ...], generator: torch.Generator | None = None) -> Tensor:
    """Standard normal noise `(n, targets, *shape)` on the CPU, from one seed per target."""
    rows = [torch.randn(n, *shape, generator=own) for own in target_generators(targets, generator)]
    return torch.stack(rows, 1) if rows else torch.empty(n, 0, *shape)


ROWS = 1024
"""How many samples are pushed in one call, where there are fewer targets."""


def pushed(
    push: Callable[[Tensor, Tensor], Tensor],
    noise_shape: tuple[int, ...],
    h: Tensor,
    n: int,
    generator: torch.Generator | None,
) -> Tensor:
    """`n` samples for each target: fresh noise from one seed per target, pushed row by row.

    Args:
        push: images from noise `(B, *noise_shape)` and targets.
        noise_shape: of one sample.
        h, n, generator: as in `FiberModel.sample`.
    """
    return pushed_noise(push, target_noise(n, len(h), noise_shape, generator), h)


def pushed_noise(push: Callable[..., Tensor], noise: Tensor, *targets: Tensor) -> Tensor:
    """What `push` makes of noise `(n, B, ...)` and what belongs to each target, `(B, ...)`; `ROWS` rows at a time."""
    parts, count = [], max(1, noise.shape[1])
    for slots in noise.split(max(1, ROWS // count)):  # of few targets, many samples in one call
        again = [value.repeat(len(slots), *(1 for _ in value.shape[1:])) for value in targets]
        images = push(slots.flatten(0, 1).to(targets[0].device, targets[0].dtype), *again)
        parts.append(images.unflatten(0, slots.shape[:2]))
    return torch.cat(parts)
