"""Figures of circuits: how much of them lies in each layer, and one fact's circuit drawn as a graph."""

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure, SubFigure
from matplotlib.lines import Line2D
from matplotlib.patches import FancyArrowPatch, Rectangle
from matplotlib.ticker import FuncFormatter

from knowcirc.plots.attention import attention_bars, token_list
from knowcirc.plots.layout import Placed, place
from knowcirc.plots.style import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    SMALL,
    VERMILION,
    Plain,
    decimal_text,
    heading,
    layer_ticks,
    new_figure,
    percent,
    shorten,
    styled,
)

CATEGORIES = ("factual", "commonsense", "linguistic", "bias")
COMPONENTS = {"head": ("attention heads", BLUE), "mlp": ("the MLP", VERMILION)}
SHARE_TICKS = (0, 2, 10, 25, 50, 100)
INPUTS = {
    "q": ("query", PURPLE, 0.16),
    "k": ("key", ORANGE, -0.16),
    "v": ("value", GREEN, 0.05),
    None: ("MLP or logits", "#6e6e6e", -0.05),
}
ROLE_COLORS = {"mover": "#f2a671", "relation": "#8ccbe9", "mixture": "#c9a3dc"}
TOP_HEADS = 4


@styled
def component_distribution(components: pd.DataFrame, model: str, method: str) -> Figure:
    """How much of each relation's circuit lies in each layer: heads above, MLPs below, one column per category (KC
    Fig. 2).

    `components` has one row per relation, component (head, mlp) and layer, with category, edge_share (0 to 1, of the
    possible edges out of the layer's heads or MLP) and n_relations (of the category).
    """
    present = list(dict.fromkeys(components["category"]))
    names = [c for c in CATEGORIES if c in present] + [c for c in present if c not in CATEGORIES]
    figure = new_figure(max(7.0, 0.9 + 2.7 * len(names)), 6.2)
    grid = figure.subplots(len(COMPONENTS), len(names), squeeze=False, sharex=True, sharey="row")
    for axes, (component, (label, color)) in zip(grid, COMPONENTS.items(), strict=True):
        for axis, name in zip(axes, names, strict=True):
            chosen = (components["category"] == name) & (components["component"] == component)
            _category_lines(axis, components[chosen], color)
        axes[0].set_ylabel(f"edges out of {label}\n(% of possible, root scale)")
        axes[0].set_ylim(0, 104)
    for axis, name in zip(grid[0], names, strict=True):
        n = int(components.loc[components["category"] == name, "n_relations"].max())
        axis.set_title(f"{name} (n = {n} relation{'s' if n != 1 else ''})", loc="left")
    for axis in grid[-1]:
        axis.set_xlabel("layer")
    heading(
        figure,
        f"Which layers the knowledge circuits of {model} lie in",
        "Share of the possible edges out of a layer's heads (above) and MLP (below) that a relation's circuit "
        f"({method}) holds. Thin: one relation; bold: the category's mean. The last layers have few possible edges.",
    )
    return figure


def _category_lines(axis: Axes, rows: pd.DataFrame, color: str) -> None:
    table = 100 * rows.pivot(index="layer", columns="relation", values="edge_share").sort_index()
    layers = table.index.to_numpy(dtype=float)
    axis.plot(layers, table.to_numpy(dtype=float), color=color, alpha=0.35, linewidth=0.8)
    axis.plot(layers, table.mean(axis=1).to_numpy(dtype=float), color=color, linewidth=2.4)
    axis.set_yscale("function", functions=(np.sqrt, np.square))
    axis.set_yticks(SHARE_TICKS)
    axis.set_xticks(layer_ticks(len(layers)))
    axis.margins(x=0.02)
    axis.grid(axis="y")


