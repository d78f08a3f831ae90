"""Arguments of a trained model that an evaluation changes: a sampler's steps, say, or the scale of its guidance."""

from typing import Any

import yaml


def changes(overrides: list[str]) -> dict[str, Any]:
    """Arguments and values of `--model.ARGUMENT VALUE` and `--model.ARGUMENT=VALUE`, the values as YAML reads them.

    Raises:
        ValueError: an argument without a value; one that is not the model's.
    """
    for word in overrides:
        if word.startswith("--") and not word.startswith("--model."):
            raise ValueError(f"{word}: a checkpoint brings its own; of it, --model.ARGUMENT alone can be changed")
    words = [part for word in overrides for part in (word.split("=", 1) if word.startswith("--model.") else [word])]
    names, values = words[::2], words[1::2]
    if len(names) != len(values):
        raise ValueError(f"{names[-1]}: expected a value")
    return {name.removeprefix("--model."): yaml.safe_load(value) for name, value in zip(names, values, strict=True)}
