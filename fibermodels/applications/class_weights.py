"""What a class is made of inside a network: the weights of its last linear layer, and their principal components."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fibermodels.checks import check_numbers
from fibermodels.core import Subject


def pooled(h: Tensor) -> Tensor:
    """Vectors `(B, C)` of representations: the mean over the places of maps `(B, C, ...)`."""
    return h.flatten(2).mean(2) if h.ndim > 2 else h


def class_layer(owner: str, network: Subject, channels: int) -> nn.Linear:
    """The last linear layer of a network that takes `channels` numbers: it maps pooled features to logits.

    Raises:
        ValueError: there is none.
    """
    found = [each for each in network.modules() if isinstance(each, nn.Linear) and each.in_features == channels]
    if not found:
        raise ValueError(
            f"{owner}: expected a network with a linear layer of the {channels} pooled channels, got a "
            f"{type(network).__name__} without one"
        )
    return found[-1]


@torch.no_grad()
def components(owner: str, network: Subject, h: Tensor, label: int) -> Tensor:
    """The class-weighted principal components (NPCA) of a class as directions of pooled features, `(K, C)`.

    With the weights `w` of the class and the pooled features `f(x)` of images that are decided for it, `v_1, v_2, ...`
    are the principal components of `alpha(x) = w * f(x)`, those of largest variance first. The component's activation
    `<v_l, w * f(x)>` is the product of `f(x)` with the direction `w * v_l`. The entries of `v_l` have a positive sum,
    so a component rises where it speaks for the class.

    Args:
        owner: in messages.
        network: holds the last linear layer.
        h: representations `(R, C, ...)` of images.
        label: the class.

    Raises:
        ValueError: no linear layer, a class that it does not have, or fewer than two images of the class.

    Reference: Neuhaus et al., Spurious Features Everywhere, arXiv 2212.04871.
    """
    features = pooled(h)
    layer = class_layer(owner, network, features.shape[1])
    check_numbers(owner, {"label": label}, least=0, below=layer.out_features)
    weights = layer.weight[label].cpu()
    decided = layer(features.to(layer.weight)).argmax(1).cpu()
    own = features[decided == label] * weights
    if len(own) < 2:
        raise ValueError(f"{owner}: references: expected at least 2 that are decided for class {label}, got {len(own)}")
    axes = torch.linalg.svd(own - own.mean(0), full_matrices=False)[2][: len(own) - 1]
    axes = axes * torch.where(axes.sum(1, keepdim=True) < 0, -1.0, 1.0)
    return axes * weights
