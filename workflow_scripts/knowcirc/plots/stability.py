"""Figure of circuits found again: how many of their edges are in how many of them."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from knowcirc.circuits.methods import METHODS
from knowcirc.plots.methods import look
from knowcirc.plots.style import GREY, heading, new_figure, styled

PANELS = {"resampled": "prompts drawn anew", "reworded": "other wordings"}
BOTH = ("found", "random")


@styled
def edge_frequencies(curves: pd.DataFrame, model: str) -> Figure:
    """Edges that are in at least a share of the circuits, over the edges of one circuit: a panel per group of runs.

    `curves` has one row per relation, method, runs (resampled, reworded) and number of circuits `at_least`, with
    share (of the circuits, 0 to 1), n_runs, found and random (edges in so many, over a circuit's; the latter of random
    circuits). Thin lines are relations, thick ones their means.
    """
    shown = [name for name in PANELS if (curves["runs"] == name).any()]
    figure = new_figure(max(7.0, 4.6 * len(shown)), 4.4)
    for axis, name in zip(figure.subplots(1, len(shown), squeeze=False, sharey=True)[0], shown, strict=True):
        _panel(axis, curves[curves["runs"] == name], PANELS[name])
    methods = [name for name in METHODS if (curves["method"] == name).any()]
    handles = [Line2D([], [], color=look(name)[0], linestyle=look(name)[1], label=name) for name in methods]
    handles.append(Line2D([], [], color=GREY, linestyle=":", label="random circuits of the same sizes (expected)"))
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))
    heading(
        figure,
        f"How much of a circuit of {model} is found again",
        "A line that stays at 100 % to the right end: always the same edges. Edges in few of the circuits lift its "
        "left end. Thin lines: relations; thick ones: their mean.",
    )
    return figure


def _panel(axis: Axes, curves: pd.DataFrame, title: str) -> None:
    relations = sorted(curves["relation"].unique())
    at = np.unique(curves["share"])
    for method in [name for name in METHODS if (curves["method"] == name).any()]:
        color, style, _ = look(method)
        lines = []
        for relation in relations:
            rows = curves[(curves["method"] == method) & (curves["relation"] == relation)].sort_values("share")
            if rows.empty:
                continue
            lines.append([_steps(rows, name, at) for name in BOTH])
            axis.plot(100 * rows["share"], 100 * rows["found"], color=color, linewidth=0.6, alpha=0.6)
        found, random = np.mean(lines, 0)
        axis.plot(100 * at, 100 * found, color=color, linestyle=style, marker="o", markersize=3)
        axis.plot(100 * at, 100 * random, color=GREY, linestyle=":")
    axis.axhline(100, color="#444444", linewidth=0.6)
    most = sorted({int(n) for n in curves["n_runs"]})
    counts = str(most[0]) if len(most) == 1 else f"{most[0]} to {most[-1]}"
    names = f"{len(relations)} relation{'s' if len(relations) != 1 else ''}"
    axis.set_title(f"{title}: {counts} circuits of each of {names}", loc="left")
    axis.set_xlabel("in at least this share of the circuits (%)")
    axis.set_ylabel("edges, % of those of one circuit")
    axis.set_ylim(bottom=0)
    axis.grid(axis="y")


def _steps(rows: pd.DataFrame, name: str, at: np.ndarray) -> np.ndarray:
    """A curve at other shares: edges in at least a share are those in the next larger number of circuits."""
    place = np.searchsorted(rows["share"].to_numpy() + 1e-9, at)
    return np.asarray(rows[name].to_numpy(dtype=float)[place])
