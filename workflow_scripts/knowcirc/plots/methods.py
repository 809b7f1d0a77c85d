"""Figure of the methods that find circuits: how faithful a circuit of each size is, a line a method."""

import math
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, NullLocator
from matplotlib.typing import LineStyleType

from knowcirc.plots.style import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    SKY,
    SMALL,
    VERMILION,
    banded_line,
    decimal_text,
    heading,
    new_figure,
    styled,
)

METHODS: dict[str, tuple[str, LineStyleType, str]] = {
    "eap": (ORANGE, "--", "s"),
    "eap-ig": (BLUE, "-", "o"),
    "eap-ig-zero": (SKY, (0, (3, 1)), "v"),
    "eap-ig+acdc": (VERMILION, "-.", "D"),
    "acdc": (GREEN, (0, (5, 1, 1, 1, 1, 1)), "^"),
    "random": (GREY, ":", "X"),
}
POOLED = "all"
TICKS = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)


@styled
def faithfulness_curves(points: pd.DataFrame, model: str) -> Figure:
    """Faithfulness against circuit size, a line a method: all relations together, then a small panel for each.

    `points` has a row a method, relation (`all` for all together) and size (share of the edges asked for, 0 to 1; none
    for the method's own circuit, drawn as a marker at its edge_share), with faithfulness, faithfulness_low,
    faithfulness_high, n prompts and n_relations. The mean over relations leaves out methods that lack some of them.
    """
    relations = [name for name in points["relation"].unique() if name != POOLED]
    columns = 1 if len(relations) == 1 else 2 if len(relations) <= 6 else 3
    rows = math.ceil(len(relations) / columns)
    figure = new_figure(5.2 + 2.5 * columns, max(4.6, 1.4 + 1.85 * rows))
    left, right = figure.subfigures(1, 2, squeeze=False, width_ratios=(4.6, 2.5 * columns))[0]
    main = left.subplots()
    pooled = points[points["relation"] == POOLED]
    most = int(pooled["n_relations"].max())
    whole = pooled[pooled["n_relations"] == most]
    title = f"mean of {most} relations, each weighed alike" if most > 1 else "one relation"
    _panel(main, whole, f"{title} (n = {int(whole['n'].max())} prompts)")
    main.set_xlabel("circuit size (% of the graph's edges, log)")
    main.set_ylabel("faithfulness (1 = whole model, 0 = partner's run)")
    axes = right.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    for axis, name in zip(axes.flat, relations, strict=False):
        part = points[points["relation"] == name]
        _panel(axis, part, f"{name} (n = {int(part['n'].max())} prompts)", small=True)
    for axis in axes.flat[len(relations) :]:
        axis.set_visible(False)
    for column in range(columns):
        lowest = max(row for row in range(rows) if axes[row, column].get_visible())
        axes[lowest, column].tick_params(labelbottom=True)
        axes[lowest, column].set_xlabel("size (% of edges)")
    figure.legend(handles=_handles(pooled), loc="outside lower center", ncols=6)
    heading(
        figure,
        f"How faithful circuits of {model} are, by size and method",
        "Faithfulness: share of the logit difference to another fact's answer that a circuit keeps on D_test when all "
        "other edges deliver that fact's run (patching). Bands: 95 % bootstrap intervals over prompts; of the mean, "
        "over relations.",
    )
    return figure


def _panel(axis: Axes, points: pd.DataFrame, title: str, *, small: bool = False) -> None:
    """One panel: a line and band a method, its own circuit as a marker, lines at 0 (empty) and 1 (whole model)."""
    for level in (0.0, 1.0):
        axis.axhline(level, color=BLACK, linewidth=0.7, zorder=1)
    for method in [name for name in METHODS if name in set(points["method"])]:
        color, style, marker = METHODS[method]
        rows = points[points["method"] == method]
        line = rows[rows["size"].notna()].sort_values("size")
        line = line.assign(percent=100 * line["size"])
        banded_line(axis, line, "percent", "faithfulness", alpha=0.16, color=color, linestyle=style, zorder=3)
        own = rows[rows["size"].isna()]
        axis.scatter(
            100 * own["edge_share"].to_numpy(dtype=float),
            own["faithfulness"].to_numpy(dtype=float),
            s=22 if small else 48,
            marker=marker,
            facecolor=color,
            edgecolor="white",
            linewidth=0.7,
            zorder=4,
        )
    axis.set_xscale("log")
    axis.set_xticks([tick for tick in TICKS if not small or tick in (0.1, 1.0, 10.0, 100.0)])
    axis.xaxis.set_major_formatter(FuncFormatter(decimal_text))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.grid(axis="y")
    axis.set_title(title, loc="left", size=SMALL + 1 if small else None)


def _handles(pooled: pd.DataFrame) -> list[Line2D]:
    """Legend of the methods that were run, each with its line and the marker of its own circuit."""
    most = int(pooled["n_relations"].max())
    handles = []
    for method, (color, style, marker) in METHODS.items():
        rows = pooled[pooled["method"] == method]
        if rows.empty:
            continue
        relations = int(rows["n_relations"].max())
        label = method if relations == most else f"{method} ({relations} of {most} relations: not in the mean)"
        look: dict[str, Any] = {"color": color, "linestyle": style, "marker": marker, "markeredgecolor": "white"}
        handles.append(Line2D([], [], **look, label=label))
    own = Line2D(
        [], [], linestyle="", marker="o", color="#444444", markeredgecolor="white", label="the method's own circuit"
    )
    return [*handles, own]
