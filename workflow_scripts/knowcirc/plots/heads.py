"""Figure of `knowcirc heads`: which heads add to the answer, their roles, and what the main ones see and write."""

import json

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from knowcirc.plots.attention import attention_bars, token_list
from knowcirc.plots.style import BLACK, SMALL, VERMILION, heading, layer_ticks, new_figure, shorten, styled

MARKERS = {"mover": "o", "relation": "s", "mixture": "D"}
MAIN = 4


@styled
def special_heads(heads: pd.DataFrame, prompt: str, answer: str, model: str) -> Figure:
    """A map of all heads by attribution with their roles, and the four that add most to the answer's logit.

    `heads` has one row per prompt and head (`a5.h3`): layer, role (or empty), attribution (logits), answer_rank (1 =
    top), top_tokens, attention and tokens (JSON lists as text).
    """
    figure = new_figure(13.0, 9.0)
    left, right = figure.subfigures(1, 2, squeeze=False, width_ratios=(7.4, 5.6))[0]
    _map(left.subplots(), heads)
    first = heads[heads["prompt"] == heads["prompt"].min()]
    main = first.sort_values("attribution", ascending=False).head(MAIN)
    axes = right.subplots(len(main), 2, squeeze=False, width_ratios=(3.2, 1.0))
    for (bars, words), (_, row) in zip(axes, main.iterrows(), strict=True):
        attention_bars(bars, json.loads(row["tokens"]), json.loads(row["attention"]))
        bars.set_title(
            f"{row['head']}: {row['role'] or 'no role'}, answer at rank {row['answer_rank']:,}", loc="left", pad=10
        )
        token_list(words, json.loads(row["top_tokens"]), {answer: VERMILION}, most=5)
    n = heads["prompt"].nunique()
    heading(
        figure,
        f"Heads of {model} that write the answer",
        f"“{shorten(prompt, 90)}” → {answer.strip()}. Colour: what a head adds to the answer's logit at the last "
        f"position, mean over n = {n} prompt{'s' if n > 1 else ''}. Right: the {len(main)} heads that add most, their "
        "attention from the last position and the tokens that they raise most (first prompt).",
    )
    return figure


def _map(axis: Axes, heads: pd.DataFrame) -> None:
    frame = heads.assign(number=heads["head"].str.partition(".h")[2].astype(int))
    grid = frame.pivot_table(index="number", columns="layer", values="attribution", aggfunc="mean")
    limit = max(float(np.abs(grid.to_numpy()).max()), 1e-6)
    image = axis.imshow(
        grid, cmap="PuOr_r", vmin=-limit, vmax=limit, aspect="auto", origin="lower", interpolation="nearest"
    )
    bar = axis.figure.colorbar(image, ax=axis, pad=0.01, aspect=28)
    bar.set_label("attribution (logits)")
    bar.outline.set_visible(False)
    for role, marker in MARKERS.items():
        rows = frame[frame["role"] == role].drop_duplicates(["layer", "number"])
        axis.plot(rows["layer"], rows["number"], marker, markersize=7, markerfacecolor="none", color=BLACK)
    axis.set_xticks(layer_ticks(int(frame["layer"].max()) + 1))
    axis.set_yticks(layer_ticks(int(frame["number"].max()) + 1, 16))
    axis.set_xlabel("layer")
    axis.set_ylabel("head")
    handles = [
        Line2D([], [], linestyle="none", marker=marker, markerfacecolor="none", color=BLACK, label=f"{role} head")
        for role, marker in MARKERS.items()
    ]
    axis.legend(handles=handles, loc="upper left", ncols=3, bbox_to_anchor=(0, -0.09), fontsize=SMALL + 1)
