"""The page of a published model: a `README.md` with the front matter that the hub of Hugging Face reads.

All numbers come from the card. Text of a user is escaped, because the page is shown as Markdown with HTML.
"""

import json
import re
import shlex
from typing import Any

import yaml

from fibermodels.config import import_class, lacks
from fibermodels.core import FiberModel

SETTINGS = (
    *("fiber_weight", "num_targets", "samples_per_target", "seed", "processes"),
    *("num_parameters", "training_steps", "training_seconds"),
)
"""Numbers of a result that are no scores."""

NAMED = ("network", "source", "name", "layer")
"""Arguments of a subject that say which network it is, and where it is read."""

FLOOR = "_floor"
"""The ending of a metric of exact samples."""


def page(card: dict[str, Any], title: str, where: str, license: str | None = None, figure: str | None = None) -> str:
    """The page.

    Args:
        card: what `export.py` writes as JSON.
        title: the model's name.
        where: the path or the hub's id from which the model is loaded.
        license: an identifier such as `mit`.
        figure: the file of the figure, in the same folder.
    """
    shown = f"![targets in the first row, samples of their fibers below]({figure})" if figure else ""
    parts = (_front(card, license), f"# {escaped(title)}", _about(card, license), shown, _use(card, title, where))
    return "\n\n".join(part for part in (*parts, _scores(card), _files(card)) if part) + "\n"


def check_license(license: str | None) -> None:
    """Refuses what is no identifier of a license.

    Raises:
        ValueError: naming what was given.
    """
    if license is not None and not re.fullmatch(r"[a-z0-9][a-z0-9.-]*", license):
        raise ValueError(f"license: expected an identifier such as mit or cc-by-4.0, got '{license}'")


def escaped(text: object) -> str:
    """Text in one line in which neither Markdown nor HTML has a meaning."""
    line = " ".join(str(text).split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_{}\[\]()#+!|~$])", r"\\\1", line)


def _front(card: dict[str, Any], license: str | None) -> str:
    own: dict[str, Any] = {"library_name": "fibermodels"}
    if license is not None:
        own["license"] = license
    own["tags"] = ["fibermodels", _name(card["component"])]
    dataset = str(card.get("dataset", ""))
    if re.fullmatch(r"\w[\w.-]*(/\w[\w.-]*)?", dataset):  # other names are refused by the hub
        own["datasets"] = [dataset]
    return f"---\n{yaml.safe_dump(own, sort_keys=False)}---"


def _name(description: dict[str, Any]) -> str:
    return str(description["class_path"]).rpartition(".")[2]


def _samples(card: dict[str, Any]) -> bool:
    """Whether the model of a card samples fibers; other cards are those of parts, such as a latent space."""
    found = import_class(card["component"]["class_path"], lambda found: isinstance(found, type), "a class")
    return issubclass(found, FiberModel)


def _about(card: dict[str, Any], license: str | None) -> str:
    """What the model samples: subject, layer and data."""
    component, subject = card["component"], card["training"]["init_args"].get("subject")
    what = "samples inputs that a frozen network, its subject, does not tell apart" if _samples(card) else "is a part"
    lines = [f"This `{_name(component)}` {what}. It was trained with the Python package fibermodels.", ""]
    if subject is not None:
        arguments = {key: value for key, value in subject["init_args"].items() if key in NAMED and value is not None}
        told = ", ".join(f"{key} {escaped(value)}" for key, value in arguments.items())
        lines.append(f"- **Subject**: {escaped(_name(subject))}{f' ({told})' if told else ''}")
    elif "subject" in card["frozen"]:
        lines.append("- **Subject**: a network that these files do not contain; you give it when you load the model")
    if shape := component["init_args"].get("feature_shape"):
        lines.append(f"- **Representation**: {' x '.join(map(str, shape))}")
    if "dataset" in card:
        lines.append(f"- **Data**: {escaped(card['dataset'])}")
    cost = f"{card['training_seconds']:.4g} seconds on {card['training_device']}"
    lines.append(f"- **Training**: {card['training_steps']} steps, {escaped(cost)}, without its frozen parts")
    if license is not None:
        lines.append(f"- **License**: {license}")
    return "\n".join(lines)


def _use(card: dict[str, Any], title: str, where: str) -> str:
    """The lines of Python, and of the command line, that use the model."""
    if not _samples(card):
        described = card["component"] | {"init_args": card["component"]["init_args"] | {"weights": "FOLDER"}}
        text = yaml.safe_dump(described, sort_keys=False)
        return f"## Use\n\nIn YAML, with the folder of these files as `weights`:\n\n```yaml\n{text}```"
    live = card["training"]["init_args"].get("subject") is None and "subject" in card["frozen"]
    given, option = (", subject=phi", " --subject FILE.yaml") if live else ("", "")
    note = "`phi` is the subject, a `fibermodels.Subject`, and `FILE.yaml` describes it.\n\n" if live else ""
    if lacks(card["training"]["init_args"].get("subject")):
        given, note = ", subject=network", "`network` is the network that was studied, an `nn.Module`.\n\n"
    name = re.sub(r"[^\w.-]+", "-", title).strip("-.") or "model"
    place = " ".join(where.split())
    return f"""## Use

{note}```python
import fibermodels

run = fibermodels.load({json.dumps(place)}{given})
x = run.data.split("test").inputs(slice(8))
samples = run.sample(x, n=4)  # (4, 8, *input_shape)
```

```bash
python evaluate.py --checkpoint {shlex.quote(place)}{option} --out results/{name}
```"""


def _scores(card: dict[str, Any]) -> str:
    """The table of the result, or of the scores on the test split."""
    result = card.get("result")
    found = card["test_scores"] if result is None else result
    numbers = {key: value for key, value in found.items() if isinstance(value, (int, float)) and key not in SETTINGS}
    if not numbers:
        return ""
    own = "Means over the test split."
    if result is not None:
        split = escaped(result.get("split", "test"))
        own = (
            f"{result.get('num_targets')} targets of the {split} split, {result.get('samples_per_target')} samples "
            f"of each, seed {result.get('seed')}. A floor is the value of as many exact samples."
        )
    rows = [
        f"| {escaped(key)} | {value:.4g} | {_number(numbers.get(key + FLOOR))} |"
        for key, value in numbers.items()
        if not key.endswith(FLOOR)
    ]
    return "\n".join(["## Scores", "", own, "", "| metric | value | floor |", "| --- | --- | --- |", *rows])


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def _files(card: dict[str, Any]) -> str:
    rows = ["| `model.safetensors` | what was trained | `" + card["sha256"] + "` |"]
    if "frozen_sha256" in card:
        rows.append("| `model.frozen.safetensors` | its frozen parts | `" + card["frozen_sha256"] + "` |")
    rows.append("| `config.json` | the description of model, subject and data | |")
    return "\n".join(["## Files", "", "| file | what | sha256 |", "| --- | --- | --- |", *rows])
