"""Pages of the figures and tables of a study, with captions and columns, from the registry `knowcirc.items`."""

import math
import re
from pathlib import Path

import jinja2

from knowcirc.items.contract import Column, Figure, Item, Table
from knowcirc.items.figures import FIGURES
from knowcirc.items.tables import TABLES

FOLDER = "reference/results"


def pages(captions: Path, pictures: dict[str, str]) -> dict[str, str]:
    """The pages by address; `captions` is the folder of captions, `pictures` has addresses of figures by name."""
    return {
        f"{FOLDER}/figures.md": figures_page(captions, pictures),
        f"{FOLDER}/tables.md": tables_page(captions),
    }


def figures_page(captions: Path, pictures: dict[str, str]) -> str:
    """What each figure shows, what it is made from, and how it looked in the reference run."""
    lines = [
        "# Figures",
        "",
        "Every figure is written as PNG and PDF to `results/{model}/figures/`, with its data beside it as CSV or JSON. "
        "Pictures are those of the reference run (`results/reference/`): the default study of SmolLM2-135M-Instruct.",
        "",
    ]
    for figure in FIGURES:
        name = figure.name
        lines += [f"## `{name}`", "", *about(figure, captions / f"{name}.rst")]
        if name in pictures:
            lines += [f"![{name}]({pictures[name]}){{ loading=lazy }}", ""]
    return "\n".join(lines)


def tables_page(captions: Path) -> str:
    """What each table says, and what every column of it means."""
    lines = [
        "# Tables",
        "",
        "Every table is written to `results/{model}/tables/` as CSV, with full precision, and as LaTeX. Shares and "
        "probabilities are numbers from 0 to 1. A column with an interval has two columns beside it: `_low` and "
        "`_high`, the bounds of its 95 % interval. `n` counts what the row is a mean over. `knowcirc check` refuses "
        "a table with a column that is not listed here, or with a value outside its range.",
        "",
    ]
    for table in TABLES:
        lines += [f"## `{table.name}`", "", *about(table, captions / f"{table.name}.rst")]
        if table.one_row_for:
            lines += [f"One row for each {', '.join(f'`{name}`' for name in table.one_row_for)}.", ""]
        lines += ["| column | meaning | values |", "|---|---|---|"]
        lines += [*(row(column) for column in columns_of(table)), ""]
    return "\n".join(lines)


def about(item: Item, caption: Path) -> list[str]:
    """An item's source in the papers, its caption, and where its code and data are."""
    said = [f"{item.summary[0].upper()}{item.summary[1:]}. Reproduces: {item.paper}."]
    if caption.is_file():
        said = [caption_text(caption.read_text("utf-8"))]
    if item.where:
        said += ["", f"Only in a study where `{item.where.replace('/', '.')}` is set."]
    module, name = item.function.split(":")
    read = ", ".join(f"`{path}`" for path in dict.fromkeys(item.inputs.values()))
    kind = "Drawn" if isinstance(item, Figure) else "Made"
    return [*said, "", f"{kind} by `knowcirc.{module}.{name}`" + (f" from {read}." if read else "."), ""]


def caption_text(text: str) -> str:
    """A caption without the numbers of a run, as Markdown.

    >>> caption_text("**ROME Fig. 2.** {% if run is defined %}{{ pct(x) }}{% else %}Effects.{% endif %} hit\\\\@10")
    '**ROME Fig. 2.** Effects. hit@10'
    """
    plain = jinja2.Environment(undefined=jinja2.StrictUndefined, autoescape=False).from_string(text).render()
    return re.sub(r"\\(.)", r"\1", plain).strip()


def columns_of(table: Table) -> list[Column]:
    """A table's columns, each once."""
    return list(dict.fromkeys(table.columns))


def row(column: Column) -> str:
    """A column as a row."""
    names = f"`{column.name}`" + (" (with interval)" if column.interval else "")
    meaning = column.meaning.replace("|", "\\|") + (" (may be empty)" if column.empty else "")
    values = ", ".join(filter(None, (column.unit or "text", limits(column))))
    return f"| {names} | {meaning} | {values} |"


def limits(column: Column) -> str:
    """The range of a column's values in words; nothing where there is none."""
    low, high = (f"{bound:g}" if math.isfinite(bound) else "" for bound in (column.low, column.high))
    if low and high:
        return f"{low} to {high}"
    return f"from {low}" if low else f"to {high}" if high else ""
