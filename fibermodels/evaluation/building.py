"""Builds a model with its subject and data, and the judges, from files."""

from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ArgumentError, ArgumentParser, Namespace, set_parsing_settings

from fibermodels.commands import check_yaml, nearest
from fibermodels.config import allowed_imports, describe, reason
from fibermodels.core import FiberModel, Subject
from fibermodels.evaluation.expense import training_cost
from fibermodels.evaluation.judging import Judges
from fibermodels.evaluation.results import load_samples
from fibermodels.programs import called
from fibermodels.trainable import TrainableFiberModel


def guard_imports() -> None:
    """Restricts the classes in files to this project and the packages in `$FIBERMODELS_IMPORTS`."""
    set_parsing_settings(import_path_denylist=["*"], import_path_allowlist=list(allowed_imports()))


def build(checkpoint: str | None, model: str | None, overrides: list[str]) -> tuple[Any, Any, Any, dict[str, Any]]:
    """Model, subject, data and facts about the run, from a checkpoint or a YAML file with overrides.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: the file does not describe a model with its data.
    """
    return _from_checkpoint(checkpoint, overrides) if checkpoint else _from_yaml(str(model), overrides)


def model_parser() -> ArgumentParser:
    """The parser of a `--model` file, with the keys name, subject, data and model."""
    from lightning.pytorch import LightningDataModule

    own = ArgumentParser(prog="--model", exit_on_error=False)
    own.add_argument("--config", action="config")
    own.add_argument("--name", type=str, required=True)
    own.add_subclass_arguments(Subject, "subject", required=True)
    own.add_subclass_arguments(LightningDataModule, "data", required=True)
    own.add_subclass_arguments(FiberModel, "model", required=True)
    for depth in range(4):  # nested wrappers: all get the same subject and law
        target = "model" + depth * ".init_args.model" + ".init_args"
        own.link_arguments("subject", f"{target}.subject", apply_on="instantiate")
        own.link_arguments("data", f"{target}.law", apply_on="instantiate")
    return own


def judges(
    classifier: str | None,
    others: dict[str, str],
    features: dict[str, str],
    thresholds: list[float],
    reference: str | None = None,
) -> Judges:
    """The judges that YAML files describe (`class_path`, `init_args`, as for a `subject`).

    Args:
        classifier, others, features, thresholds: the options of `evaluate`.
        reference: the folder of a result whose samples `features` compare with.

    Raises:
        FileNotFoundError: a file does not exist, or the reference has no samples.
        ValueError: a file describes no subject, or its outputs do not fit; a reference without `features`.
    """
    if reference is not None and not features:
        raise ValueError(f"reference: expected --features.NAME FILE.yaml with it, got '{reference}' alone")
    if thresholds and not (classifier or others):
        raise ValueError(f"thresholds: expected --classifier or --judges with them, got {list(thresholds)} alone")
    return Judges(
        network("classifier", classifier) if classifier else None,
        {name: network(f"judges.{name}", path) for name, path in others.items()},
        {name: network(f"features.{name}", path) for name, path in features.items()},
        tuple(thresholds) if thresholds else None,
        None if reference is None else load_samples(reference).x_hat,
    )


