"""What a study found as one page in Markdown: the papers' claims, then each item with its caption and its numbers.

It is made from a folder of results alone (or of copied figures, tables and findings, as `results/reference/`), so no
number in it is typed by hand.
"""

from pathlib import Path
from typing import Any

import pandas as pd

from knowcirc.files import read_json, read_table
from knowcirc.items.contract import CHAPTERS, Figure, Item
from knowcirc.items.figures import FIGURES
from knowcirc.items.tables import TABLES
from knowcirc.report.captions import fill_caption, without_numbers
from knowcirc.report.parts import VERDICTS

HEADING = """# What the study finds

Made by `python -m knowcirc.report {folder}` from the figures, tables and findings of one run in
[`{folder}/`]({folder}/); no number here is typed by hand. Brackets are 95 % intervals; layers and heads count from 0.
"""
UNSTATED = "(This run's findings lack a number that the caption states; its table has what there is.)"


def results_page(folder: Path, captions: Path) -> str:
    """The page. `captions` is the folder of the items' captions."""
    manifest = read_json(folder / "manifest.json")
    parts = [HEADING.format(folder=folder.as_posix())]
    for model in manifest["models"]:
        parts += _model(folder, model, manifest, captions)
    for name in manifest["figures_of_all"]:
        text = without_numbers((captions / f"all_{name}.rst").read_text("utf-8"))
        parts.append(f"## All models\n\n![{name}]({folder.as_posix()}/all/figures/{name}.png)\n\n{text}\n")
    return "\n".join(parts)


def _model(folder: Path, model: str, manifest: dict[str, Any], captions: Path) -> list[str]:
    findings = {"model": model, **read_json(folder / model / "findings.json")}
    names = {*manifest["figures"], *manifest["tables"]}
    items = [item for item in (*FIGURES, *TABLES) if item.name in names]
    parts = [f"## {model}\n"]
    for chapter, title in CHAPTERS.items():
        own = [item for item in items if item.chapter == chapter]
        if own:
            parts.append(f"### {title}\n")
        for item in own:
            parts.append(_item(folder, model, item, (captions / f"{item.name}.rst").read_text("utf-8"), findings))
    return parts


def _item(folder: Path, model: str, item: Item, caption: str, findings: dict[str, Any]) -> str:
    kind, end = ("figures", "png") if isinstance(item, Figure) else ("tables", "csv")
    path = folder / model / kind / f"{item.name}.{end}"
    try:
        text = fill_caption(caption, findings)
    except ValueError:
        text = f"{without_numbers(caption)} {UNSTATED}"
    body = f"![{item.summary}]({path.as_posix()})\n\n" if isinstance(item, Figure) else ""
    link = "" if isinstance(item, Figure) else f" [{item.name}.csv]({path.as_posix()})"
    table = _claims(read_table(path)) if item.name == "claims" else ""
    return f"#### {item.name.replace('_', ' ').capitalize()} ({item.paper})\n\n{body}{text.strip()}{link}\n{table}"


def _claims(table: pd.DataFrame) -> str:
    """The claims as a table: statement, place in the paper, number and bound, how much was resampled, verdict."""
    lines = ["", "| statement | paper | this run | holds above | n | verdict |", "|---|---|---|---|---|---|"]
    for row in table.to_dict("records"):
        number = "" if pd.isna(row["value"]) else f"{row['value']:.3g}"
        interval = "" if pd.isna(row["low"]) else f" [{row['low']:.3g}, {row['high']:.3g}]"
        verdict = VERDICTS[row["holds"]]
        lines.append(
            f"| {row['claim']} | {row['section']} | {number}{interval} | {row['bound']:.3g} | {row['n']} | {verdict} |"
        )
    return "\n".join([*lines, ""])
