"""The ROC curves of `label_preference.py`: another classifier's probabilities on the fibers of each subject."""

from pathlib import Path

import torch
from torch import Tensor

Curve = tuple[str, Tensor, Tensor]
"""A classifier's name, its probabilities `(N, K)`, and the labels as zeros and ones."""


def roc(scores: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    """False and true alarms over all thresholds, of all classes together."""
    order = scores.flatten().argsort(descending=True)
    hits = truth.flatten()[order].double()
    zero = torch.zeros(1, dtype=torch.double)
    true, false = (torch.cat((zero, each.cumsum(0) / each.sum())) for each in (hits, 1 - hits))
    return false, true


def draw(curves: dict[tuple[str, str], list[Curve]], path: Path) -> None:
    """One panel for each subject and method."""
    from torchvision.utils import save_image

    from fibermodels.files import replace_file
    from fibermodels.pictures import as_tensor, new_figure

    figure = new_figure(3, 2)
    panels = figure.subplots(2, 3, sharex=True, sharey=True).flatten()
    for axes, ((subject, method), own) in zip(panels, curves.items(), strict=False):
        for name, scores, truth in own:
            axes.plot(*roc(scores, truth), lw=1, label=name)
        axes.plot([0, 1], [0, 1], color="0.8", lw=0.6)
        axes.set_title(f"{subject}, {method.replace('_', ' ')}", fontsize=7)
        axes.tick_params(labelsize=5)
        axes.legend(fontsize=5, loc="lower right")
    for axes in panels[len(curves) :]:
        axes.axis("off")
    replace_file(path, lambda file: save_image(as_tensor(figure), file, format="png"))
