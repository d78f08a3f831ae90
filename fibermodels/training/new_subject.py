"""What `init` finds out about the user's network, and what it says of the data."""

import sys
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from fibermodels.config import import_class
from fibermodels.subjects import Cut
from fibermodels.subjects.networked import Networked
from fibermodels.subjects.stages import steps
from fibermodels.training.recipe import Scale

LISTED = 120
"""The most layers that are listed."""

RANDOM = "as the class starts, at random unless it loads its own; give the file of trained ones"
"""The note on weights that were not given."""


@dataclass
class Given:
    """A user's network and data, as `init` takes them."""

    subject: Networked
    data: Any
    count: int
    """Training inputs."""
    x: Tensor
    """A batch, to measure a step."""
    told: str
    """What the training inputs are."""
    notes: dict[str, str]
    """Remarks on the subject's arguments, by name."""
    remarks: list[str] = field(default_factory=list)
    """Further remarks."""
    scale: Scale | None = None
    """Of inputs that are no images."""


def network_of(path: str, arguments: dict[str, Any]) -> nn.Module:
    """An object of the user's class.

    Raises:
        ValueError: there is no such class, or it takes other arguments.
    """
    cls = import_class(path, lambda found: isinstance(found, type) and issubclass(found, nn.Module), "an nn.Module")
    try:
        made: nn.Module = cls(**arguments)
    except TypeError as error:
        raise ValueError(f"network_args: cannot build {path}: {error}; give --network_args.NAME VALUE") from error
    return made


def built(kind: type[Networked], arguments: dict[str, Any]) -> Networked:
    """The subject; if it has no such layer, the message lists the layers that it has."""
    try:
        return kind(**arguments)
    except ValueError as error:
        if not str(error).startswith("layer: there is no"):
            raise
        subject = kind(**{**arguments, "layer": "logits" if kind is Cut else "pooled"})
        first, _, _ = str(error).partition("Expected one of")
        message = f"{first.strip()} These layers run, with the shapes of their outputs:"
    for name, shape in steps(subject)[:LISTED]:
        message += f"\n  {name:40} {' x '.join(map(str, shape[1:]))}"
    print(f"error: {message}", file=sys.stderr)
    sys.exit(2)
