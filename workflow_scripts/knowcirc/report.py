"""The study's report as one self-contained HTML page: figures inlined, tables set, captions with this run's numbers.

Captions are reStructuredText with Jinja placeholders, filled from the model's `findings.json`; the same files serve
Snakemake's own report.
"""

import base64
import html
import io
import re
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
import yaml
from docutils.core import publish_parts
from docutils.utils import SystemMessage

from knowcirc.files import read_json, read_table

STYLE = """
body{font:16px/1.5 system-ui,sans-serif;color:#1a1a1a;margin:0 auto;max-width:1180px;padding:0 1.5rem 4rem}
h1{font-size:1.7rem;margin:2rem 0 .3rem}h2{font-size:1.3rem;margin:2.6rem 0 .4rem;border-bottom:1px solid #ccc}
h3{font-size:1.05rem;margin:2rem 0 .4rem}nav{display:flex;flex-wrap:wrap;gap:.2rem 1rem}a{color:#0b5394}
figure{margin:1rem 0 2rem}img{max-width:100%;height:auto;display:block}figcaption{max-width:56rem}
.wide{overflow-x:auto;max-height:34rem;overflow-y:auto;border:1px solid #ddd}
table{border-collapse:collapse;font-size:.82rem;font-variant-numeric:tabular-nums}
th,td{padding:.25rem .6rem;text-align:right;border-bottom:1px solid #eee;vertical-align:top}
th{position:sticky;top:0;background:#f4f4f4}td.text,th.text{text-align:left}td.long{min-width:24rem;text-align:left}
.interval{color:#666;font-size:.92em;white-space:nowrap}pre{background:#f6f6f6;padding:1rem;overflow-x:auto}
.meta{color:#555}
"""
PAGE = """<!doctype html><html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width,initial-scale=1"><title>Knowledge circuits: report</title>
<style>{{ style }}</style></head><body>
<h1>Knowledge circuits and the editing of facts</h1>
<p class="meta">Knowledge Circuits in Pretrained Transformers (Yao et al., NeurIPS 2024) and ROME (Meng et al., NeurIPS
2022), run on {{ models | join(", ") }}. Every number was computed by the run that made this page; brackets are 95 %
intervals. Layers and heads count from 0.</p>
{% for model in sections %}
<h2>{{ model.name }}</h2>
<p class="meta">{{ model.origin }}</p>
<nav>{% for item in model["items"] %}<a href="#{{ item.anchor }}">{{ item.title }}</a>{% endfor %}</nav>
{% for item in model["items"] %}
<h3 id="{{ item.anchor }}">{{ item.title }}</h3>
<figure>{{ item.body }}<figcaption>{{ item.caption }}</figcaption></figure>
{% endfor %}{% endfor %}
<h2>All models</h2>
{% for item in together %}
<h3 id="{{ item.anchor }}">{{ item.title }}</h3>
<figure>{{ item.body }}<figcaption>{{ item.caption }}</figcaption></figure>
{% endfor %}
<h2 id="settings">Settings</h2><pre>{{ settings }}</pre>
</body></html>
"""
LONG = 60
MARKUP = re.compile(r"([*`_|\\<>])")


def build(results: Path, manifest: dict[str, Any], captions: dict[str, str], config: dict[str, object]) -> str:
    """The page's text."""
    sections = [_section(results, model, manifest, captions) for model in manifest["models"]]
    page = jinja2.Environment(autoescape=False).from_string(PAGE)
    settings = html.escape(yaml.safe_dump(config, sort_keys=False, allow_unicode=True))
    together = [
        {
            "anchor": f"all-{name}",
            "title": _title(name),
            "body": _figure(results / "all/figures" / f"{name}.png"),
            "caption": render_caption(captions[f"all_{name}"], {}),
        }
        for name in manifest["figures_of_all"]
    ]
    return page.render(style=STYLE, models=manifest["models"], sections=sections, together=together, settings=settings)


