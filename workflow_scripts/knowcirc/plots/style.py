"""How every figure looks and is saved: fonts, colours, labels of tokens, titles, files.

Figures are plain `matplotlib.figure.Figure` objects; nothing touches pyplot or its global state. Colours are those of
Okabe and Ito, which readers with colour-blindness can tell apart; heatmaps use maps whose lightness is monotonic.
"""

import re
import textwrap
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure, SubFigure
from matplotlib.font_manager import findfont
from matplotlib.ft2font import FT2Font
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.text import Annotation
from matplotlib.ticker import FuncFormatter
from matplotlib.typing import RcKeyType

from knowcirc.files import atomic

Plain = Mapping[str, Any]
"""A dictionary as JSON gives it."""

BLACK, GREY = "#000000", "#8a8a8a"
ORANGE, SKY, GREEN, YELLOW = "#E69F00", "#56B4E9", "#009E73", "#F0E442"
BLUE, VERMILION, PURPLE = "#0072B2", "#D55E00", "#CC79A7"
SMALL, NORMAL, LARGE = 7.0, 8.5, 12.0
LINES = 2  # of text beneath the title of a figure; the report says the rest
FONT = "DejaVu Sans"
DPI = 160

RC: dict[RcKeyType, Any] = {
    "font.family": FONT,
    "font.size": NORMAL,
    "axes.titlesize": NORMAL + 0.5,
    "axes.titleweight": "normal",
    "axes.labelsize": NORMAL,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.7,
    "xtick.labelsize": SMALL + 0.5,
    "ytick.labelsize": SMALL + 0.5,
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "legend.fontsize": SMALL + 0.5,
    "legend.frameon": False,
    "lines.linewidth": 1.5,
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.6,
    "figure.facecolor": "white",
    "text.parse_math": False,
    "pdf.fonttype": 42,
}

