"""Figure of causal traces with another subject in place of noise, beside those with noise, of the same facts."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.typing import LineStyleType

from knowcirc.plots.style import BLACK, banded_line, heading, new_figure, styled
from knowcirc.plots.tracing import KINDS, LINES, ROLES, average_map, kind_title, layer_axis

CORRUPTIONS: dict[str, tuple[str, LineStyleType]] = {"effect": ("another subject", "-"), "noise": ("noise", "--")}
"""Columns of effects: their corruption in words, and its line."""
COMPARED = ("subject_last", "last")


@styled
def counterfactual_trace(effects: pd.DataFrame, model: str, window: int) -> Figure:
    """Average indirect effects under both corruptions: heatmaps of each, and lines at two tokens, a column per kind.

    `effects` has one row per kind (state, mlp, attention), role and layer, with effect and noise (differences of
    probability, 0 to 1), their bounds (`_low`, `_high`) and n facts, and one row of kind `total`.
    """
    kinds = [kind for kind in KINDS if (effects["kind"] == kind).any()]
    single = effects[effects["kind"].isin(kinds)]
    roles = [role for role in ROLES if (single["role"] == role).any()]
    figure = new_figure(4.5 * max(len(kinds), 2), 8.4)
    axes = figure.subplots(3, len(kinds), squeeze=False, height_ratios=(len(roles) * 0.5, len(roles) * 0.5, 3.0))
    for column, kind in enumerate(kinds):
        rows = single[single["kind"] == kind]
        high = 100 * float(rows[list(CORRUPTIONS)].to_numpy().max())
        for axis, (name, (text, _)) in zip(axes[:2, column], CORRUPTIONS.items(), strict=True):
            shown = rows.assign(effect=rows[name])
            average_map(axis, shown, roles, f"{text}: {kind_title(kind, window)}", labels=column == 0, high=high)
        _lines(axes[2, column], rows)
    axes[2, 0].set_ylabel("average indirect effect (pp)")
    shown_roles = [role for role in COMPARED if role in roles]
    handles = [
        Line2D([], [], color=LINES[role][0], linestyle=style, label=f"{ROLES[role]}, {text}")
        for role in shown_roles
        for text, style in CORRUPTIONS.values()
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))
    heading(
        figure,
        f"Causal tracing with another subject, and with noise: {model}",
        f"{_totals(effects)} Effect: p(answer) with one activation restored, less that of the corrupted run, in "
        "percentage points (pp). Bands: 95 % intervals over facts.",
    )
    return figure


def _lines(axis: Axes, rows: pd.DataFrame) -> None:
    for role in COMPARED:
        line = rows[rows["role"] == role].sort_values("layer")
        for name, (_, style) in CORRUPTIONS.items():
            banded_line(axis, line, "layer", name, factor=100.0, color=LINES[role][0], linestyle=style)
    layer_axis(axis, rows)
    axis.axhline(0, color=BLACK, linewidth=0.6)


def _totals(effects: pd.DataFrame) -> str:
    total = effects[effects["kind"] == "total"].iloc[0]
    taken = " and ".join(f"{100 * total[name]:.1f} pp by {text}" for name, (text, _) in CORRUPTIONS.items())
    return f"n = {int(total['n'])} fact{'s' if total['n'] != 1 else ''}; the answer loses {taken}."
