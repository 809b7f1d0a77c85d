"""Figure of edits through the layers: the new object's rank at the last position, by editor and edited layer."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.typing import LineStyleType

from knowcirc.editing.editors import UNEDITED
from knowcirc.plots.edits import WEIGHTS
from knowcirc.plots.style import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    VERMILION,
    banded_line,
    heading,
    layer_ticks,
    new_figure,
    rank_axis,
    styled,
)

STYLES: tuple[tuple[str, LineStyleType], ...] = (
    *((BLUE, "-"), (VERMILION, "--"), (GREEN, "-."), (ORANGE, ":"), (PURPLE, "-")),
)
POSITIONS = {"last": "at the last position", "subject": "at the subject's last token"}


@styled
def edited_rank_by_layer(ranks: pd.DataFrame, model: str) -> Figure:
    """The new object's rank through the layers (KC D.2): one row per position, one column per editor, one line
    per layer.

    `ranks` has one row per editor (none: the original weights), layer (edited; -1 for none), position (last, subject)
    and passed (layers passed, 0 = embedding): rank_new (geometric mean) with _low and _high, and n records.
    """
    editors = [name for name in dict.fromkeys(ranks["editor"]) if name != UNEDITED]
    layers = sorted(layer for layer in set(ranks["layer"]) if layer >= 0)
    looks = dict(zip(layers, STYLES * (1 + len(layers) // len(STYLES)), strict=False))
    figure = new_figure(4.6 * max(len(editors), 2), 6.6)
    axes = figure.subplots(len(POSITIONS), len(editors), sharex=True, sharey=True, squeeze=False)
    for row, (position, text) in zip(axes, POSITIONS.items(), strict=True):
        for axis, editor in zip(row, editors, strict=True):
            rows = ranks[ranks["position"] == position]
            _line(axis, rows[rows["editor"] == UNEDITED], GREY, "-", "original weights")
            for layer, (color, style) in looks.items():
                part = rows[(rows["editor"] == editor) & (rows["layer"] == layer)]
                _line(axis, part, color, style, f"layer {layer} edited")
                axis.axvline(layer + 1, color=color, linestyle=style, linewidth=0.7, alpha=0.7)
            axis.set_title(f"{WEIGHTS[editor]}, {text}", loc="left")
            axis.grid(axis="y")
    rank_axis(axes[0, 0], float(ranks["rank_new_high"].max()))
    for axis in axes[-1]:
        axis.set_xlabel("layers passed (0 = embedding)")
        axis.set_xticks(layer_ticks(int(ranks["passed"].max()) + 1))
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))
    heading(
        figure,
        f"The new object through the layers of {model}, by editor and edited layer",
        f"n = {int(ranks['n'].max())} edits per line, one at a time; logit lens, geometric means, bands: 95 % "
        "bootstrap intervals. Thin vertical lines: output of the edited layer.",
    )
    return figure


def _line(axis: Axes, rows: pd.DataFrame, color: str, style: LineStyleType, label: str) -> None:
    rows = rows.sort_values("passed")
    banded_line(axis, rows, "passed", "rank_new", alpha=0.1, color=color, linestyle=style, label=label)
