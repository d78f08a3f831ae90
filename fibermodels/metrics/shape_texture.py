"""Shape or texture: which of two contradicting cues does a classifier follow?

A stimulus has the shape of one category and the texture of another. A classifier decides for the category whose classes
have the largest mean probability. The preference for shape is the share of decisions for the shape among the decisions
for one of the two cues.

Reference: Geirhos et al., arXiv 1811.12231, section 2.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

Categories = Sequence[Sequence[int]]
"""The classes that belong to each category."""


def decide(logits: Tensor, categories: Categories | None = None) -> Tensor:
    """The category `(...)` that a classifier decides for, from its logits `(..., K)`.

    Args:
        logits: the classifier's logits.
        categories: the classes of each category; None if the classes are the categories.

    Raises:
        ValueError: the classifier lacks a class.
    """
    if categories is None:
        return logits.argmax(-1)
    last = max(max(classes) for classes in categories)
    if last >= logits.shape[-1]:
        raise ValueError(
            f"categories: expected classes below the classifier's {logits.shape[-1]} outputs, got classes up to {last}"
        )
    p = logits.softmax(-1)
    return torch.stack([p[..., list(classes)].mean(-1) for classes in categories], -1).argmax(-1)


def cue_preference(decided: Tensor, cues: Tensor) -> dict[str, float]:
    """How often a classifier decides for the shape and for the texture.

    Args:
        decided: categories `(..., B)`.
        cues: shape and texture of each stimulus, `(B, 2)`; stimuli with the same category for both do not count.

    Returns:
        `shape_accuracy`, `texture_accuracy`, and `shape_preference`: the first over the sum of both. NaN if no stimulus
        counts, or no decision is for a cue.
    """
    shape, texture = cues.unbind(1)
    conflict = shape != texture
    shapes = (decided == shape)[..., conflict].double().mean().item()
    textures = (decided == texture)[..., conflict].double().mean().item()
    either = shapes + textures
    preference = shapes / either if either else float("nan")
    return {"shape_accuracy": shapes, "texture_accuracy": textures, "shape_preference": preference}
