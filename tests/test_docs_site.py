"""The documentation site is built without a warning, shows every page, and describes everything public."""

import ast
import importlib
import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
import yaml

ROOT = Path(__file__).parents[1]
DOCS, PACKAGE = ROOT / "docs", ROOT / "fibermodels"
DESCRIBED = {
    path.parent: re.findall(r"^::: (\S+)", page.read_text(), re.MULTILINE)
    for path in sorted(PACKAGE.rglob("__init__.py"))
    if (page := DOCS / "api" / f"{path.parent.name}.md").exists()
}
"""The folder of each package that has a page, and the names that mkdocstrings describes there."""


def slow(test):
    """Building the site takes a quarter of a minute on an idle core, and minutes on a busy one."""
    return pytest.mark.slow(pytest.mark.timeout(1200)(test))


def entries(navigation):
    """The pages of a navigation, in order."""
    for each in navigation.values() if isinstance(navigation, dict) else navigation:
        yield from [each] if isinstance(each, str) else entries(each)


def public(folder):
    """The list `__all__` of a package, read without importing it."""
    for node in ast.parse((folder / "__init__.py").read_text()).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__":
            return ast.literal_eval(node.value)
    return []


def test_every_page_is_in_the_navigation_once():
    shown = list(entries(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]))
    pages = {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*") if path.suffix in (".md", ".ipynb")}
    assert len(pages) > 20
    assert pages <= set(shown)
    assert len(shown) == len(set(shown))


def test_every_public_package_has_a_page():
    packages = [path.parent for path in PACKAGE.rglob("__init__.py") if public(path.parent)]
    assert len(packages) > 10
    for folder in packages:
        name = ".".join(folder.relative_to(ROOT).parts)
        assert name in DESCRIBED.get(folder, []), f"docs/api/{folder.name}.md: no line '::: {name}'"


@pytest.mark.parametrize("name", sorted({name for names in DESCRIBED.values() for name in names}))
def test_what_a_page_describes_exists(name):
    path, parts = ROOT, name.split(".")
    while parts and (path / parts[0]).is_dir():
        path /= parts.pop(0)
    path = path / f"{parts.pop(0)}.py" if parts and (path / f"{parts[0]}.py").exists() else path / "__init__.py"
    defined = {getattr(node, "name", "") for node in ast.parse(path.read_text()).body}
    assert set(parts) <= defined, name


class Page:
    """The anchors of a page, what it links to, and what it loads."""

    def __init__(self, path):
        text = re.sub(r"<(script|style)(?![^>]*\ssrc=).*?</\1>", "", path.read_text(), flags=re.DOTALL)
        self.ids = set(re.findall(r'\sid="([^"]+)"', text))
        self.links = re.findall(r'<a\s[^>]*?href="([^"]*)"', text)
        sheets = [tag for tag in re.findall(r"<link\s[^>]*>", text) if re.search("stylesheet|icon|preconnect", tag)]
        self.loaded = re.findall(r'\ssrc="([^"]+)"', text) + re.findall(r'href="([^"]+)"', " ".join(sheets))


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The pages of the built site, by their path."""
    pytest.importorskip("mkdocs", reason="needs the extra docs: pip install 'fibermodels[docs]'")
    out = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(out)],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return {path: Page(path) for path in out.rglob("index.html")}


@slow
def test_nothing_public_is_undocumented(site):
    """mkdocstrings leaves out what has no docstring."""
    for folder in DESCRIBED:
        name = ".".join(folder.relative_to(ROOT).parts)
        (page,) = (page for path, page in site.items() if path.parts[-3:-1] == ("api", folder.name))
        missing = [each for each in public(folder) if f"{name}.{each}" not in page.ids]
        assert not missing, name
        assert f"{name}.Unwritten" not in page.ids


@slow
def test_links_lead_somewhere(site):
    found = 0
    for path, page in site.items():
        for link in [*page.links, *page.loaded]:
            parts = urlsplit(link)
            if parts.scheme:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            target = target / "index.html" if target.is_dir() else target
            assert target.is_file(), (path, link)
            if parts.fragment and target in site:
                assert unquote(parts.fragment) in site[target].ids, (path, link)
            found += 1
    assert found > 1000


@slow
def test_a_page_loads_nothing_from_other_servers(site):
    assert not {link for page in site.values() for link in page.loaded if urlsplit(link).netloc}


@slow
def test_links_to_files_get_copies_of_them(site):
    """A picture of `results/`, a config and a program: as they are in the repository."""
    (root,) = (path.parent for path in site if path.parent.name.startswith("site"))
    for name in ("results/suites/comparison.png", "configs/cifar10/energy_score.yaml", "examples/own_network.py"):
        assert (root / name).read_bytes() == (ROOT / name).read_bytes()


@slow
def test_names_of_packages_are_those_at_run_time():
    """What is read from the source is what an import finds."""
    for folder in DESCRIBED:
        module = importlib.import_module(".".join(folder.relative_to(ROOT).parts))
        assert sorted(public(folder)) == sorted(getattr(module, "__all__", []))
