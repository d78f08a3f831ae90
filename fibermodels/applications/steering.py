"""What does a concept inside the network look like? The same noise, with the concept scaled.

A concept is a subspace of the channels with the basis `U` (`concepts.py`), found in the representations of images of a
class, or of all images. The condition becomes `h + (c - 1) U^T U h` at every place, for coefficients `c`.

The figure of merit is directed: by how much the probability of the class rises from the smallest to the largest
coefficient, in judges that took no part,

    mean_j p_j(class | x(c_max)) - p_j(class | x(c_min)).

Its null is a random subspace for each image, with a change of the condition of the same length. A distance between the
probabilities is no merit: a random subspace changes more pixels at the same length, and its damage changes decisions,
but not towards the class. So the change of the pixels stands beside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import get_args

import torch
from torch import Tensor

from fibermodels import distances
from fibermodels.applications.concepts import Method, by_chance, find, projected, vectors
from fibermodels.applications.drawing import edited, of_class, representations
from fibermodels.applications.finding import Finding, Merit, Strip, fidelity
from fibermodels.checks import check_choice, check_images, check_numbers
from fibermodels.core import FiberModel, Subject
from fibermodels.display import heat

SHOWN = 6
"""Images in a picture."""


@dataclass(frozen=True, repr=False)
class Steering(Finding):
    """Samples with a concept scaled.

    Args:
        images: the targets `(B, C, H, W)`, those with the most of the concept first.
        samples: of each coefficient, `(E, n, B, C, H, W)`.
        coefficients: E of them.
        basis: of the concept, `(d, channels)`.
        change: the median over samples of the change of each pixel from the smallest to the largest coefficient,
            `(B, H, W)`.
        followed: the change of the representation along the concept, as a share of the one that was asked for, for the
            concept and for a random subspace, `(2, B)`.
        moved: the root mean square change of the pixels for both, `(2, B)`.
        judged: the rise of the probability of the class for both, `(2, B)`, the mean of all judges; None without
            judges.
        fidelity: how far the samples of all coefficients are from their conditions.
    """

    question = "What does a concept inside the network look like?"

    images: Tensor
    samples: Tensor
    coefficients: list[float]
    basis: Tensor
    change: Tensor
    followed: Tensor
    moved: Tensor
    judged: Tensor | None
    fidelity: list[Merit]

    @property
    def merits(self) -> list[Merit]:
        found = []
        null = "the null is a random subspace for each image, with a change of the condition of the same length."
        if self.judged is not None:
            meaning = (
                "By how much the probability of the class rises from the smallest to the largest coefficient, in "
                f"judges that took no part; {null}"
            )
            found.append(Merit.paired("rise of the class", self.judged[0], self.judged[1], meaning))
            meaning = f"The same for each unit of the root mean square change of the pixels; {null}"
            rates = self.judged / self.moved.clamp(min=1e-12)
            found.append(Merit.paired("rise per change of pixels", rates[0], rates[1], meaning))
        meaning = (
            "The change of the representation of the samples along the concept, as a share of the change that was "
            f"asked for; 1 is best, and {null}"
        )
        found.append(Merit.paired("change along the concept", self.followed[0], self.followed[1], meaning))
        meaning = f"The root mean square change of the pixels between both coefficients; {null}"
        return [*found, Merit.paired("change of pixels", self.moved[0], self.moved[1], meaning), *self.fidelity]

    def strips(self) -> list[Strip]:
        names = ["image", *(f"x {value:g}" for value in self.coefficients), "change"]
        top = float(self.change[:SHOWN].max())
        rows = []
        for i, image in enumerate(self.images[:SHOWN]):
            changed = heat(self.change[i], top)[: len(image)]
            rows.append(Strip(f"image {i + 1}", torch.cat((image[None], self.samples[:, 0, i], changed[None])), names))
        return rows


def steer(
    model: FiberModel,
    subject: Subject,
    images: Tensor,
    references: Tensor | None = None,
    label: int | None = None,
    classifier: Subject | None = None,
    concept: int = 0,
    concepts: int = 5,
    dimensions: int = 1,
    method: Method = "pca",
    coefficients: list[float] | None = None,
    judges: Mapping[str, Subject] | None = None,
    k: int = 8,
    n: int = 4,
    seed: int = 0,
) -> Steering:
    """Samples with a concept scaled by coefficients, with the same noise.

    Args:
        model: samples the fibers; it must take conditions that no image gave it.
        subject: the network.
        images: among which the targets are, `(N, C, H, W)` in [0, 1].
        references: images in whose representations the concepts are found; None takes the images.
        label: the class of the concepts, which are found in the references that are decided for it; None finds them in
            all references.
        classifier: returns logits `(B, K)` and decides for references; None takes the subject.
        concept: which of the concepts, from 0 on, by their share of the representations.
        concepts: how many are found.
        dimensions: of a concept that is a cluster.
        method: `pca`, `nmf`, `clusters` or `contrast`, which needs a label.
        coefficients: from small to large; None takes 0, 1, 2 and 3.
        judges: classifiers by name, which take no part and are asked for the class; they need a label.
        k: images that are targets, those with the most of the concept: the sum over places of the product with the
            mean of the references, within the subspace.
        n: samples of each image.
        seed: of the samples and of the random subspaces.

    Raises:
        ValueError: no images for the subject, a number out of its range, no label where one is needed, a class that the
            classifier does not have, no references of the class, or none of another one; negative entries with `nmf`.
    """
    check_choice("steer", "method", method, get_args(Method))
    check_images(images, tuple(subject.image_shape), "images")
    check_numbers("steer", {"n": n, "dimensions": dimensions, "k": k}, least=1)
    check_numbers("steer", {"concepts": concepts}, least=1, most=subject.feature_shape[0])
    check_numbers("steer", {"concept": concept}, least=0, below=1 if method == "contrast" else concepts)
    if label is None and (judges or method == "contrast"):
        raise ValueError("steer: label: judges and the method 'contrast' need the class of the concept, got None")
    scales = [0.0, 1.0, 2.0, 3.0] if coefficients is None else coefficients
    x = images if references is None else references
    known = representations(subject, x)
    chosen = torch.ones(len(x), dtype=torch.bool)
    if label is not None:
        chosen = of_class("steer", label, classifier or subject, x)
    basis = find(vectors(known[chosen]), vectors(known[~chosen]), concepts, dimensions, method, seed)[concept]
    h = representations(subject, images)
    typical = projected(vectors(known[chosen]).mean(0, keepdim=True), basis)[0]
    amount = torch.einsum("bc...,c->b", h, typical)
    most = amount.argsort(descending=True, stable=True)[:k]
    x, h = images[most], h[most]
    along, random = projected(h, basis), projected(h, by_chance(vectors(known), len(basis), len(h), seed))
    length = along.flatten(1).norm(dim=1) / random.flatten(1).norm(dim=1).clamp(min=1e-12)
    random = random * length.view(-1, *(1 for _ in h.shape[1:]))
    told = [h + (scale - 1) * along for scale in scales]
    samples = edited(model, subject, x, told, n, seed)
    rms = fidelity(torch.cat(told), torch.cat(list(representations(subject, samples)), 1))
    nulls = edited(model, subject, x, [h + (scales[i] - 1) * random for i in (0, -1)], n, seed)
    both = torch.stack((samples[[0, -1]], nulls))  # (2, 2, n, B, C, H, W): concept and null, both ends
    asked = (scales[-1] - scales[0]) * torch.stack((along, random))
    moved = distances.rms(both[:, 0], both[:, 1], batch_dims=3).mean(1)
    judged = None
    if judges and label is not None:
        judged = torch.stack([_rise(judge, both, label) for judge in judges.values()]).mean(0)
    change = (both[0, 1] - both[0, 0]).abs().mean(2).median(0).values
    return Steering(x, samples, scales, basis, change, _followed(subject, both, asked), moved, judged, rms)


def _followed(subject: Subject, ends: Tensor, asked: Tensor) -> Tensor:
    """The change between samples `(2, 2, n, B, C, H, W)` along the asked ones `(2, B, ...)`, as a share of these,
    `(2, B)`."""
    h = representations(subject, ends)
    change, wish = (h[:, 1] - h[:, 0]).mean(1).flatten(2), asked.flatten(2)
    return (change * wish).sum(2) / wish.square().sum(2).clamp(min=1e-20)


def _rise(judge: Subject, ends: Tensor, label: int) -> Tensor:
    """By how much a judge's probability of a class rises between samples `(2, 2, n, B, C, H, W)`, `(2, B)`."""
    told = representations(judge, ends).flatten(4).softmax(4)[..., label]
    return (told[:, 1] - told[:, 0]).mean(1)
