"""Figure of the methods that find circuits: what a circuit of each size does, one panel per ablation, one line per
method."""

from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, NullLocator

from knowcirc.circuits.methods import METHODS
from knowcirc.plots import style as style_of
from knowcirc.plots.style import (
    BLACK,
    SMALL,
    banded_line,
    decimal_text,
    heading,
    new_figure,
    styled,
)

POOLED = "all"
TICKS = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)


PANELS = {
    "zero": ("all other edges deliver nothing", "the answer is among the {k} likeliest (% of prompts)"),
    "mean": ("all other edges deliver means", "the answer is among the {k} likeliest (% of prompts)"),
    "patch": ("all other edges: another fact's run", "faithfulness (1 = whole model)"),
}


def look(method: str) -> tuple[str, Any, str]:
    """Colour, line and marker of a method."""
    entry = METHODS[method]
    return getattr(style_of, entry.colour), entry.line, entry.marker


@styled
def faithfulness_curves(points: pd.DataFrame, model: str) -> Figure:
    """hit@k alone and faithfulness against circuit size, one line per method: all relations together, then each.

    `points` has one row per ablation (`zero` and `mean`: measure hit_at_K; `patch`: faithfulness), method, relation
    (`all` for all together) and size (share of the edges asked for, 0 to 1; none for the method's own circuit, drawn
    as a marker at its edge_share), with value, low, high, n prompts and n_relations. The mean over relations leaves out
    methods that lack some of them.
    """
    relations = [name for name in points["relation"].unique() if name != POOLED]
    shown = [name for name in PANELS if name in set(points["ablation"])]
    single = len(relations) == 1
    figure = new_figure(max(8.0, 4.2 * len(shown)), 4.6 + (0 if single else 1.75 * len(relations)))
    pooled = points[points["relation"] == POOLED]
    most = int(pooled["n_relations"].max())
    hits = next((name.rpartition("_")[2] for name in points["measure"].unique() if name.startswith("hit_at_")), "")
    parts = [figure]
    if not single:
        parts = list(figure.subfigures(2, 1, squeeze=False, height_ratios=(4.0, 1.75 * len(relations)))[:, 0])
    title = f"mean of {most} relations" if most > 1 else "one relation"
    whole = pooled[pooled["n_relations"] == most]
    for axis, ablation in zip(parts[0].subplots(1, len(shown), squeeze=False)[0], shown, strict=True):
        rows = whole[whole["ablation"] == ablation]
        what, label = PANELS[ablation]
        _panel(axis, rows, f"{what}\n{title} (n = {int(rows['n'].max())} prompts)")
        axis.set_ylabel(label.format(k=hits))
        axis.set_xlabel("circuit size (% of the graph's edges, log)")
    if not single:
        axes = parts[1].subplots(len(relations), len(shown), squeeze=False, sharex=True, sharey="col")
        for row, name in zip(axes, relations, strict=True):
            for axis, ablation in zip(row, shown, strict=True):
                part = points[(points["relation"] == name) & (points["ablation"] == ablation)]
                _panel(axis, part, f"{name} (n = {int(part['n'].max())})", small=True)
        for axis in axes[-1]:
            axis.set_xlabel("size (% of edges)")
    figure.legend(handles=_handles(pooled), loc="outside lower center", ncols=4)
    heading(
        figure,
        f"What circuits of {model} do, by size, method and what all other edges deliver",
        "On D_test. Faithfulness: share of the logit difference to another fact's answer that a circuit keeps. "
        "Markers: each method's own circuit. Bands: 95 % intervals over prompts; of the mean, over relations.",
    )
    return figure


def _panel(axis: Axes, points: pd.DataFrame, title: str, *, small: bool = False) -> None:
    """One panel: each method has a line, a band, and a marker of its own circuit; hit@k is in %."""
    scale = 1.0 if (points["measure"] == "faithfulness").all() else 100.0
    for level in (0.0, scale):
        axis.axhline(level, color=BLACK, linewidth=0.7, zorder=1)
    points = points.assign(**{name: scale * points[name] for name in ("value", "low", "high")})
    points = points.rename(columns={"low": "value_low", "high": "value_high"})
    for method in [name for name in METHODS if name in set(points["method"])]:
        color, style, marker = look(method)
        rows = points[points["method"] == method]
        line = rows[rows["size"].notna()].sort_values("size")
        line = line.assign(percent=100 * line["size"])
        banded_line(axis, line, "percent", "value", alpha=0.12, color=color, linestyle=style, zorder=3)
        own = rows[rows["size"].isna()]
        axis.scatter(
            100 * own["edge_share"].to_numpy(dtype=float),
            own["value"].to_numpy(dtype=float),
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
    for method in METHODS:
        rows = pooled[pooled["method"] == method]
        if rows.empty:
            continue
        relations = int(rows["n_relations"].max())
        label = method if relations == most else f"{method} ({relations} of {most} relations: not in the mean)"
        color, style, marker = look(method)
        line = Line2D([], [], color=color, linestyle=style, marker=marker, markeredgecolor="white", label=label)
        handles.append(line)
    own = Line2D(
        [], [], linestyle="", marker="o", color="#444444", markeredgecolor="white", label="the method's own circuit"
    )
    return [*handles, own]
