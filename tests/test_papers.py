"""The list of the papers' experiments: a command or a reason in every row, and nothing that does not exist."""

import json
import re
import shlex
import sys
from pathlib import Path

import pytest

from fibermodels.applications import APPLICATIONS
from fibermodels.cli import COMMANDS

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT / "benchmarks"))
import papers  # noqa: E402  # a script beside the package

ROWS = [(paper, row) for paper, rows in papers.experiments().items() for row in rows]


@pytest.mark.parametrize(("paper", "row"), ROWS, ids=lambda each: getattr(each, "where", each))
class TestRows:
    def test_its_command_names_what_exists(self, paper, row):
        words = shlex.split(row.command)
        if words[0] == "python":
            assert (ROOT / words[1]).is_file()
        else:
            assert words[0] == "fibermodels"
            assert words[1] in COMMANDS
            assert words[1] != "explore" or words[2] in APPLICATIONS
        for word in words:
            assert not word.startswith("configs/") or (ROOT / word).is_file(), word

    def test_its_figures_are_those_of_results(self, paper, row):
        papers.filled(row.ours)  # raises where a table lacks a cell
        for result, key in papers.ENTRY.findall(row.ours):
            assert key in json.loads((ROOT / "results" / result / "metrics.json").read_text()), result

    def test_its_link_leads_to_a_heading(self, paper, row):
        page, _, anchor = row.see.partition("#")
        if page:
            text = (ROOT / "docs" / page).read_text()
            headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
            slugs = [re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings]
            assert not anchor or anchor in slugs, slugs


def test_there_are_five_papers():
    assert list(papers.experiments()) == ["show_me", "featinv", "equidiff", "energydps", "dig_in"]


def test_a_row_without_figures_and_reason_is_refused():
    with pytest.raises(ValueError, match="fig. 1: expected figures of ours"):
        papers.Experiment("fig. 1", "what", "1.0", command="python train.py")


def test_a_cell_is_found_by_the_first_cells_of_its_row(tmp_path, monkeypatch):
    monkeypatch.setattr(papers, "ROOT", tmp_path)
    (tmp_path / "results").mkdir()
    table = "| E s | law | KL |\n| --- | --- | --- |\n| 6 | soft | .3 |\n| 6 | hard |  |\n"
    (tmp_path / "results/laws.md").write_text(table)
    assert papers.filled("{laws.md:6, soft:KL}, {laws.md:6, hard:KL}.") == ".3, ."
    for row, column in (("6", "KL"), ("7, soft", "KL"), ("6, soft", "TV")):
        with pytest.raises(KeyError, match="results/laws.md: expected one row"):
            papers.cell("laws.md", row, column)
