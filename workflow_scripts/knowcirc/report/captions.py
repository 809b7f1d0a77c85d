"""Captions with a run's numbers. They are reStructuredText with Jinja placeholders, filled from `findings.json`.

`run` is defined in them, so that what states numbers of the run can be left out where there are none: Snakemake's own
report renders the same files.
"""

import io
import re
from typing import Any

import jinja2
from docutils.core import publish_parts
from docutils.utils import SystemMessage
from markupsafe import Markup

MARKUP = re.compile(r"([*`_|\\<>])")
SETTINGS = {"report_level": 2, "halt_level": 2, "raw_enabled": False, "file_insertion_enabled": False}


def fill_caption(text: str, values: dict[str, Any]) -> str:
    """A caption with its placeholders filled. In it `pct` writes a share, `pp` a difference of two.

    Raises:
        ValueError: if a placeholder names a value that the findings lack.
    """
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, finalize=_plain)  # noqa: S701 (makes no HTML)
    try:
        return environment.from_string(text).render({"run": True, "pct": _percent, "pp": _points, **values})
    except jinja2.UndefinedError as error:
        raise ValueError(f"caption names a value that the findings do not hold: {error}") from None


def without_numbers(text: str) -> str:
    """A caption without what states numbers of a run."""
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined)  # noqa: S701 (makes no HTML)
    return environment.from_string(text).render()


def render_caption(text: str, values: dict[str, Any]) -> Markup:
    """A caption as HTML: placeholders filled, reStructuredText set.

    Raises:
        ValueError: as `fill_caption` does, or if the text is no valid markup.
    """
    filled = fill_caption(text, values)
    try:
        parts = publish_parts(filled, writer="html5", settings_overrides={**SETTINGS, "warning_stream": io.StringIO()})
    except SystemMessage as error:
        raise ValueError(f"caption is no valid reStructuredText: {error}") from None
    return Markup(parts["body"])  # noqa: S704 (docutils has escaped what was text)


def _percent(share: Any) -> str:
    return f"{100 * share:.1f} %"


def _points(difference: Any) -> str:
    return f"{100 * difference:.1f} pp"


def _plain(value: object) -> object:
    """A value as text that reStructuredText takes as it is."""
    return MARKUP.sub(r"\\\1", value) if isinstance(value, str) else value
