"""The command `explore NAME`: an application on a model, with its figures, its picture and its page."""

import inspect
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_type_hints

from torch import Tensor

from fibermodels.applications import APPLICATIONS, Finding
from fibermodels.commands import Parser, check_files, explained
from fibermodels.core import Data, HasLaw, Subject
from fibermodels.evaluation import building
from fibermodels.evaluation.devices import accelerator, check_device
from fibermodels.evaluation.report.findings import write_findings_report
from fibermodels.evaluation.results import commit
from fibermodels.evaluation.sampling import image_files, read_images
from fibermodels.evaluation.scoring import remember, subject_name
from fibermodels.files import check_new, claim, release, replace_file, write_text
from fibermodels.programs import called
from fibermodels.spaces import ImageSpace

GIVEN = ("model", "subject", "images")
"""What every application takes first."""

FROM_DATA = ("factors", "labels", "references")
"""Arguments that the data of the model give."""

REFERENCES = 200
"""Validation images from which an application learns, at most."""

SECOND = ("other_model", "other_subject")
"""Arguments that a second checkpoint gives."""


def networks(name: str) -> dict[str, bool]:
    """The arguments of an application that are further networks, and whether each is several by name."""
    hints = get_type_hints(APPLICATIONS[name])
    own = {key: str(hint) for key, hint in hints.items() if key not in (*GIVEN, *SECOND, "return")}
    return {key: "Mapping" in hint for key, hint in own.items() if "Subject" in hint or hint == str(Subject)}


def parser(name: str) -> Parser:
    """The options of an application, read from its signature."""
    function = APPLICATIONS[name]
    own = Parser(prog=f"{called('explore')} {name}", description=(inspect.getdoc(function) or "").split("\n")[0])
    own.add_argument(
        "--checkpoint",
        type=str,
        required=True,
        help="a checkpoint, exported weights, or the YAML file of a model that needs no training; "
        "--model.ARGUMENT VALUE changes an argument of the model",
    )
    own.add_argument("--images", type=str, nargs="+", default=[], help="image files, or folders of them")
    own.add_argument("--targets", type=int, default=8, help="without --images: the first test images of the data")
    own.add_argument("--device", type=str, default=accelerator(), help="such as cpu or cuda")
    own.add_argument("--out", type=str, required=True, help="folder for metrics.json, figure.png and report.html")
    own.add_argument("--overwrite", type=bool, default=False, help="replace earlier files")
    further = networks(name)
    for key, several in further.items():
        kind: Any = dict[str, str] if several else str | None
        text = "YAML file of a network" + (f": --{key}.NAME FILE.yaml" if several else "")
        own.add_argument(f"--{key}", type=kind, default={} if several else None, help=text)
    if set(SECOND) & set(inspect.signature(function).parameters):
        own.add_argument("--other", type=str | None, default=None, help="the second model, as --checkpoint")
    own.add_function_arguments(function, skip={*GIVEN, *FROM_DATA, *SECOND, *further})
    return own


def main(name: str, words: Sequence[str]) -> None:
    """Runs the command. Errors of the user give one message and exit status 2."""
    with explained():
        building.guard_imports()
        check_files(words)
        given, overrides = building.split_overrides(list(words))
        own = parser(name)
        options = vars(own.instantiate_classes(own.parse_args(given)))
        common = ("checkpoint", "images", "targets", "device", "out", "overwrite")
        path, files, targets, device, folder, overwrite = (options.pop(key) for key in common)
        out = Path(folder)
        check_new(out / "metrics.json", overwrite)
        check_device(device)
        if targets < 1:
            raise ValueError(f"targets: expected at least 1, got {targets}")
        model, subject, data, about = built(path, overrides)
        if not isinstance(subject.input_space, ImageSpace):
            raise ValueError(
                f"{name}: expected a model of images, because its answers are pictures; this subject takes inputs of "
                f"{list(subject.input_shape)}, whose fibers `fibermodels sample` and `fibermodels evaluate` show"
            )
        if second := options.pop("other", None):
            other_model, other_subject, other_data, _ = built(second, [])
            remember(other_model, other_subject, other_data, device)
            options |= {"other_model": other_model.to(device), "other_subject": other_subject.to(device)}
        for key, several in networks(name).items():
            found = options.pop(key)
            paths = found if several else {key: found} if found else {}
            made = {each: building.network(f"{key}.{each}", file).to(device) for each, file in paths.items()}
            options[key] = made if several else made.get(key)
        remember(model, subject, data, device)
        x = read_images(image_files(files), subject, data) if files else data.split("test").images(slice(targets))
        options |= from_data(name, data, None if files else slice(targets))
        start = time.perf_counter()
        finding: Finding = APPLICATIONS[name](model.to(device), subject.to(device), x, **options)
        seconds = time.perf_counter() - start
        facts = {"name": name, "model": about["name"], "subject_name": subject_name(subject), "num_targets": len(x)}
        facts |= {"seed": options["seed"], "seconds": round(seconds, 1), "device": device, "commit": commit()}
        lock = claim(out)
        try:
            write(out, name, finding, facts)
        finally:
            release(lock)
    print(f"{finding!r}\n{seconds:.3g} seconds on {device}\n{out}/figure.png\n{out}/report.html")


def built(path: str, overrides: list[str]) -> tuple[Any, Any, Any, dict[str, Any]]:
    """Model, subject, data and facts, of a checkpoint or a YAML file."""
    described = Path(path).suffix in (".yaml", ".yml")
    return building.build(None if described else path, path if described else None, overrides)


def from_data(name: str, data: Data, part: slice | None) -> dict[str, Any]:
    """The arguments of an application that the data know.

    Args:
        name: of the application.
        data: of the model.
        part: of the test images, if these are the targets.
    """
    wanted = inspect.signature(APPLICATIONS[name]).parameters
    found: dict[str, Any] = {}
    if "factors" in wanted and isinstance(data, HasLaw) and part is not None:
        found["factors"] = data.factors
    if "labels" in wanted and part is not None:
        labels: Tensor | None = data.split("test").labels()
        found["labels"] = None if labels is None else labels[part]
    if "references" in wanted:
        known = data.split("val")
        found["references"] = known.inputs(slice(min(REFERENCES, len(known))))
    return found


def write(out: Path, name: str, finding: Finding, facts: dict[str, Any]) -> None:
    """Writes a finding as `figure.png`, `report.html` and, last, `metrics.json`.

    Args:
        out: the folder.
        name: of the application.
        finding: what it found.
        facts: further entries of `metrics.json`, which come first.
    """
    replace_file(out / "figure.png", lambda file: finding.plot().savefig(file, dpi=80, format="png"))
    write_findings_report(out, {name: finding}, facts)
    write_text(out / "metrics.json", json.dumps(facts | finding.figures(), indent=2) + "\n")