@styled
def circuit_graph(drawing: Plain, model: str) -> Figure:
    """One fact's circuit as a graph, its main heads beside it, and an overview of the whole circuit (KC Fig. 1, 9).

    `drawing` holds prompt, answer, method, n_edges, edge_share, p_model, p_circuit, tokens (of the prompt, decoded);
    nodes: {name, layer, kind (head, mlp, input, logits), shown}; edges: {src, dst, kind (q, k, v, None), score, flow};
    whole: {layer_edges: [{src_layer, dst_layer, weight, count}]} with layer -1 for the input and n_layers for the
    logits; heads (at most 4): {name, layer, role, attention (from the last position, one value per token), top_tokens,
    answer_rank (1 = top)}. Where the answer has several tokens, `answer_token` says which one to highlight.
    """
    nodes = place(drawing["nodes"], drawing["edges"])
    heads: list[Plain] = list(drawing["heads"][:TOP_HEADS])
    rows = max(node.y for node in nodes.values()) + 1
    figure = new_figure(14.0, max(8.6, min(12.0, 2.2 + 0.5 * rows)))
    left, right = figure.subfigures(1, 2, squeeze=False, width_ratios=(8.2, 5.8))[0]
    _draw_graph(left.subplots(), nodes, drawing["edges"], {str(head["name"]): str(head["role"]) for head in heads})
    strips, overview = right.subfigures(2, 1, squeeze=False, height_ratios=(max(1.35 * len(heads), 1.0), 2.7))[:, 0]
    _draw_heads(strips, heads, drawing)
    _draw_overview(overview, drawing["whole"]["layer_edges"])
    shown = sum(edge["src"] in nodes and edge["dst"] in nodes for edge in drawing["edges"])
    heading(
        figure,
        f"Knowledge circuit of “{shorten(str(drawing['prompt']), 90)}” → {str(drawing['answer']).strip()}",
        f"{model}, {drawing['method']}; {drawing['n_edges']:,} edges, {percent(drawing['edge_share'])} of all; "
        f"p(answer): {percent(drawing['p_model'])} in the model, {percent(drawing['p_circuit'])} in the circuit. "
        f"Left: its {shown} main edges. n = 1 fact.",
    )
    return figure


def _draw_graph(axis: Axes, nodes: dict[str, Placed], edges: Sequence[Plain], roles: dict[str, str]) -> None:
    axis.set_axis_off()
    width = max(node.x for node in nodes.values()) + 0.55
    top = max(node.y for node in nodes.values()) + 0.6
    axis.set_xlim(-1.15, width)
    axis.set_ylim(-0.6, top)
    layers = sorted({node.layer for node in nodes.values() if node.kind in ("head", "mlp")})
    for index, layer in enumerate(layers):
        ys = [node.y for node in nodes.values() if node.layer == layer and node.kind in ("head", "mlp")]
        low, high = min(ys) - 0.47, max(ys) + 0.47
        if index % 2 == 0:
            axis.add_patch(Rectangle((-1.15, low), width + 1.15, high - low, facecolor="#f5f5f5", zorder=0))
        axis.text(-1.1, (low + high) / 2, f"layer {layer}", va="center", size=SMALL, color="#666666")
    drawn = [edge for edge in edges if edge["src"] in nodes and edge["dst"] in nodes]
    _draw_edges(axis, nodes, drawn)
    for node in nodes.values():
        _draw_node(axis, node, roles.get(node.name))
    _graph_legend(axis, drawn, roles)


def _draw_edges(axis: Axes, nodes: dict[str, Placed], edges: Sequence[Plain]) -> None:
    most = max((edge["flow"] for edge in edges), default=1.0) or 1.0
    for edge in sorted(edges, key=lambda one: one["flow"]):
        start, end = nodes[edge["src"]], nodes[edge["dst"]]
        share = math.sqrt(edge["flow"] / most)
        _, color, bend = INPUTS.get(edge["kind"], INPUTS[None])
        arrow = FancyArrowPatch(
            (start.x, start.y),
            (end.x, end.y),
            connectionstyle=f"arc3,rad={bend}",
            arrowstyle="-|>",
            mutation_scale=6 + 4 * share,
            shrinkA=12,
            shrinkB=13,
            linewidth=0.6 + 3.0 * share,
            linestyle=(0, (3, 1.5)) if (edge["score"] or 0.0) < 0 else "-",
            color=color,
            alpha=0.45 + 0.45 * share,
            zorder=2,
        )
        axis.add_patch(arrow)


def _draw_node(axis: Axes, node: Placed, role: str | None) -> None:
    if node.kind in ("input", "logits"):
        box = {"boxstyle": "round,pad=0.45", "facecolor": "#3a3a3a", "edgecolor": "none"}
        axis.text(node.x, node.y, node.name, ha="center", va="center", color="white", size=8, bbox=box, zorder=4)
        return
    marker, fill = ("o", "white") if node.kind == "head" else ("s", "#fdf3d0")
    if role is not None:
        fill = ROLE_COLORS.get(role, "#d4d4d4")
    edge = VERMILION if role else "#444444"
    size = 27**2 if node.kind == "head" else 22**2
    axis.scatter(
        [node.x],
        [node.y],
        s=size,
        marker=marker,
        facecolor=fill,
        edgecolor=edge,
        linewidth=1.8 if role else 0.8,
        zorder=3,
    )
    text = node.name.replace(".", "\n")
    weight = "bold" if role else "normal"
    axis.text(node.x, node.y, text, ha="center", va="center", size=SMALL, weight=weight, linespacing=0.95, zorder=4)


