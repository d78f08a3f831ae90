"""The first stages of a network, before a layer."""

import torch

from fibermodels.subjects.layers import trace
from fibermodels.subjects.networked import Networked


def steps(subject: Networked) -> list[tuple[str, tuple[int, ...]]]:
    """The modules that run, in the order in which they finish, with the shapes of their outputs."""
    return [step for step in trace(subject.network, torch.zeros(1, *subject.preprocess.input_shape)) if step[0]]


def first_stages(subject: Networked, layer: str, count: int = 2) -> tuple[str, ...]:
    """The finest stages before a layer: a stage is the last module that returns maps of one resolution.

    Args:
        subject: whose network is read.
        layer: where the subject reads it.
        count: of the stages at most.
    """
    if len(subject.preprocess.input_shape) != 3:
        return ()
    _, height, width = subject.preprocess.input_shape
    stages: dict[tuple[int, ...], str] = {}
    for name, shape in steps(subject):
        if name == layer:
            if stages.get(shape[2:], "").startswith(f"{layer}."):
                del stages[shape[2:]]  # the last part of the layer, which is the layer itself
            break
        square = len(shape) == 4 and shape[2] * width == shape[3] * height  # the aspect ratio of the input: no NHWC
        if square and 1 < shape[2] <= height:
            stages[shape[2:]] = name
    finest = [stages[size] for size in sorted(stages, reverse=True)]
    if layer == "spatial":
        finest = finest[:-1]  # the last map is the layer itself
    return tuple(finest[:count])
