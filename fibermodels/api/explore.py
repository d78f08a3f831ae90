"""A first look without training: a prior over images is guided to the fiber of one image."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from fibermodels.api.fit import as_subject
from fibermodels.api.fitted import Fitted
from fibermodels.component import card_of, exported_at
from fibermodels.config import build
from fibermodels.data.arrays import ENDINGS
from fibermodels.diffusion import Ancestral, Pretrained, Prior
from fibermodels.distances import cosine
from fibermodels.guidance import NDTM, FiberDistance, Guided

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COMMITTED = "data/weights/cifar10/prior.safetensors"
"""The prior over images of 32 x 32 pixels that comes with the project."""


@dataclass(frozen=True, repr=False)
class Exploration:
    """Samples of the fiber of one image.

    Args:
        fitted: the guided prior, which samples other images, too.
        image: `(C, H, W)` in [0, 1].
        samples: `(n, C, H, W)`.
        cosine: of the representations of each sample and of the image, `(n,)`.
        seconds: of the sampling.
    """

    fitted: Fitted
    image: Tensor
    samples: Tensor
    cosine: Tensor
    seconds: float

    def __repr__(self) -> str:
        return (
            f"Exploration({len(self.samples)} samples, cosine {self.cosine.mean():.3f} on average, "
            f"{self.seconds:.0f} s; {self.fitted!r})"
        )

    def plot(self) -> Figure:
        """A figure with the image first and its samples behind it."""
        from fibermodels.display import strip

        return strip(torch.cat((self.image[None], self.samples)), [f"{value:.2f}" for value in self.cosine])

    def _repr_png_(self) -> bytes:
        from fibermodels.display import png

        return png(self.plot())


def explore(
    network: nn.Module,
    image: Any,
    layer: str = "spatial",
    prior: str | Path | Prior | None = None,
    n: int = 16,
    *,
    mean: list[float] | None = None,
    std: list[float] | None = None,
    transform: Any = None,
    input_size: int | None = None,
    steps: int = 25,
    gamma: float = 8.0,
    seed: int = 0,
    device: str | None = None,
) -> Exploration:
    """Samples the fiber of an image at once, with a prior that is guided by NDTM and without any training.

    Guidance is faithful, and where the prior is weak or the strength large its samples please the network alone (see
    `docs/cifar10.md`). A trained fiber model (`fit`) is judged better by other networks, and is hundreds of times
    faster.

    Args:
        network, layer, mean, std, transform, input_size: as in `fit`.
        image: of any size, as in `Fitted.images`; it is scaled to the prior's.
        prior: a `Prior`; the local folder of a pipeline of diffusers; or exported weights of an unconditional prior of
            this project. None takes the committed one, over natural images of 32 x 32 pixels.
        n: samples.
        steps: of the sampler. Each takes eight passes of prior and network.
        gamma: strength of the guidance.
        seed: of the samples.
        device: such as `cpu` or `cuda`; None takes the accelerator, if there is one.

    Raises:
        FileNotFoundError: no such prior or image.
        ValueError: a conditional prior, or images or a layer that do not fit the network.

    Reference: Pandey et al., arXiv 2502.03686 (NDTM).
    """
    file = isinstance(image, (str, Path)) and Path(image).suffix in ENDINGS
    if file or (isinstance(image, Tensor) and image.ndim < 3):
        got = f"'{image}'" if file else f"a tensor of {list(image.shape)}"
        raise ValueError(
            f"image: expected an image, because the prior is over images, got {got}; the fibers of tables, points and "
            "signals need a training: fibermodels.fit, or `fibermodels init`"
        )
    made = as_prior(prior)
    where = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    subject = as_subject(network, layer, made.latents.input_space, mean, std, transform, input_size)
    cost = FiberDistance("l2")
    model = Guided(made, subject, NDTM(gamma=gamma, kappa=0.0005), cost, Ancestral(steps=steps)).to(where)
    fitted = Fitted(model.eval(), subject.to(where))
    x = fitted.images(image)[:1].to(where)
    start = time.perf_counter()
    with torch.no_grad():
        h = subject(x)
    samples = fitted.sample(h=h[0], n=n, seed=seed)
    with torch.no_grad():
        near = 1 - cosine(h.expand(n, *h.shape[1:]), subject(samples))
    return Exploration(fitted, x[0].cpu(), samples.cpu(), near.cpu(), time.perf_counter() - start)


def as_prior(given: str | Path | Prior | None) -> Prior:
    """The prior that `explore` guides; arguments and errors as there."""
    if isinstance(given, Prior):
        return given
    path = COMMITTED if given is None else str(given)
    if Path(path).is_dir() and exported_at(path) is None:
        return Pretrained(path)
    weights = exported_at(path)
    if weights is None:
        raise FileNotFoundError(f"prior: no folder of a pipeline and no exported weights at '{path}'")
    described = component(weights)
    described["init_args"] |= {"weights": str(weights)}
    made = build(described)
    if not isinstance(made, Prior) or made.feature_shape:
        raise ValueError(f"prior: expected an unconditional prior in '{weights}', got a {type(made).__name__}")
    return made


def component(weights: Path) -> dict[str, Any]:
    """The description of the exported object in the card beside its weights.

    Raises:
        ValueError: no card, or none that describes it.
    """
    try:
        found: dict[str, Any] = json.loads(card_of(weights).read_text(encoding="utf-8"))["component"]
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(f"prior: '{weights}' has no card that describes it: {error}") from error
    return found
