"""The learning-rate schedule, and the choice of the parameters that are trained."""

import difflib
import math

from fibermodels.trainable import Trainable


def one_cycle(progress: float, warmup: float) -> float:
    """The learning rate as a share of its peak: a cosine from 1/25 up to 1 during the warmup, then a cosine down to 0.

    It depends only on the progress, so a run that is resumed with more epochs has a longer schedule.

    Args:
        progress: the share of the steps that are done, in [0, 1].
        warmup: the share of the steps during which the rate grows.
    """
    if progress < warmup:
        return 1 - 0.48 * (1 + math.cos(math.pi * progress / warmup))
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (progress - warmup) / (1 - warmup))))


def freeze_others(learner: Trainable, names: list[str]) -> None:
    """Freezes every parameter whose name begins with none of `names`.

    Raises:
        ValueError: no trainable parameter's name begins with one of `names`; the message names similar ones.
    """
    trained = {name: p for name, p in learner.named_parameters() if p.requires_grad}
    for start in names:
        if not any(name.startswith(start) for name in trained):
            known = sorted({".".join(name.split(".")[: start.count(".") + 1]) for name in trained})
            near = difflib.get_close_matches(start, known) or known
            raise ValueError(f"train_only: no trainable parameter's name begins with '{start}'; there are {near[:12]}")
    for name, parameter in trained.items():
        parameter.requires_grad_(name.startswith(tuple(names)))
