"""Figure of edits one after the other on one model: what takes and stays, perplexity, and how far weights move."""

from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from knowcirc.editing.editors import EDITORS, UNEDITED
from knowcirc.plots.style import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    SKY,
    VERMILION,
    banded_line,
    decimal_text,
    heading,
    new_figure,
    styled,
)

PANELS = {
    "made": ("right after each edit", "edits that took (%)"),
    "ES": ("efficacy of all edits so far", "edits in force (%)"),
    "PS": ("generalization", "paraphrases with the new object (%)"),
    "NS": ("specificity", "neighbours with the true object (%)"),
    "perplexity": ("text that no edit has seen", "perplexity (log)"),
    "change": ("edited matrices", "norm of the change / norm (log)"),
}
LOGARITHMIC = ("perplexity", "change")
NARROW = 5.0  # a logarithmic axis whose ends are less than so many times apart names all marks between powers of ten
OF_EDITS = ("made", "change")  # the unedited model has none
COLOURS = (VERMILION, BLUE, GREEN, ORANGE, PURPLE, SKY)
LINES: tuple[tuple[str, str], ...] = (("-", "o"), ("--", "s"), (":", "^"), ("-.", "D"))


def looks(editors: list[str]) -> dict[str, dict[str, Any]]:
    """Colour, line and marker of each editor: grey for the unedited model; no two are alike."""
    kinds = [(colour, *line) for line in LINES for colour in COLOURS]
    named = [name for name in EDITORS if name in editors]
    found = {
        name: {"color": colour, "linestyle": line, "marker": marker, "markersize": 4}
        for name, (colour, line, marker) in zip(named, kinds, strict=False)
    }
    return {UNEDITED: {"color": GREY, "linestyle": "-", "marker": "", "linewidth": 2.2}} | found


@styled
def sequential_editing(edits: pd.DataFrame, model: str) -> Figure:
    """A panel for each measure over the number of edits, one line per editor.

    `edits` has one row per editor (none: the unedited model, judged on the same records) and number of edits, with
    made, ES, PS, NS (each with _low and _high, 0 to 1), perplexity, change (relative norm) and n.
    """
    editors = list(dict.fromkeys(edits["editor"]))
    styles = looks(editors)
    figure = new_figure(11.0, 6.6)
    for axis, (name, (title, label)) in zip(figure.subplots(2, 3).flat, PANELS.items(), strict=True):
        for editor, look in styles.items():
            rows = edits[edits["editor"] == editor].sort_values("edits")
            if len(rows) and not (editor == UNEDITED and name in OF_EDITS):
                _line(axis, rows, name, look)
        axis.set_title(title, loc="left")
        axis.set_ylabel(label)
        axis.set_xlabel("edits made, one after the other (log)")
        _edits_axis(axis, sorted(map(float, set(edits["edits"]))))
        axis.grid(axis="y")
    labels = {UNEDITED: "unedited", **{name: editor.label for name, editor in EDITORS.items()}}
    handles = [Line2D([], [], **look, label=labels[name]) for name, look in styles.items() if name in editors]
    figure.legend(handles=handles, loc="outside lower center", ncols=min(8, len(handles)))
    heading(
        figure,
        f"Edits one after the other: {model}",
        f"Up to {int(edits['edits'].max())} counterfactual edits of known facts on one model, each made on the weights "
        "that those before it left. Means over the edits so far, bands: 95 % bootstrap intervals.",
    )
    return figure


def _line(axis: Axes, rows: pd.DataFrame, name: str, look: dict[str, Any]) -> None:
    if name in LOGARITHMIC:
        axis.plot(rows["edits"], rows[name], **look)
        axis.set_yscale("log")
        axis.yaxis.set_major_formatter(FuncFormatter(decimal_text))
        low, high = axis.get_ylim()
        axis.yaxis.set_minor_formatter(FuncFormatter(decimal_text if high < NARROW * low else _some_decimals))
    else:
        banded_line(axis, rows, "edits", name, factor=100.0, alpha=0.08, **look)
        axis.set_ylim(-3, 103)


def _some_decimals(value: float, _position: int | None = None) -> str:
    """A tick label of 2 and 5 times powers of ten; nothing of what lies between."""
    return f"{value:g}" if f"{value:e}"[0] in "25" else ""


def _edits_axis(axis: Axes, numbers: list[float]) -> None:
    axis.set_xscale("log")
    axis.set_xlim(0.85 * numbers[0], numbers[-1] / 0.85)
    axis.xaxis.set_major_locator(FixedLocator(numbers))
    axis.xaxis.set_major_formatter(FuncFormatter(decimal_text))
    axis.xaxis.set_minor_locator(NullLocator())
