"""What README and docs say is so: commands exist, tables are the generated ones, the example runs."""

import csv
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md")), ROOT / "data" / "README.md"]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_files_and_targets_exist(page):
    text = page.read_text()
    for link in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (page.parent / link).exists(), link
    for path in re.findall(r"`?((?:configs|fibermodels|benchmarks|tests|docs)/[\w/.-]+\.(?:py|yaml|md))", text):
        assert (ROOT / path).exists(), path
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for target in re.findall(r"`make ([a-z-]+)", text) + re.findall(r"^make ([a-z-]+)", text, re.MULTILINE):
        assert target in targets, f"make {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_to_sections_find_them(page):
    """A heading's anchor is its text in small letters, without punctuation, with hyphens for spaces."""
    for file, anchor in re.findall(r"\]\(([^)#:]*)#([^)]+)\)", page.read_text()):
        target = page.parent / file if file else page
        headings = re.findall(r"^#+ (.+)$", target.read_text(), re.MULTILINE)
        assert anchor in {re.sub(r"[^\w -]", "", text.lower()).replace(" ", "-") for text in headings}, anchor


def test_tables_are_the_generated_ones():
    subprocess.run([sys.executable, "benchmarks/tables.py", "--check", "true"], cwd=ROOT, check=True)


TABLES = ["", "summary", "guidance", "feedback", "ndtm_ablation"]


def shown(table):
    """The names of the results that a comparison shows."""
    with (ROOT / "results" / "colour_mnist" / table / "comparison.csv").open(newline="") as file:
        return [row["name"] for row in csv.DictReader(file)]


@pytest.mark.parametrize("table", TABLES)
def test_a_comparison_is_that_of_its_results(table):
    from fibermodels.evaluation.results import read_results
    from fibermodels.evaluation.tables import summary

    results = ROOT / "results" / "colour_mnist"
    rows = read_results([results / name for name in shown(table)])
    assert (results / table / "comparison.md").read_text() == summary(rows)


def tables(text):
    """The Markdown tables of a page: their lines."""
    return [table.splitlines() for table in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE)]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_tables_are_small(page):
    for titles, _, *rows in tables(page.read_text()):
        assert titles.count("|") - 1 <= 8, titles
        assert len(rows) <= 12, titles


def test_figures_of_comparisons_are_small_files():
    sizes = {path: path.stat().st_size for path in ROOT.glob("results/**/comparison.png")}
    assert not {path: size for path, size in sizes.items() if size > 150_000}


def test_every_question_is_on_a_page():
    from tables import OTHERS, QUESTIONS

    used = {name for page in PAGES for name in re.findall(r"<!-- table: (\w+) -->", page.read_text())}
    assert used == {*QUESTIONS, *OTHERS}


def test_every_result_is_in_a_comparison():
    results = {path.parent.name for path in ROOT.glob("results/colour_mnist/*/metrics.json")}
    assert results == {name for table in TABLES for name in shown(table)}


def python_block(page, part):
    """The block of Python code on a page that contains a text."""
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)
    return next(block for block in blocks if part in block)


@pytest.mark.parametrize("page", ["README.md", "docs/python.md"])
def test_the_few_calls_run(page, tmp_path, monkeypatch):
    """On a small network with a module `layer4`, in some steps."""
    import torch
    from torch import nn
    from torchvision.utils import save_image

    from fibermodels.training.planning import Plan

    (tmp_path / "photos").mkdir()
    for i, image in enumerate(torch.rand(40, 3, 16, 16, generator=torch.Generator().manual_seed(0))):
        save_image(image, tmp_path / "photos" / f"{i}.png")
    save_image(torch.rand(3, 20, 30, generator=torch.Generator().manual_seed(1)), tmp_path / "cat.jpg")
    network = nn.Sequential()
    for name, layer in (("conv", nn.Conv2d(3, 4, 3, 2, 1)), ("layer4", nn.Conv2d(4, 4, 3, 2, 1))):
        network.add_module(name, layer)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("fibermodels.api.fit.planned", lambda *_: Plan(48, "32-true", 1, 2, 0.1))
    names: dict = {"network": network}
    code = python_block(page, "fm.fit").replace(
        "fm.explore(network, ", 'fm.explore(network, layer="conv", steps=2, n=1, image='
    )
    exec(compile(code, page, "exec"), names)
    assert names["samples"].shape == (8, 3, 16, 16)
    assert (tmp_path / "mine" / "model.safetensors").is_file()


def test_the_law_of_the_page_is_exact():
    """Members lie on the fiber, factors are read back as they were drawn, and the oracle is at the floor."""
    import torch

    from fibermodels.noise import seeded

    names: dict = {}
    exec(compile(python_block("docs/own_law.md", "class Spots"), "own_law.md", "exec"), names)
    law, subject, score = names["law"], names["subject"], names["exact"].score(100, neighbour=False)
    x = law.split("test").images(slice(20))
    members = law.members(x, 3, seeded(0))
    torch.testing.assert_close(subject(members.flatten(0, 1)), subject(x).repeat(3, 1))
    assert (members[0] - members[1]).abs().amax((1, 2, 3)).min() > 0.01
    content = law.content(x)
    drawn = law.draw(torch.randn(20, 2, generator=seeded(1)), content)
    torch.testing.assert_close(law.factors(law.render(content, drawn), x), drawn)
    assert score["fiber_rms"] < 1e-6
    assert abs(score["factor_ks"] - score["factor_ks_floor"]) < 0.05


def test_the_example_runs(tmp_path, monkeypatch):
    """The README's Python block, on a checkpoint trained for two batches."""
    import torch
    from lightning.pytorch import Trainer
    from lightning.pytorch.callbacks import ModelCheckpoint

    from fibermodels.latents import VAE
    from fibermodels.models import FlowMatching
    from fibermodels.nn import MLP
    from fibermodels.suites import DecolorisedEncoder
    from fibermodels.suites.colour_digits import ColourDigits
    from fibermodels.training import Training

    code = python_block("README.md", "runs/quickstart")
    folder = tmp_path / "runs" / "quickstart" / "checkpoints"
    module = Training(
        FlowMatching(VAE([3, 28, 28], 8, width=16, blocks=1, patterns=8), [48], MLP(16)), DecolorisedEncoder(width=16)
    )
    trainer = Trainer(
        accelerator="cpu", max_steps=2, limit_val_batches=0, logger=False, enable_progress_bar=False,
        callbacks=[ModelCheckpoint(str(folder), "best")],
    )  # fmt: skip
    trainer.fit(module, datamodule=ColourDigits(batch_size=8))
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    exec(compile(code, "README.md", "exec"), names)
    assert names["samples"].shape == (5, 8, 3, 28, 28)
    assert names["error"].shape == (8,)
    assert torch.isfinite(names["error"]).all()


def test_each_promise_names_a_test():
    """`docs/deployment.md` promises things, and every test that it names exists."""
    section = (ROOT / "docs" / "deployment.md").read_text().partition("### What is promised")[2].partition("\n## ")[0]
    rows = [line.split("|")[2] for line in section.splitlines() if line.startswith("|")][2:]
    assert len(rows) >= 10
    for row in rows:
        named, content = re.findall(r"`([^`]+)`", row), ""
        assert named, row
        for name in named:
            file, _, test = name.rpartition("::") if "::" in name else (name, "", "")
            if file.endswith(".py"):
                content = (ROOT / "tests" / file).read_text()
            assert re.search(rf"(def|class) {test or name}\b", content) or name.endswith(".py"), name
