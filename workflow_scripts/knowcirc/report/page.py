"""The study's report as one HTML page that needs nothing outside itself.

It opens with what of the papers holds on the study's models and what does not, then follows the papers: each figure and
table with its caption, in which this run's numbers stand, and its data to download.
"""

from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
import yaml
from markupsafe import Markup

from knowcirc.files import read_json, read_table
from knowcirc.items.contract import CHAPTERS, Figure, Item, Table
from knowcirc.items.figures import FIGURES
from knowcirc.items.tables import TABLES
from knowcirc.provenance import work_behind
from knowcirc.report.captions import render_caption
from knowcirc.report.parts import VERDICTS, claims_of, comparisons_of, data_uri, download, table_of
from knowcirc.told import span

ITEMS: dict[str, Item] = {item.name: item for item in (*FIGURES, *TABLES)}


def build(results: Path, manifest: dict[str, Any], captions: dict[str, str], config: dict[str, object]) -> str:
    """The page's text."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("knowcirc.report", "."), autoescape=True, undefined=jinja2.StrictUndefined
    )
    environment.trim_blocks = environment.lstrip_blocks = True
    return environment.get_template("page.html").render(
        style=_text("page.css"),
        script=_text("page.js"),
        models=[_model(results, model, manifest, captions) for model in manifest["models"]],
        together=[
            _item(results, "all", ITEMS[f"all_{name}"], captions[f"all_{name}"], {})
            for name in manifest["figures_of_all"]
        ],
        settings=yaml.safe_dump(config, sort_keys=False, allow_unicode=True),
        verdicts=VERDICTS,
    )


def _text(name: str) -> Markup:
    """A file beside this one; the project's own, so it is not escaped."""
    return Markup(resources.files("knowcirc.report").joinpath(name).read_text("utf-8"))  # noqa: S704


def _model(results: Path, model: str, manifest: dict[str, Any], captions: dict[str, str]) -> dict[str, object]:
    """A model's part of the page."""
    folder = results / model
    findings = read_json(folder / "findings.json")
    items = [ITEMS[name] for name in (*manifest["figures"], *manifest["tables"])]
    chapters = [
        {
            "name": f"{model}-{chapter}",
            "title": title,
            "items": [
                _item(results, model, item, captions[item.name], {"model": model, **findings})
                for item in items
                if item.chapter == chapter
            ],
        }
        for chapter, title in CHAPTERS.items()
    ]
    read = {name: folder / "tables" / f"{name}.csv" for name in ("claims", "paper_comparison")}
    there = {name: read_table(path) for name, path in read.items() if name in manifest["tables"]}
    return {
        "name": model,
        "origin": read_json(results / "models" / model / "provenance.json"),
        "chapters": [chapter for chapter in chapters if chapter["items"]],
        "claims": claims_of(there["claims"]) if "claims" in there else [],
        "comparisons": comparisons_of(there["paper_comparison"]) if "paper_comparison" in there else [],
    }


def _item(results: Path, folder: str, item: Item, caption: str, values: dict[str, Any]) -> dict[str, object]:
    """A figure or table of a model, or of all."""
    name = item.name.removeprefix("all_") if isinstance(item, Figure) and item.together else item.name
    place = results / folder / ("figures" if isinstance(item, Figure) else "tables")
    data = [path for end in ("csv", "json") if (path := place / f"{name}.{end}").is_file()]
    jobs, seconds = work_behind(place / f"{name}{'.png' if isinstance(item, Figure) else '.csv'}")
    return {
        "work": f"{jobs} jobs, {span(seconds)} of a core" if jobs else "",
        "anchor": f"{folder}-{name}",
        "title": name.replace("_", " ").capitalize(),
        "paper": item.paper,
        "summary": item.summary,
        "image": data_uri(place / f"{name}.png") if isinstance(item, Figure) else "",
        "table": table_of(place / f"{name}.csv", item) if isinstance(item, Table) else None,
        "caption": render_caption(caption, values),
        "downloads": [download(path, results) for path in data],
    }
