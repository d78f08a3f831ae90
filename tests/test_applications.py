"""What all applications share: methods, commands, files and pictures."""

import inspect
import json

import pytest
from scripts import ROOT, run

import fibermodels
from fibermodels.api.fitted import Fitted
from fibermodels.applications import (
    APPLICATIONS,
    Finding,
)

ORACLE = ("--checkpoint", "configs/digits/oracle.yaml", "--device", "cpu")


PIXELS = ("--space", "pixel", "--steps", 3)
OPTIONS = {
    "audit": ("--shuffles", 200, "--copies", 0),
    "counterfactual": ("--label", 3, *PIXELS),
    "disagree": ("--second", "configs/parts/colour_mnist/subject.yaml", *PIXELS),
    "maximise": ("--unit", 3, *PIXELS),
}
"""Of the commands in the test."""

QUICK = ("audit", "counterfactual")
"""Commands that the default tests run."""


def slow(name: str) -> list[pytest.MarkDecorator]:
    return [] if name in QUICK else [pytest.mark.slow]


MAPS = f"""
name: maps
subject:
  class_path: fibermodels.subjects.Cut
  init_args:
    network: torch.nn.Conv2d
    layer: spatial
    image_shape: [3, 28, 28]
    network_args: {{in_channels: 3, out_channels: 4, kernel_size: 7, stride: 7}}
data: {ROOT}/configs/parts/digits/data.yaml
model:
  class_path: fibermodels.models.NearestNeighbour
"""
"""A model of a network with maps, which `compose` needs; the representation of the digits is none."""

MASKED = ("counterfactual", "maximise")


class TestEach:
    """What all applications share: the method, the command with its files, and the picture."""

    @pytest.fixture(scope="class")
    def folder(self, tmp_path_factory):
        return tmp_path_factory.mktemp("found")

    @pytest.mark.parametrize("name", [pytest.param(own, marks=slow(own)) for own in APPLICATIONS])
    def test_command_and_report(self, name, folder):
        model = ORACLE
        if name == "compose":
            (folder / "maps.yaml").write_text(MAPS)
            model = ("--checkpoint", folder / "maps.yaml", "--device", "cpu")
        given, options = (*model, "--targets", 12, "--out", folder / name), OPTIONS.get(name, ())
        options = (*options, *(() if PIXELS[0] in options or name == "audit" else ("--n", 4)))
        done = run("fibermodels", "explore", name, *given, *options)
        assert not done.returncode, done.stderr
        values = json.loads((folder / name / "metrics.json").read_text())
        assert values["name"] == name
        merit = next(key for key in values if f"{key}_null" in values)
        page = (folder / name / "report.html").read_text()
        assert f"{values[merit]:.3g}" in page
        assert page.count("data:image/png") >= 3
        assert "://" not in page, "it loads nothing"
        assert (folder / name / "figure.png").read_bytes().startswith(b"\x89PNG")
        assert "exists" in run("fibermodels", "explore", name, *given, *options).stderr

    def test_each_is_a_method_of_a_model_at_hand(self, digits):
        _, oracle, subject, x = digits
        run = Fitted(oracle, subject)
        for name, function in APPLICATIONS.items():
            own = getattr(run, name)
            assert inspect.signature(own).parameters, name
            assert list(inspect.signature(function).parameters)[:3] == ["model", "subject", "images"]
            assert getattr(fibermodels.applications, name) is function
        found = run.invariance_map(x[0], n=4)
        assert isinstance(found, Finding)
        assert found._repr_png_().startswith(b"\x89PNG")
        assert repr(found).startswith("InvarianceMap(change along the fiber ")

    def test_the_command_names_what_is_wrong(self, tmp_path):
        done = run("fibermodels", "explore", "invariance_map", *ORACLE, "--out", tmp_path, "--directions", 0)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1)
        assert "directions" in done.stderr

    @pytest.mark.parametrize("name", APPLICATIONS)
    def test_a_mistyped_option_and_a_missing_file(self, name, tmp_path):
        """One message that names what is wrong, and no file."""
        given = ("fibermodels", "explore", name, "--out", tmp_path / "found")
        for words, told in (
            ((*ORACLE, "--targts", 2), "did you mean 'targets'"),
            (("--checkpoint", "configs/none.yaml"), "no model file at 'configs/none.yaml'"),
            ((*ORACLE, "--images", "none.png"), "nothing at 'none.png'"),
            *([((*ORACLE, *PIXELS, "--mask", "none.png"), "no file at 'none.png'")] if name in MASKED else []),
        ):
            done = run(*given, *words)
            assert (done.returncode, told in done.stderr) == (2, True), done.stderr
        assert not (tmp_path / "found").exists()