def network(option: str, path: str) -> Subject:
    """The network that a YAML file describes (`class_path`, `init_args`).

    Args:
        option: of the command line, for errors.
        path: the file.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it describes no subject.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"--{option}: no file at '{path}' (from {Path.cwd()})")
    check_yaml(Path(path))
    if "class_path" not in (content := yaml.safe_load(Path(path).read_text(encoding="utf-8"))):
        raise ValueError(f"--{option} '{path}': expected the keys class_path and init_args, got {list(content)}")
    own = ArgumentParser(prog="--network", exit_on_error=False)
    own.add_subclass_arguments(Subject, "network", required=True)
    return _instantiated(own, ["--network", path], f"--{option} '{path}'").network


def _from_checkpoint(path: str, overrides: list[str]) -> tuple[Any, Any, Any, dict[str, Any]]:
    from fibermodels.training import load

    file, overrides = split_subject(overrides)
    changed = changes(overrides)
    run = load(path, changed, None if file is None else network("subject", file))
    if not isinstance(run.model, FiberModel):
        raise ValueError(f"--checkpoint: expected a FiberModel in '{path}', got a {type(run.model).__name__}")
    if run.data is None:
        raise ValueError(f"--checkpoint: '{path}' does not name the data on which it was trained")
    about = {
        "name": run_name(Path(path)),
        "fiber_weight": float(run.training.fiber.weight),
        "training_steps": run.steps,
        **training_cost(run.description, run.training.seconds, run.device),
        **as_metrics(changed),
    }
    model = run.model.product(()) if isinstance(run.model, TrainableFiberModel) else run.model  # without a teacher
    return model.eval(), run.subject, run.data, about


def run_name(path: Path) -> str:
    """The name of a run from its checkpoint `NAME/checkpoints/best.ckpt`, or from exported weights: `NAME.safetensors`,
    `NAME.json`, a folder `NAME`, or `user/NAME` on the hub."""
    if path.suffix == ".ckpt":
        return path.absolute().parents[1].name
    if path.name in ("model.safetensors", "config.json"):
        path = path.absolute().parent
    elif path.suffix in (".safetensors", ".json"):
        path = path.with_suffix("")
    return path.name or path.absolute().name


def split_subject(overrides: list[str]) -> tuple[str | None, list[str]]:
    """The file of `--subject FILE.yaml`, and the other words.

    Raises:
        ValueError: the option has no value.
    """
    file, others, words = None, [], iter(overrides)
    for word in words:
        if word == "--subject":
            file = next(words, "")
        elif word.startswith("--subject="):
            file = word.partition("=")[2]
        else:
            others.append(word)
    if file == "":
        raise ValueError("--subject: expected FILE.yaml, got ''")
    return file, others


def _from_yaml(path: str, overrides: list[str]) -> tuple[Any, Any, Any, dict[str, Any]]:
    if not Path(path).is_file():
        raise FileNotFoundError(f"no model file at '{path}' (from {Path.cwd()})")
    check_model_file(path)
    built = _instantiated(model_parser(), ["--config", path, *overrides], f"'{path}'")
    about = {"name": built.name, **training_cost(describe(built.model)), **as_metrics(changes(of_model(overrides)))}
    return built.model.eval(), built.subject, built.data, about


def check_model_file(path: str) -> None:
    """Refuses what is no YAML file with keys, and the config of a training.

    Raises:
        ValueError: naming the file.
    """
    check_yaml(Path(path))
    content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    if isinstance(content.get("model"), dict) and "learner" in content["model"]:
        raise ValueError(
            f"'{path}' is the config of a training: train with `{called('train')} --config {path}`, and give its "
            "checkpoint as --checkpoint"
        )


def _instantiated(parser: ArgumentParser, arguments: list[str], what: str) -> Namespace:
    try:
        return parser.instantiate_classes(parser.parse_args(arguments))
    except (ArgumentError, ValueError) as error:
        cause = " ".join(reason(str(error)).split())
        raise ValueError(f"{what}: {cause}{nearest(cause)}") from error


OVERRIDES = ("model", "subject", "data")
"""Keys of a `--model` file that the command line may change: `--model.KEY VALUE`, `--subject FILE.yaml`, ..."""


def split_overrides(arguments: list[str]) -> tuple[list[str], list[str]]:
    """The command's own arguments, and those that change keys of a `--model` file or of the model in a checkpoint."""
    own, overrides, words = [], [], iter(arguments)
    for word in words:
        key, _, part = word.partition("=")[0].removeprefix("--").partition(".")
        if word.startswith("--") and key in OVERRIDES and (part or key != "model"):
            overrides += [word] if "=" in word else [word, *[value for value in [next(words, None)] if value]]
        else:
            own.append(word)
    return own, overrides


def changes(overrides: list[str]) -> dict[str, Any]:
    """Arguments and YAML values of `--model.ARGUMENT VALUE` and `--model.ARGUMENT=VALUE`.

    Raises:
        ValueError: an argument has no value, or is not one of the model.
    """
    for word in overrides:
        if word.startswith("--") and not word.startswith("--model."):
            raise ValueError(f"{word}: expected only --model.ARGUMENT VALUE and --subject FILE.yaml with --checkpoint")
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
