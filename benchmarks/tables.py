"""Inserts generated tables into README and docs, between `<!-- table: FILE -->` and `<!-- end of table -->`.

python benchmarks/tables.py [--check true]
"""

import re
import sys
from pathlib import Path

from jsonargparse import auto_cli

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"<!-- table: (\S+) -->\n.*?<!-- end of table -->", re.DOTALL)


def filled(text: str) -> str:
    """`text` with every block replaced by the file it names."""
    return BLOCK.sub(
        lambda found: f"<!-- table: {found[1]} -->\n{(ROOT / found[1]).read_text()}<!-- end of table -->", text
    )


def main(check: bool = False) -> None:
    """Fills the tables of README.md and docs/*.md.

    Args:
        check: change nothing; fail if a table differs from its file.
    """
    stale = []
    for page in [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md"))]:
        text = page.read_text()
        if filled(text) != text:
            stale.append(page.name)
            if not check:
                page.write_text(filled(text))
    if check and stale:
        sys.exit(f"error: stale tables in {stale}; run python benchmarks/tables.py")


if __name__ == "__main__":
    auto_cli(main)
