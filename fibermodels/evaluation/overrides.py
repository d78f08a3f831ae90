"""Arguments of a model that an evaluation changes, such as a sampler's steps."""

from typing import Any

import yaml


def changes(overrides: list[str]) -> dict[str, Any]:
    """Arguments and YAML values of `--model.ARGUMENT VALUE` and `--model.ARGUMENT=VALUE`.

    Raises:
        ValueError: an argument has no value, or is not one of the model.
    """
    for word in overrides:
        if word.startswith("--") and not word.startswith("--model."):
            raise ValueError(f"{word}: expected only --model.ARGUMENT VALUE with --checkpoint")
    words = [part for word in overrides for part in (word.split("=", 1) if word.startswith("--model.") else [word])]
    names, values = words[::2], words[1::2]
    if len(names) != len(values):
        raise ValueError(f"{names[-1]}: expected a value")
    return {name.removeprefix("--model."): yaml.safe_load(value) for name, value in zip(names, values, strict=True)}


def of_model(overrides: list[str]) -> list[str]:
    """The words of the overrides that change the model."""
    own, words = [], iter(overrides)
    for word in words:
        pair = [word] if "=" in word else [word, *[value for value in [next(words, None)] if value is not None]]
        own += pair if word.startswith("--model.") else []
    return own


def as_metrics(changed: dict[str, Any]) -> dict[str, int | float | str]:
    """Changed arguments as entries of `metrics.json`: `model_sampler.steps`."""
    named = {name.replace("init_args.", ""): value for name, value in changed.items()}
    return {f"model_{name}": value for name, value in named.items() if isinstance(value, (int, float, str))}
