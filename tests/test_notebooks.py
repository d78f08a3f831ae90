"""The notebooks run from the first cell to the last, in small sizes, and are committed without outputs."""

import ast
import json
from pathlib import Path

import pytest
import yaml

from fibermodels.config import data_root

NOTEBOOKS = Path(__file__).parents[1] / "docs" / "notebooks"
SMALL = {
    "digits": {"MINUTES": 0.02, "TARGETS": 30},
    "cifar10": {"IMAGES": "pictures", "COUNT": 80, "EPOCHS": 1, "MINUTES": 0.02, "TARGETS": 6},
    "guidance": {"SAMPLES": 2, "STEPS": 2},
    "applications": {"IMAGES": "pictures", "COUNT": 80, "LABEL": 6},
}
"""What the cell of parameters has in a test."""


def cells(name):
    return json.loads((NOTEBOOKS / f"{name}.ipynb").read_text())["cells"]


def is_parameters(cell):
    return "parameters" in cell["metadata"].get("tags", ())


def test_every_notebook_is_run():
    assert {path.stem for path in NOTEBOOKS.glob("*.ipynb")} == set(SMALL)


@pytest.mark.parametrize("name", SMALL)
def test_a_notebook_has_parameters_and_no_outputs(name):
    (found,) = filter(is_parameters, cells(name))
    names = {target.id for line in ast.parse("".join(found["source"])).body for target in line.targets}
    assert names == set(SMALL[name])
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in cells(name))


@pytest.mark.parametrize("name", SMALL)
def test_a_notebook_explains_each_step(name):
    """A cell of text stands before each cell of code, or before the one above it."""
    kinds = [cell["cell_type"] for cell in cells(name)]
    assert kinds[0] == "markdown"
    assert not any(kinds[i : i + 3] == ["code"] * 3 for i in range(len(kinds)))


def test_the_applications_load_the_weights_of_the_best_config():
    root = NOTEBOOKS.parents[1] / "configs" / "cifar10"
    part = yaml.safe_load((root / "best.yaml").read_text())["model"]
    weights = yaml.safe_load((root / part).read_text())["init_args"]["weights"]
    assert any(f'fm.load(locate("{weights}"))' in "".join(cell["source"]) for cell in cells("applications"))


@pytest.mark.slow
@pytest.mark.timeout(1800)  # half a minute on an idle core, and many on a busy one
@pytest.mark.parametrize("name", SMALL)
def test_a_notebook_runs(name, tmp_path, monkeypatch):
    import torch
    from torchvision.utils import save_image

    nbformat = pytest.importorskip("nbformat", reason="needs nbclient: pip install 'fibermodels[dev]'")
    nbclient = pytest.importorskip("nbclient", reason="needs nbclient: pip install 'fibermodels[dev]'")
    if name == "applications" and not (data_root() / "weights" / "cifar10_resnet20.safetensors").exists():
        pytest.skip("needs the weights of ResNet-20 in the data root")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    for label in ("left", "right"):
        (tmp_path / "pictures" / label).mkdir(parents=True)
        for i in range(40):
            generator = torch.Generator().manual_seed(i)
            save_image(torch.rand(3, 32, 32, generator=generator), tmp_path / "pictures" / label / f"{i}.png")
    book = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)
    (given,) = filter(is_parameters, book.cells)
    given.source = "\n".join(f"{key} = {value!r}" for key, value in SMALL[name].items())
    nbclient.NotebookClient(
        book, timeout=900, startup_timeout=600, resources={"metadata": {"path": str(tmp_path)}}
    ).execute()
    shown = [output.get("data", {}) for cell in book.cells for output in cell.get("outputs", ())]
    assert sum("image/png" in data for data in shown) >= 2
    if name in ("digits", "cifar10"):
        tables = [data["text/markdown"] for data in shown if "text/markdown" in data]
        assert tables
        assert all("fiber RMS" in table for table in tables)
