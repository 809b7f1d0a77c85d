"""Figure of the logit lens through the layers: when the answer rises at the last and at the subject's position."""

from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from knowcirc.plots.style import (
    BLUE,
    GREEN,
    VERMILION,
    Plain,
    heading,
    layer_ticks,
    new_figure,
    rank_axis,
    shorten,
    styled,
)

QUANTITIES = {
    "answer_at_last": ("answer at the last position", VERMILION, "-", "o"),
    "answer_at_subject": ("answer at the subject's last token", BLUE, "--", "s"),
    "subject_at_last": ("subject at the last position", GREEN, ":", "^"),
}


@styled
def answer_rank_by_layer(ranks: pd.DataFrame, meta: Plain, model: str) -> Figure:
    """Rank (logarithmic, 1 on top) and probability of answer and subject through the layers (KC Fig. 3).

    `ranks` has one row per layer (0 = embedding, then the residual stream after each layer) and quantity
    (answer_at_last, answer_at_subject, subject_at_last), with rank (from 1) and probability (0 to 1) under the logit
    lens. `meta` holds prompt, answer and, where there is one, subject.
    """
    figure = new_figure(10.0, 4.3)
    left, right = figure.subplots(1, 2)
    for quantity, (label, color, style, marker) in QUANTITIES.items():
        line = ranks[ranks["quantity"] == quantity].sort_values("layer")
        if line.empty:
            continue
        x = line["layer"].to_numpy(dtype=float)
        look: dict[str, Any] = {"color": color, "linestyle": style, "marker": marker, "markersize": 3.5, "label": label}
        left.plot(x, line["rank"].to_numpy(dtype=float), **look)
        right.plot(x, 100 * line["probability"].to_numpy(dtype=float), **look)
    rank_axis(left, float(ranks["rank"].max()))
    right.set_ylabel("probability (%)")
    right.set_ylim(bottom=0)
    left.set_title("rank under the logit lens", loc="left")
    right.set_title("probability under the logit lens", loc="left")
    for axis in (left, right):
        axis.set_xticks(layer_ticks(int(ranks["layer"].max()) + 1))
        axis.set_xlabel("layers passed (0 = embedding)")
        axis.margins(x=0.02)
        axis.grid(axis="y")
    handles, labels = left.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(handles))
    about = f" (subject: {str(meta['subject']).strip()})" if meta.get("subject") is not None else ""
    heading(
        figure,
        f"The answer through the layers of {model}",
        f"“{shorten(str(meta['prompt']), 90)}” → {str(meta['answer']).strip()}{about}, n = 1 fact. {_arrival(ranks)}",
    )
    return figure


def _arrival(ranks: pd.DataFrame) -> str:
    """Since which layer the answer is the top token at the last position, as a sentence."""
    line = ranks[ranks["quantity"] == "answer_at_last"].sort_values("layer")
    if line.empty:
        return ""
    first = None
    for layer, rank in zip(line["layer"], line["rank"], strict=True):
        first = None if rank > 1 else (layer if first is None else first)
    if first is not None:
        return f"At the last position the answer is on top once {int(first)} layers are passed."
    best = line.iloc[int(line["rank"].to_numpy().argmin())]
    rank, layer = int(best["rank"]), int(best["layer"])
    return f"At the last position the answer's best rank is {rank:,}, with {layer} layers passed."
