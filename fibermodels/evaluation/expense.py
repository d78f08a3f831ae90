"""What it took to train a model: its own run, and the published parts that it uses."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fibermodels.component import card_of, exported_at
from fibermodels.evaluation.results import Metrics


def training_cost(description: Any, seconds: float = 0.0, device: str = "") -> Metrics:
    """The training of a model and of everything in it that was trained, without the subject.

    The time of a published part, such as the latent space, is in the card beside its weights.

    Args:
        description: of the model, as `config.describe` makes it, with the files of weights.
        seconds: the time of its own run.
        device: the device of that run; empty if there was none.

    Returns:
        `training_seconds` and `training_device`, and `untimed`, the weights whose card does not say their time. Empty
        for a model that needs no training.
    """
    devices, untimed = [device] if device else [], []
    for path in sorted(set(weights_of(description))):
        card = card_of(exported_at(path) or Path(path))
        content = json.loads(card.read_text()) if card.is_file() else {}
        if "training_seconds" not in content:
            untimed.append(path)
            continue
        seconds += content["training_seconds"]
        devices.append(content["training_device"])
    if not devices and not untimed:
        return {}
    known: Metrics = {"training_seconds": round(seconds, 1), "training_device": " and ".join(sorted(set(devices)))}
    return known | ({"untimed": ", ".join(untimed)} if untimed else {})


def weights_of(description: Any) -> Iterator[str]:
    """The files of weights in the description of a component, without those of subjects."""
    if isinstance(description, list):
        for item in description:
            yield from weights_of(item)
    elif isinstance(description, dict):
        for key, value in description.items():
            if key == "weights" and isinstance(value, str):
                yield value
            elif key != "subject":
                yield from weights_of(value)
