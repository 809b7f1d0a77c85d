"""`python -m knowcirc.items > docs/items.md` writes the list of figures and tables anew."""

import sys

from knowcirc.items.contract import Item
from knowcirc.items.figures import FIGURES
from knowcirc.items.tables import TABLES

HEADING = """# Figures and tables

Every item of the study, with what it reproduces. Written by `python -m knowcirc.items`.
"""


def markdown() -> str:
    """All items as a page in Markdown."""
    lines = [HEADING, "| item | paper | what it shows |", "|---|---|---|"]
    kinds: tuple[tuple[str, tuple[Item, ...]], ...] = (("figure", FIGURES), ("table", TABLES))
    for kind, items in kinds:
        lines += [f"| {kind} `{item.name}` | {item.paper} | {item.summary}{_where(item)} |" for item in items]
    return "\n".join(lines)


def _where(item: Item) -> str:
    """Says which setting asks for an item that not every study has."""
    return f", where `{item.where.replace('/', '.')}` is set" if item.where else ""


if __name__ == "__main__":
    sys.stdout.write(f"{markdown()}\n")