def _title(name: str) -> str:
    return name.replace("_", " ").capitalize()


def _section(results: Path, model: str, manifest: dict[str, Any], captions: dict[str, str]) -> dict[str, object]:
    folder = results / model
    findings = read_json(folder / "findings.json")
    origin = read_json(results / "models" / model / "provenance.json")
    items = []
    for kind, names in (("figures", manifest["figures"]), ("tables", manifest["tables"])):
        for name in names:
            body = (
                _figure(folder / kind / f"{name}.png") if kind == "figures" else _table(folder / kind / f"{name}.csv")
            )
            items.append(
                {
                    "anchor": f"{model}-{name}",
                    "title": _title(name),
                    "body": body,
                    "caption": render_caption(captions[name], {"model": model, **findings}),
                }
            )
    source = f"From {origin['location']} ({origin['source']}), licence {origin['licence']}"
    source += f", weights sha256 {origin['weights_sha256']}"
    return {"name": model, "origin": html.escape(source), "items": items}


def _percent(share: float | int) -> str:
    return f"{100 * share:.1f} %"


def _percentage_points(difference: float | int) -> str:
    return f"{100 * difference:.1f} pp"


def render_caption(text: str, values: dict[str, Any]) -> str:
    """A caption as HTML: placeholders filled, reStructuredText set. `pct` writes a share, `pp` a difference of two.

    `run` is defined in it, so that what states numbers of the run can be left out where there are none: Snakemake's own
    report renders the same captions.

    Raises:
        ValueError: if a placeholder names a value that the findings lack, or the text is no valid markup.
    """
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, autoescape=False, finalize=_plain)
    try:
        filled = environment.from_string(text).render(
            {"run": True, "pct": _percent, "pp": _percentage_points, **values}
        )
    except jinja2.UndefinedError as error:
        raise ValueError(f"caption names a value that the findings do not hold: {error}") from None
    settings = {
        "report_level": 2,
        "halt_level": 2,
        "raw_enabled": False,
        "file_insertion_enabled": False,
        "warning_stream": io.StringIO(),
    }
    try:
        return str(publish_parts(filled, writer="html5", settings_overrides=settings)["body"])
    except SystemMessage as error:
        raise ValueError(f"caption is no valid reStructuredText: {error}") from None


def _plain(value: object) -> object:
    """A value as text that reStructuredText takes as it is."""
    return MARKUP.sub(r"\\\1", value) if isinstance(value, str) else value


def _figure(path: Path) -> str:
    data = base64.b64encode(path.read_bytes()).decode()
    return f'<img alt="{html.escape(path.stem)}" src="data:image/png;base64,{data}">'


def _table(path: Path) -> str:
    frame = read_table(path).drop(columns=["model"], errors="ignore")
    shown = [name for name in frame if not str(name).endswith(("_low", "_high"))]
    head = "".join(f'<th class="{_kind(frame[name])}">{html.escape(str(name))}</th>' for name in shown)
    rows = []
    for _, row in frame.iterrows():
        rows.append("<tr>" + "".join(_cell(frame, row, str(name)) for name in shown) + "</tr>")
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'


def _kind(column: pd.Series) -> str:
    return "number" if pd.api.types.is_numeric_dtype(column) else "text"


def _cell(frame: pd.DataFrame, row: pd.Series, name: str) -> str:
    value = row[name]
    if pd.isna(value):
        return "<td></td>"
    if _kind(frame[name]) == "text":
        text = html.escape(str(value))
        return f'<td class="{"long" if len(text) > LONG else "text"}">{text}</td>'
    text = f"{value:.0f}" if float(value).is_integer() and name.startswith(("n", "layer", "sample")) else f"{value:.3f}"
    if f"{name}_low" in frame and pd.notna(row[f"{name}_low"]):
        text += f' <span class="interval">[{row[f"{name}_low"]:.3f}, {row[f"{name}_high"]:.3f}]</span>'
    return f"<td>{text}</td>"
