"""Pages of the library: one for each module of its public packages, from the docstrings."""

import ast
import re
from pathlib import Path

FOLDER = "reference/library"
ROOMS = ("models", "facts", "tracing", "circuits", "editing", "reading", "behaviours", "edited", "tables")
"""The packages that other programs may use, in the order in which one learns them."""


def pages(source: Path) -> dict[str, str]:
    """The pages by address; `source` is the folder of the package `knowcirc`."""
    lines = ["# Python library", "", INTRODUCTION, ""]
    found: dict[str, str] = {}
    for room in ROOMS:
        lines += [f"## `knowcirc.{room}`", "", first_line(source / room / "__init__.py"), ""]
        lines += ["| module | what it holds |", "|---|---|"]
        for module in modules(source, room):
            lines.append(f"| [`{module.stem}`]({room}/{module.stem}.md) | {first_line(module)} |")
            found[f"{FOLDER}/{room}/{module.stem}.md"] = page(f"knowcirc.{room}.{module.stem}")
        lines.append("")
    return {f"{FOLDER}/index.md": "\n".join(lines)} | found


EXAMPLE = re.compile(r"^>>> .*(?:\n(?!\s*$).*)*", re.MULTILINE)
INTRODUCTION = (
    "Import from the modules, for example `from knowcirc.tracing.causal import trace_fact`; the packages themselves "
    "export nothing. Shapes in annotations are those of [jaxtyping](https://docs.kidger.site/jaxtyping/): "
    '`Float[Tensor, "batch pos d_model"]` is a tensor of floats with three axes. '
    "The [tutorial](../../tutorial.md#the-same-from-python) shows the main functions at work."
)


def modules(source: Path, room: str) -> list[Path]:
    """The public modules of a package, sorted."""
    return sorted(path for path in (source / room).glob("*.py") if not path.stem.startswith("_"))


def first_line(path: Path) -> str:
    """The first sentence of a module's docstring, as a cell of a table."""
    text = ast.get_docstring(ast.parse(path.read_text("utf-8"))) or ""
    paragraph = " ".join(text.split("\n\n")[0].split())
    return paragraph.replace("|", "\\|")


def page(module: str) -> str:
    """The page of a module, which mkdocstrings fills in."""
    return f"# `{module}`\n\n::: {module}\n"


def navigation(source: Path) -> list[object]:
    """The part of the navigation below the library."""
    return [
        f"{FOLDER}/index.md",
        *(
            {room: [{module.stem: f"{FOLDER}/{room}/{module.stem}.md"} for module in modules(source, room)]}
            for room in ROOMS
        ),
    ]


def fenced(text: str) -> str:
    """A docstring with its examples as blocks, from `>>>` to the next empty line: Markdown would quote them."""
    return EXAMPLE.sub(lambda found: f"```pycon\n{found[0]}\n```", text)
