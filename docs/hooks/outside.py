"""Puts files from outside `docs/` into the site: README.md is its first page, and what a page links to is copied.

A link such as `../results/cifar10/stages.png` finds its file in the repository. The site has nothing above its pages,
so the file gets the same path below them, and the link is changed.
"""

import re
from collections.abc import Iterator
from os.path import dirname, relpath
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[2]
PAGES = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "data/README.md": "data.md",
}
LINK = re.compile(r"(?<=\]\()[^)#:\s]+")


def address(path: Path) -> str | None:
    """Where the site has a file; None for what is outside the repository."""
    if not path.is_relative_to(ROOT):
        return None
    name = path.relative_to(ROOT).as_posix()
    return PAGES.get(name, name.removeprefix("docs/"))


def linked(page: File) -> Iterator[Path]:
    """The files that a page links to."""
    for link in LINK.findall(page.content_string):
        yield (Path(str(page.abs_src_path)).parent / link).resolve()


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages from outside, and the files that any page links to."""
    for name, place in PAGES.items():
        files.append(File.generated(config, place, abs_src_path=str(ROOT / name)))
    for page in [each for each in files.documentation_pages() if each.src_uri.endswith(".md")]:
        for path in linked(page):
            place = address(path)
            if place and path.is_file() and files.get_file_from_path(place) is None:
                files.append(File.generated(config, place, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Changes the links of a page to where the site has their files."""
    here = dirname(page.file.src_uri) or "."

    def moved(link: re.Match[str]) -> str:
        place = address((Path(str(page.file.abs_src_path)).parent / link[0]).resolve())
        return relpath(place, here) if place else link[0]

    return LINK.sub(moved, markdown)