styled = rc_context(RC)
"""Decorator of the functions that make figures: they run under `RC`, whatever the caller has set."""


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of `width` x `height` inches that lays itself out, with the Agg canvas."""
    figure = Figure(figsize=(width, height), layout=ConstrainedLayoutEngine(w_pad=0.09, h_pad=0.06))
    FigureCanvasAgg(figure)
    return figure


def save(figure: Figure, png_path: Path | str, pdf_path: Path | str) -> None:
    """Write a figure as PNG (160 dpi) and as PDF.

    Files are whole or absent, and carry no date or version: the same data give the same files.
    """
    save_one(figure, png_path)
    save_one(figure, pdf_path)


def save_one(figure: Figure, path: Path | str) -> None:
    """Write a figure as PNG (160 dpi) or as PDF, by the path's ending, as `save` does.

    Raises:
        ValueError: for another ending.
    """
    settings: dict[str, Any]
    if Path(path).suffix == ".png":
        settings = {"format": "png", "dpi": DPI, "metadata": {"Software": None}}
    elif Path(path).suffix == ".pdf":
        settings = {"format": "pdf", "metadata": {"CreationDate": None, "Creator": None, "Producer": None}}
    else:
        raise ValueError(f"figure {path}: the name of a figure ends in .png or .pdf")
    with rc_context(RC), atomic(path) as part:
        figure.savefig(part, **settings)


def heading(figure: Figure | SubFigure, head: str, *lines: str, size: float = LARGE) -> None:
    """Give a figure its title: `head` in bold at the top left, and a plain text of at most `LINES` lines beneath it.

    Texts are broken to the figure's width; what does not fit ends in an ellipsis. All go through `readable`.
    """
    width = figure.bbox.width / figure.figure.dpi
    most = max(30, int(width * 72 / (NORMAL * 0.54)))
    head = textwrap.fill(readable(head), max(24, int(width * 72 / (size * 0.62))))
    text = _unbroken(readable(" ".join(lines)))
    body = textwrap.wrap(text, most, max_lines=LINES, placeholder=" …")
    blank = "\n" * -(-round(len(body) * NORMAL * 1.35) // round(size * 1.2)) if body else ""
    title = figure.suptitle(head + blank, x=0.008, ha="left", size=size, weight="bold", linespacing=1.2)
    if body:
        below = Annotation(
            "\n".join(body),
            xy=(0, 0),
            xycoords=title,
            ha="left",
            va="bottom",
            size=NORMAL,
            color="#333333",
            linespacing=1.25,
            annotation_clip=False,
        )
        below.set_in_layout(False)
        figure.add_artist(below)


def _unbroken(text: str) -> str:
    """`text` with hard spaces in "n = 3 facts" and "5 %", where no line may break."""
    text = re.sub(r"(n|tau) = (\d+) (\w)", "\\1 = \\2\u00a0\\3", text)
    return text.replace(" = ", "\u00a0=\u00a0").replace(" %", "\u00a0%").replace(" pp", "\u00a0pp")


@cache
def _glyphs() -> frozenset[int]:
    return frozenset(FT2Font(findfont(FONT)).get_charmap())


def readable(text: str) -> str:
    r"""`text` with line breaks and characters that the font lacks as escapes.

    >>> readable("a\nb")
    'a\\nb'
    >>> readable("\u4e2d")
    '\\u4e2d'
    """
    return "".join(
        c if c.isprintable() and ord(c) in _glyphs() else c.encode("unicode_escape").decode("ascii") for c in text
    )


def token_label(token: str, width: int = 14) -> str:
    """A decoded token as it can stand on an axis: spaces at its ends as `␣`, long ones cut to `width` characters.

    >>> token_label(" France")
    '␣France'
    """
    mark = "␣" if ord("␣") in _glyphs() else ""
    inner = token.strip(" ")
    front = len(token) - len(token.lstrip(" "))
    back = len(token) - len(inner) - front
    return shorten(mark * front + readable(inner) + mark * back, width)


def shorten(text: str, width: int) -> str:
    """`text`, or its beginning and an ellipsis where it is longer than `width` characters."""
    return text if len(text) <= width else text[: width - 1] + "…"


def banded_line(
    axis: Axes, rows: pd.DataFrame, x: str, y: str, *, factor: float = 1.0, alpha: float = 0.12, **look: Any
) -> None:
    """Draw column `y` of a table over column `x`, and its interval, columns `y`_low and `y`_high, as a band.

    Values are multiplied by `factor`; `alpha` is the band's, 0 for none; `look` is that of the line, with its color.
    """
    at, *values = (rows[name].to_numpy(dtype=float) for name in (x, y, f"{y}_low", f"{y}_high"))
    middle, low, high = (factor * value for value in values)
    axis.plot(at, middle, **look)
    if alpha:
        axis.fill_between(at, low, high, color=look["color"], alpha=alpha, linewidth=0)


def percent(p: float) -> str:
    """A probability or share as a text in percent.

    >>> percent(0.1234), percent(0.0001), percent(1.0)
    ('12.3 %', '<0.1 %', '100 %')
    """
    if not np.isfinite(p):
        return "–"
    if 0 < p < 0.0005:
        return "<0.1 %"
    return "100 %" if p > 0.9995 else f"{100 * p:.1f} %"


def rank_axis(axis: Axes, worst: float) -> None:
    """Make the y axis a logarithmic one of ranks, 1 on top, down to `worst`."""
    axis.set_yscale("log")
    axis.set_ylim(max(10.0, worst) * 1.4, 0.75)
    axis.yaxis.set_major_formatter(FuncFormatter(_rank_text))
    axis.yaxis.set_minor_formatter(FuncFormatter(_nothing))
    axis.set_ylabel("rank in the vocabulary (log, 1 = top)")


def _rank_text(value: float, _position: int | None = None) -> str:
    return f"{value:,.0f}" if value >= 1 else ""


def _nothing(_value: float, _position: int | None = None) -> str:
    return ""


def decimal_text(value: float, _position: int | None = None) -> str:
    """A tick label without mathematical markup, for logarithmic axes of probabilities in percent."""
    return f"{value:g}"


def layer_ticks(n_layers: int, most: int = 7) -> list[int]:
    """At most about `most` evenly spaced layers, counted from 0.

    >>> layer_ticks(30)
    [0, 5, 10, 15, 20, 25]
    """
    step = next(step for step in (1, 2, 4, 5, 10, 20, 50, 1000) if n_layers / step <= most)
    return list(range(0, n_layers, step))
