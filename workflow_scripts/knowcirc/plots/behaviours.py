"""Figures of behaviours: a wrong answer beside a right one, and what a demonstration in the prompt adds."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure

from knowcirc.plots.attention import attention_bars, token_list
from knowcirc.plots.style import (
    BLUE,
    GREEN,
    GREY,
    SMALL,
    VERMILION,
    Plain,
    heading,
    layer_ticks,
    new_figure,
    percent,
    rank_axis,
    readable,
    shorten,
    styled,
    token_label,
)

CASES = {"wrong": "a wrong answer", "right": "a right answer"}
LINES = {"right_answer": (BLUE, "-", "o"), "wrong_answer": (VERMILION, "--", "s")}


@styled
def hallucination(ranks: pd.DataFrame, meta: dict[str, list[Plain]], model: str) -> Figure:
    """A wrongly answered fact beside a rightly answered one: logit lens by layer, and the mover head (KC Fig. 5 left).

    `ranks` has one row per case (wrong, right), layer (0 = embedding) and token (right_answer, wrong_answer), with rank
    (from 1) and probability (0 to 1). `meta` has two lists, one entry per case. heads: {case, name, layer, tokens,
    attention (from the last position), top_tokens, right_rank, wrong_rank, is_mover (on this prompt), of_relation
    (whether it is the mover head of the relation)}. meta: {case, prompt, right, wrong, relation, p_right, p_wrong}, and
    right_token, wrong_token (to highlight) where an answer has several tokens.
    """
    facts = {str(one["case"]): one for one in meta["meta"]}
    movers = {str(one["case"]): one for one in meta["heads"]}
    cases = [case for case in CASES if case in facts]
    figure = new_figure(6.1 * max(len(cases), 1.4), 9.4)
    panels = figure.subfigures(1, len(cases), squeeze=False)[0]
    limits = float(ranks["rank"].max()), 105 * float(ranks["probability"].max())
    for panel, case in zip(panels, cases, strict=True):
        _hallucination_column(panel, ranks[ranks["case"] == case], facts[case], movers.get(case), limits)
    heading(
        figure,
        f"Where {model} goes wrong: a wrong answer beside a right one",
        "Top: right and wrong answer under the logit lens at the last position. Bottom: attention of the relation's "
        "mover head (without one: of the head that ranks what is said best) and the tokens it raises most. "
        "Dotted line: its layer. n = 1 fact each.",
    )
    return figure


def _hallucination_column(
    panel: SubFigure, rows: pd.DataFrame, fact: Plain, mover: Plain | None, limits: tuple[float, float]
) -> None:
    grid = panel.add_gridspec(3, 2, width_ratios=(3.3, 1.0), height_ratios=(1.25, 1.0, 1.05))
    rank, probability = (panel.add_subplot(grid[row, :]) for row in (0, 1))
    for token, (color, style, marker) in LINES.items():
        line = rows[rows["token"] == token].sort_values("layer")
        name = "right" if token == "right_answer" else "wrong"
        label = f"{name}: {readable(str(fact[name]).strip())} (p = {percent(fact[f'p_{name}'])})"
        look: dict[str, Any] = {"color": color, "linestyle": style, "marker": marker, "markersize": 3.2, "label": label}
        x = line["layer"].to_numpy(dtype=float)
        rank.plot(x, line["rank"].to_numpy(dtype=float), **look)
        probability.plot(x, 100 * line["probability"].to_numpy(dtype=float), **look)
    rank_axis(rank, limits[0])
    rank.set_title(_crossing(rows), loc="left")
    rank.legend(loc="best")
    probability.set_ylim(0, limits[1])
    probability.set_ylabel("probability (%)")
    for axis in (rank, probability):
        if mover is not None:
            axis.axvline(int(mover["layer"]) + 1, color=GREY, linestyle=":", linewidth=1.2)
        axis.set_xticks(layer_ticks(int(rows["layer"].max()) + 1))
        axis.margins(x=0.02)
        axis.grid(axis="y")
    rank.tick_params(labelbottom=False)
    probability.set_xlabel("layers passed (0 = embedding)")
    if mover is not None:
        _mover_row(panel.add_subplot(grid[2, 0]), panel.add_subplot(grid[2, 1]), mover, fact)
    text = f"{CASES[str(fact['case'])]} ({fact['relation']}): “{fact['prompt']}”"
    heading(panel, text, size=9.5)


def _mover_row(bars: Axes, words: Axes, mover: Plain, fact: Plain) -> None:
    attention_bars(bars, mover["tokens"], mover["attention"], color=GREEN)
    ranks = f"right at rank {mover['right_rank']:,}, wrong at {mover['wrong_rank']:,}"
    role = "relation's mover" if mover["of_relation"] else "mover head" if mover["is_mover"] else "no mover; nearest:"
    bars.set_title(f"{role} {mover['name']}: {ranks}", loc="left", pad=12)
    colors = {str(fact.get(f"{name}_token", fact[name])): c for name, c in (("right", BLUE), ("wrong", VERMILION))}
    token_list(words, mover["top_tokens"], colors)


def _crossing(rows: pd.DataFrame) -> str:
    """Since which layer one answer leads for good, as a phrase."""
    table = rows.pivot(index="layer", columns="token", values="rank").sort_index()
    if not set(LINES) <= set(table.columns):
        return "rank under the logit lens"
    ahead = (table["right_answer"] < table["wrong_answer"]).to_numpy()
    name = "right" if ahead[-1] else "wrong"
    differs = np.flatnonzero(ahead != ahead[-1])
    since = int(table.index[int(differs[-1]) + 1]) if len(differs) else int(table.index[0])
    if not len(differs):
        return f"logit lens: the {name} answer leads throughout"
    return f"logit lens: the {name} answer leads once {since} layers are passed"


@styled
def icl_attention(attention: pd.DataFrame, meta: Plain, model: str) -> Figure:
    """Attention of the heads that demonstrations add to a relation's circuit, on one prompt (KC Fig. 5 right).

    `attention` has one row per head and position: attention from the last position to that token (0 to 1), token
    (decoded), in_demonstration, and the head's share_on_demonstration (0 to 1). Heads are drawn in the order in which
    they come. `meta` holds prompt_zero, prompt_icl, relation, answer, p_zero, p_icl, n_new_heads, method and n_edges.
    """
    heads = list(dict.fromkeys(attention["head"]))
    if not heads:
        figure = new_figure(9.5, 2.0)
        heading(figure, f"Demonstrations add no head to the circuit of {model}", shorten(str(meta["prompt_icl"]), 250))
        return figure
    tokens = attention.drop_duplicates("position").sort_values("position")
    table = attention.pivot(index="head", columns="position", values="attention").loc[heads, tokens["position"]]
    figure = new_figure(max(9.5, min(15.0, 3.4 + 0.26 * len(tokens))), 3.3 + 0.3 * len(heads))
    axis, side = figure.subplots(1, 2, width_ratios=(0.26 * len(tokens) + 1.5, 1.9), sharey=True)
    values = 100 * table.to_numpy(dtype=float)
    high = max(float(values[:, 1:].max()) if values.shape[1] > 1 else float(values.max()), 0.1)
    image = axis.imshow(
        values,
        aspect="auto",
        cmap=colormaps["Blues"].with_extremes(over="#707070"),
        vmin=0,
        vmax=high,
        interpolation="nearest",
    )
    extend = "max" if float(values.max()) > high else "neither"
    bar = figure.colorbar(image, ax=axis, extend=extend, pad=0.01, aspect=18)
    bar.set_label("attention from the\nlast position (%)")
    bar.outline.set_visible(False)
    _token_axis(axis, tokens["token"].tolist(), tokens["in_demonstration"].astype(bool).tolist())
    axis.set_yticks(range(len(heads)), heads)
    axis.set_ylabel("head")
    shares = attention.drop_duplicates("head").set_index("head")["share_on_demonstration"]
    _share_bars(side, [100 * float(shares[head]) for head in heads])
    answer = str(meta["answer"]).strip()
    heading(
        figure,
        f"What demonstrations add to the circuit of {model}",
        f"“{shorten(str(meta['prompt_zero']), 60)}” → {answer}: p(answer) {percent(meta['p_zero'])} alone, "
        f"{percent(meta['p_icl'])} after the demonstrations. {meta['n_new_heads']} heads are new in the circuit of "
        f"demonstrated {meta['relation']} ({meta['method']}, {meta['n_edges']:,} edges); {len(heads)} are shown. "
        "Grey: above the scale. n = 1 prompt.",
    )
    return figure


def _token_axis(axis: Axes, tokens: Sequence[str], inside: Sequence[bool]) -> None:
    size = SMALL + 0.5 if len(tokens) <= 30 else SMALL
    labels = [token_label(token, 13) for token in tokens]
    axis.set_xticks(range(len(tokens)), labels, rotation=65, ha="right", rotation_mode="anchor", fontsize=size)
    axis.tick_params(axis="both", length=0)
    for label, demonstration in zip(axis.get_xticklabels(), inside, strict=True):
        label.set_color(VERMILION if demonstration else "black")
    for low, high in _runs(inside):
        transform = axis.get_xaxis_transform()
        axis.plot(
            [low - 0.4, low - 0.4, high + 0.4, high + 0.4],
            [1.02, 1.045, 1.045, 1.02],
            transform=transform,
            color=VERMILION,
            linewidth=1.3,
            clip_on=False,
        )
        axis.text(
            (low + high) / 2, 1.06, "demonstration", transform=transform, ha="center", va="bottom", color=VERMILION
        )
        for edge in (low - 0.5, high + 0.5):
            axis.axvline(edge, color=VERMILION, linewidth=0.8, linestyle=":")
    axis.set_xlim(-0.5, len(tokens) - 0.5)


def _runs(flags: Sequence[bool]) -> list[tuple[int, int]]:
    """First and last index of each run of true flags.

    >>> _runs([False, True, True, False, True])
    [(1, 2), (4, 4)]
    """
    runs: list[tuple[int, int]] = []
    for i, flag in enumerate(flags):
        if flag and runs and runs[-1][1] == i - 1:
            runs[-1] = (runs[-1][0], i)
        elif flag:
            runs.append((i, i))
    return runs


def _share_bars(axis: Axes, shares: Sequence[float]) -> None:
    axis.barh(range(len(shares)), shares, color=VERMILION, height=0.68)
    for row, share in enumerate(shares):
        axis.text(share + 2, row, f"{share:.0f}", va="center", size=SMALL)
    axis.set_xlim(0, 115)
    axis.set_xticks((0, 50, 100))
    axis.set_xlabel("attention on the\ndemonstration (%)")
    axis.tick_params(axis="y", length=0, labelleft=False)
