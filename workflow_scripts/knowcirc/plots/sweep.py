"""Figure of the sweep: where in the model an edit by ROME works best (ROME Fig. 5)."""

from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.typing import LineStyleType

from knowcirc.plots.style import (
    BLACK,
    BLUE,
    GREEN,
    ORANGE,
    VERMILION,
    Plain,
    banded_line,
    heading,
    layer_ticks,
    new_figure,
    styled,
)

PANELS = {
    "efficacy": ("p(new object), request (%)", "efficacy"),
    "paraphrase": ("p(new object), paraphrases (%)", "generalization"),
    "specificity": ("neighbours' p(true object) kept (%)", "specificity"),
    "score": ("harmonic mean of these (%)", "score"),
    "EM": ("p(new) - p(true), request (pp)", "EM"),
    "PM": ("p(new) - p(true), paraphrases (pp)", "PM"),
    "NM": ("p(true) - p(new), neighbours (pp)", "NM"),
    "S": ("harmonic mean of ES, PS, NS (%)", "S"),
}
ROMES = ("EM", "PM", "NM", "S")
LINES: dict[str, tuple[str, str, LineStyleType]] = {
    "subject_first": ("first subject token", GREEN, "--"),
    "subject_last": ("last subject token", VERMILION, "-"),
    "first_subsequent": ("first subsequent token", ORANGE, "-."),
    "last": ("last token", BLUE, ":"),
}


@styled
def editing_sweep(sweep: pd.DataFrame, edit_layer: Plain, model: str) -> Figure:
    """Edits by ROME by edited layer, one line per token: this project's measures above, ROME's below, with S.

    A panel per measure; bands are 95 % intervals.

    `sweep` has one row per token (subject_first, subject_last, first_subsequent, last; some may be absent), layer and
    clamp, with efficacy, paraphrase, specificity, EM, PM and NM (each with _low and _high), score, S, n records, and
    base: true for rows at the clamp that the lines are drawn of. `edit_layer` has the layer and the clamp that the
    study edits with.
    """
    layer, clamp = int(str(edit_layer["layer"])), float(str(edit_layer["clamp"]))
    figure = new_figure(13.0, 6.4)
    axes = figure.subplots(2, len(PANELS) // 2, sharex=True).flat
    sweep = sweep[sweep["base"]]
    shown = [token for token in LINES if (sweep["token"] == token).any()]
    for axis, (name, (label, title)) in zip(axes, PANELS.items(), strict=True):
        for token in shown:
            _, color, style = LINES[token]
            look: dict[str, Any] = {"color": color, "linestyle": style, "marker": "o", "markersize": 3}
            rows = sweep[sweep["token"] == token].sort_values("layer")
            if f"{name}_low" in rows:
                banded_line(axis, rows, "layer", name, factor=100.0, **look)
            else:
                axis.plot(rows["layer"], 100.0 * rows[name], **look)
        axis.axvline(layer, color=BLACK, linewidth=0.8, linestyle=(0, (1, 2)))
        axis.set_title(title, loc="left")
        axis.set_ylabel(label)
        axis.set_xlabel("edited layer" if name in ROMES else "")
        axis.set_ylim(-103 if name in ROMES and name != "S" else -3, 103)
        axis.set_xticks(layer_ticks(int(sweep["layer"].max()) + 1))
        axis.grid(axis="y")
    handles = [Line2D([], [], color=LINES[t][1], linestyle=LINES[t][2], marker="o", label=LINES[t][0]) for t in shown]
    handles.append(Line2D([], [], color=BLACK, linewidth=0.8, linestyle=(0, (1, 2)), label="layer edited in the study"))
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), title="edited token")
    heading(
        figure,
        f"Where an edit by ROME works: {model}",
        f"n = {int(sweep['n'].max())} counterfactual edits a point, one at a time; means, bands: 95 % bootstrap "
        f"intervals over edits. Clamp {sweep['clamp'].iloc[0]:g}. The study edits layer {layer}, clamp {clamp:g}.",
    )
    return figure
