"""Figure of `knowcirc compare`: nodes and edges of two circuits that are shared, lost and new, layer by layer."""

import re

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from knowcirc.plots.edits import PARTS
from knowcirc.plots.style import GREY, heading, layer_ticks, new_figure, styled

LAYER = re.compile(r"^[am](\d+)")


@styled
def circuit_differences(differences: pd.DataFrame, n_layers: int, names: tuple[str, str]) -> Figure:
    """Shared, lost and new nodes and edges by layer; an edge counts for the layer of its receiver.

    `differences` has one row per node or edge: kind (node, edge), name (`a5.h3`, `m4->a5.h3<q>`), status (shared, lost,
    new). `names` are the two circuits'. The input stands left of layer 0, the logits right of the last.
    """
    figure = new_figure(10.5, 4.2)
    axes = figure.subplots(1, 2)
    for axis, kind in zip(axes, ("node", "edge"), strict=True):
        _bars(axis, differences[differences["kind"] == kind], n_layers)
        axis.set_title(f"{kind}s of the circuits", loc="left")
        axis.set_ylabel(f"{kind}s of a layer" if kind == "node" else "edges into a layer")
    handles = [
        Patch(facecolor=color, edgecolor=GREY, hatch=hatch, label=label)
        for label, color, hatch in (
            ("shared", *PARTS["shared_edges"][1:]),
            *(PARTS[f"{p}_edges"] for p in ("lost", "new")),
        )
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=3)
    counts = differences.groupby(["kind", "status"]).size()
    said = "; ".join(
        f"{kind}s: " + ", ".join(f"{counts.get((kind, status), 0):,} {status}" for status in ("shared", "lost", "new"))
        for kind in ("node", "edge")
    )
    heading(
        figure,
        f"Circuit {names[1]} against {names[0]}",
        f"{said}. Lost: in {names[0]} alone; new: in {names[1]} alone.",
    )
    return figure


def _bars(axis: Axes, rows: pd.DataFrame, n_layers: int) -> None:
    layers = rows["name"].map(lambda name: _layer(str(name).rpartition("->")[2], n_layers))
    base = np.zeros(n_layers + 2)
    for status in ("shared", "lost", "new"):
        _, color, hatch = PARTS[f"{status}_edges"]
        counts = np.bincount(layers[rows["status"] == status] + 1, minlength=n_layers + 2)
        axis.bar(range(-1, n_layers + 1), counts, bottom=base, color=color, edgecolor=GREY, linewidth=0.4, hatch=hatch)
        base += counts
    axis.set_xticks(layer_ticks(n_layers))
    axis.set_xlabel("layer")
    axis.grid(axis="y")


def _layer(name: str, n_layers: int) -> int:
    found = LAYER.match(name)
    return int(found[1]) if found else -1 if name == "input" else n_layers
