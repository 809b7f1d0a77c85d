"""The explorer's page: template, styles, scripts and data in one HTML file that loads nothing from outside.

Scripts are modules of their own (`*.js` here), which the page's import map holds as data, by the name
`explorer/NAME`. Data stand in a script element as JSON whose `<` is escaped, so that no text can end the element; the
scripts put texts into the page by `textContent` alone.
"""

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

FOLDER = Path(__file__).parent


def build_page(title: str, data: Mapping[str, Any]) -> str:
    """The page's text. `data` holds graph, circuits, left_out, heads, readings, traces, n_traced (`packing.py`)."""
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, loader=jinja2.FileSystemLoader(FOLDER), trim_blocks=True
    )
    return environment.get_template("page.html").render(
        title=title,
        style=Markup((FOLDER / "explorer.css").read_text("utf-8")),  # noqa: S704
        modules=as_json({"imports": {f"explorer/{path.stem}": _address(path) for path in scripts()}}),
        data=as_json({"title": title, **data}),
    )


def scripts() -> list[Path]:
    """The page's JavaScript modules."""
    return sorted(FOLDER.glob("*.js"))


def as_json(value: object) -> Markup:
    r"""JSON that can stand in a script element whatever texts it holds.

    >>> print(as_json({"subject": "</script>"}))
    {"subject":"\u003c/script>"}

    Raises:
        ValueError: for numbers that are not finite.
    """
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return Markup(text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029"))  # noqa: S704 (no tag can begin in it)


def _address(path: Path) -> str:
    return "data:text/javascript;base64," + base64.b64encode(path.read_bytes()).decode("ascii")