def _graph_legend(axis: Axes, edges: Sequence[Plain], roles: dict[str, str]) -> None:
    kinds = {edge["kind"] for edge in edges}
    handles = [
        Line2D([], [], color=color, linewidth=2.2, label=f"to {name}")
        for kind, (name, color, _) in INPUTS.items()
        if kind in kinds
    ]
    if any((edge["score"] or 0.0) < 0 for edge in edges):
        handles.append(Line2D([], [], color=GREY, linewidth=2.2, linestyle=(0, (3, 1.5)), label="negative score"))
    for label, marker, fill in (("head", "o", "white"), ("MLP", "s", "#fdf3d0")):
        handles.append(_node_handle(label, marker, fill, "#444444"))
    handles += [
        _node_handle(
            f"{role} head" if role in ROLE_COLORS else "main head, no role",
            "o",
            ROLE_COLORS.get(role, "#d4d4d4"),
            VERMILION,
        )
        for role in dict.fromkeys(roles.values())
    ]
    axis.legend(
        handles=handles,
        loc="upper center",
        bbox_to_anchor=(0.5, 0.0),
        ncols=5,
        title="edges (width: root of the share of the answer's scores that passes) and nodes",
        columnspacing=1.4,
    )


def _node_handle(label: str, marker: str, fill: str, edge: str) -> Line2D:
    return Line2D(
        [], [], linestyle="", marker=marker, markersize=9, markerfacecolor=fill, markeredgecolor=edge, label=label
    )


def _draw_heads(panel: SubFigure, heads: list[Plain], drawing: Plain) -> None:
    if not heads:
        return
    panel.suptitle("main heads: attention from the last position, and tokens raised most", x=0.02, ha="left", size=9)
    axes = panel.subplots(len(heads), 2, squeeze=False, width_ratios=(3.4, 1.25))
    for row, head in enumerate(heads):
        bars, words = axes[row]
        attention_bars(bars, drawing["tokens"], head["attention"], color=BLUE)
        bars.set_title(f"{head['name']}, {head['role']}: answer at rank {head['answer_rank']:,}", loc="left", pad=11)
        answer = str(drawing.get("answer_token", drawing["answer"]))
        token_list(words, head["top_tokens"], {answer: VERMILION}, most=len(head["top_tokens"]), height=1.45)
        if row < len(heads) - 1:
            bars.tick_params(axis="x", labelbottom=False)


def _draw_overview(panel: SubFigure, layer_edges: Sequence[Plain]) -> None:
    """Matrix of edge counts of the whole circuit, sender layer x receiver layer."""
    if not layer_edges:
        return
    axis = panel.subplots()
    last = max(edge["dst_layer"] for edge in layer_edges)
    counts = np.zeros((last + 2, last + 2))
    for edge in layer_edges:
        counts[edge["src_layer"] + 1, edge["dst_layer"] + 1] += edge["count"]
    shown = np.ma.masked_equal(counts, 0)
    norm = LogNorm(1, max(2.0, float(counts.max())))
    image = axis.imshow(shown, origin="lower", cmap="Blues", norm=norm, interpolation="nearest", aspect="auto")
    ticks = [tick + 1 for tick in layer_ticks(last, 6)[1:] if tick < last - 1]
    labels = ["input", *[str(tick - 1) for tick in ticks], "logits"]
    axis.set_xticks([0, *ticks, last + 1], labels)
    axis.set_yticks([0, *ticks, last + 1], labels)
    axis.set_xlabel("receiver's layer")
    axis.set_ylabel("sender's layer")
    axis.set_title(f"the whole circuit: {counts.sum():,.0f} edges by layer", loc="left")
    axis.grid(color="#eeeeee")
    axis.set_axisbelow(True)
    steps = [float(step) for step in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000) if step <= counts.max()]
    bar = panel.colorbar(image, ax=axis, ticks=steps, format=FuncFormatter(decimal_text), pad=0.02)
    bar.minorticks_off()
    bar.set_label("edges (log)")
    bar.outline.set_visible(False)
