"""Figures of components: next tokens without special heads, and the answer's rank through the layers, averaged."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.typing import LineStyleType

from knowcirc.plots.style import (
    BLACK,
    BLUE,
    GREEN,
    ORANGE,
    PURPLE,
    SKY,
    SMALL,
    VERMILION,
    Plain,
    banded_line,
    heading,
    layer_ticks,
    new_figure,
    percent,
    rank_axis,
    shorten,
    styled,
    token_label,
)

ALL = "all"
RUNS = {"original": "the whole model", "mover": "mover head", "relation": "relation head"}
POSITIONS = {"subject": "at the subject's last token", "last": "at the last position"}
CATEGORIES: dict[str, tuple[str, LineStyleType]] = {
    "factual": (BLUE, "-"),
    "commonsense": (GREEN, "--"),
    "linguistic": (ORANGE, "-."),
    "bias": (PURPLE, ":"),
}
WRITERS = {"rank_drop_attention": ("attention", SKY, -0.2), "rank_drop_mlp": ("MLP", VERMILION, 0.2)}
MODEL_STYLES: tuple[tuple[str, LineStyleType], ...] = (
    *((BLUE, "-"), (VERMILION, "--"), (GREEN, "-."), (ORANGE, ":"), (PURPLE, "-"), (BLACK, "--")),
)


@styled
def head_ablation_tokens(tokens: pd.DataFrame, meta: Plain, model: str) -> Figure:
    """The likeliest next tokens of the model, and without its mover or its relation head (KC Fig. 6).

    `tokens` has one row per run (original, mover, relation) and place (1 = likeliest): head, has_role, token,
    is_answer, probability, p_answer (0 to 1). `meta` holds prompt and answer.
    """
    runs = [run for run in RUNS if (tokens["run"] == run).any()]
    figure = new_figure(3.6 * len(runs) + 0.6, 3.9)
    limit = 112 * float(tokens["probability"].max())
    for axis, run in zip(figure.subplots(1, len(runs), squeeze=False)[0], runs, strict=True):
        _token_bars(axis, tokens[tokens["run"] == run].sort_values("place"), run, limit)
    handles = [Patch(color=VERMILION, label="the answer"), Patch(color="#9a9a9a", label="another token")]
    figure.legend(handles=handles, loc="outside lower center", ncols=2)
    heading(
        figure,
        f"The next token of {model} without one of its special heads",
        f"“{shorten(str(meta['prompt']), 90)}” → {str(meta['answer']).strip()}; the ten likeliest tokens. "
        "The head's output is set to zero at every position. n = 1 fact.",
    )
    return figure


def _token_bars(axis: Axes, rows: pd.DataFrame, run: str, limit: float) -> None:
    values = 100 * rows["probability"].to_numpy(dtype=float)
    places = range(len(values))
    axis.barh(places, values, color=[VERMILION if one else "#9a9a9a" for one in rows["is_answer"]], height=0.72)
    for place, value in zip(places, values, strict=True):
        axis.text(value + 0.012 * limit, place, percent(value / 100), va="center", size=SMALL)
    axis.set_yticks(list(places), [token_label(token) for token in rows["token"]])
    axis.tick_params(axis="y", length=0)
    axis.invert_yaxis()
    axis.set_xlim(0, 1.12 * limit)
    axis.set_xlabel("probability (%)")
    first = rows.iloc[0]
    title = RUNS[run] if run == "original" else f"without {first['head']}, a {RUNS[run]}"
    if not first["has_role"]:
        title = f"without {first['head']}, nearest to a {RUNS[run]}"
    axis.set_title(f"{title}\np(answer) {percent(float(first['p_answer']))}", loc="left")


@styled
def average_rank_by_layer(ranks: pd.DataFrame, model: str) -> Figure:
    """The answer's rank, what brings it down, and whether it leads its rivals, by layer and position (KC B.1).

    `ranks` has one row per category (and `all`), position (subject, last) and layer (0 = embedding): rank (geometric
    mean), rank_drop_attention and rank_drop_mlp (orders of magnitude of rank that the layer before takes
    off), outranks (share of other objects of the relation that rank lower, 0 to 1), each with _low and _high; n facts
    and n_relations.
    """
    figure = new_figure(11.5, 8.6)
    axes = figure.subplots(3, 2, sharex=True, sharey="row", squeeze=False)
    worst = float(ranks["rank_high"].max())
    for column, (position, text) in zip(axes.T, POSITIONS.items(), strict=True):
        rows = ranks[ranks["position"] == position]
        for category in [name for name in (*CATEGORIES, ALL) if (rows["category"] == name).any()]:
            part = rows[rows["category"] == category].sort_values("layer")
            _category_line(column[0], part, "rank", category, 1.0)
            _category_line(column[2], part, "outranks", category, 100.0)
        _drop_bars(column[1], rows[rows["category"] == ALL].sort_values("layer"))
        column[0].set_title(f"the answer {text}", loc="left")
        column[2].set_xlabel("layers passed (0 = embedding)")
        column[2].set_xticks(layer_ticks(int(rows["layer"].max()) + 1))
    rank_axis(axes[0, 0], worst)
    axes[0, 0].set_ylabel("rank in the vocabulary\n(log, 1 = top, geometric mean)")
    axes[1, 0].set_ylabel("rank drop, a layer's part\n(orders of magnitude)")
    axes[2, 0].set_ylabel("other objects of the relation\nthat rank lower (%)")
    axes[2, 0].set_ylim(-2, 102)
    for axis in axes.flat:
        axis.grid(axis="y")
        axis.margins(x=0.02)
    axes[1, 0].legend(handles=[Patch(color=c, label=name) for name, c, _ in WRITERS.values()], loc="upper right")
    handles = [
        Line2D([], [], color=c, linestyle=s, label=n) for n, (c, s) in CATEGORIES.items() if n in set(ranks["category"])
    ]
    handles.append(Line2D([], [], color=BLACK, linewidth=2.2, label="all relations"))
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))
    overall = ranks[ranks["category"] == ALL].iloc[0]
    heading(
        figure,
        f"Where the answer rises in {model}",
        f"n = {int(overall['n'])} known facts of {int(overall['n_relations'])} relations, logit lens. Relations weigh "
        "alike; bands and error bars: 95 % intervals over relations. Dotted line below: half of them.",
    )
    return figure


def _category_line(axis: Axes, rows: pd.DataFrame, name: str, category: str, factor: float) -> None:
    color, style = CATEGORIES.get(category, (BLACK, "-"))
    look: dict[str, Any] = {"linewidth": 2.2 if category == ALL else 1.2, "color": color, "linestyle": style}
    banded_line(axis, rows, "layer", name, factor=factor, alpha=0.12 if category == ALL else 0.0, **look)
    if category == ALL and name == "outranks":
        axis.axhline(50, color="#777777", linewidth=0.8, linestyle=":")


def _drop_bars(axis: Axes, rows: pd.DataFrame) -> None:
    rows = rows[rows["layer"] > 0]
    x = rows["layer"].to_numpy(dtype=float)
    for name, (_, color, shift) in WRITERS.items():
        y, low, high = (rows[f"{name}{end}"].to_numpy(dtype=float) for end in ("", "_low", "_high"))
        errors = np.vstack([np.maximum(y - low, 0), np.maximum(high - y, 0)])
        axis.bar(x + shift, y, width=0.4, color=color, yerr=errors, error_kw={"linewidth": 0.7, "ecolor": "#555555"})
    axis.axhline(0, color=BLACK, linewidth=0.6)


@styled
def average_rank_of_models(ranks: pd.DataFrame) -> Figure:
    """The answer's average rank by share of the depth, one line per model (KC Fig. 7).

    `ranks` has the rows of `average_rank_by_layer` for category `all`, of one or more models (column model).
    """
    figure = new_figure(10.0, 4.2)
    axes = figure.subplots(1, 2, sharey=True)
    models = list(dict.fromkeys(ranks["model"]))
    for axis, (position, text) in zip(axes, POSITIONS.items(), strict=True):
        for model, (color, style) in zip(models, MODEL_STYLES * (1 + len(models) // len(MODEL_STYLES)), strict=False):
            rows = ranks[(ranks["model"] == model) & (ranks["position"] == position)].sort_values("layer")
            rows = rows.assign(depth=100 * rows["layer"] / rows["layer"].max())
            label = f"{model} (n = {int(rows['n'].max())} facts)"
            banded_line(axis, rows, "depth", "rank", color=color, linestyle=style, label=label)
        axis.set_title(f"the answer {text}", loc="left")
        axis.set_xlabel("layers passed (% of the depth)")
        axis.grid(axis="y")
    rank_axis(axes[0], float(ranks["rank_high"].max()))
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(3, len(labels)))
    heading(
        figure,
        "Where the answer rises, by model",
        "Known facts of all relations, logit lens; geometric means, relations weigh alike, bands: 95 % intervals over "
        "relations.",
    )
    return figure
