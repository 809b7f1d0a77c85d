"""Figure of causal traces of single heads: token x head, on average over facts and for single ones."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure

from knowcirc.plots.style import BLACK, SMALL, heading, layer_ticks, new_figure, percent, styled, token_label
from knowcirc.plots.tracing import ROLES

CORRUPTIONS = {"noise": "noise on the subject", "subject": "another subject in the corrupted run"}
NAMED = 3  # heads that a panel's title names
COLOURS = "Oranges"
Panel = tuple[pd.DataFrame, dict[object, str], str]
"""Rows with their place on the axis (`place`), the places' labels from top to bottom, and a title."""


@styled
def head_trace(shown: pd.DataFrame, model: str, corruption: str) -> Figure:
    """Indirect effects of heads: a panel of averages by token role, then one of each fact's tokens; columns are heads.

    `shown` has one row per case, layer, head and position, with token, in_subject, effect (difference of probability),
    and, the same in a case, prompt, answer, p_clean and p_corrupted. Averages have the case -1 and a role in place of a
    position, with n facts; one row of these, of kind `total`, is the average total effect. `corruption` is noise or
    subject.
    """
    average = shown[(shown["case"] < 0) & (shown["kind"] != "total")]
    roles: dict[object, str] = {role: text for role, text in ROLES.items() if (average["role"] == role).any()}
    panels: list[Panel] = [(average.assign(place=average["role"]), roles, "average over facts")]
    panels += [_fact(shown[shown["case"] == case]) for case in sorted(shown["case"].unique()) if case >= 0]
    figure = _figure(panels)
    total = shown[shown["kind"] == "total"].iloc[0]
    heading(
        figure,
        f"Causal tracing of single heads: {model}",
        f"n = {int(total['n'])} fact{'s' if total['n'] != 1 else ''}, {CORRUPTIONS[corruption]}, average total effect "
        f"{100 * total['effect']:.1f} pp. "
        "Colour, on a root scale: p(answer) with one head's output at one token restored, less that of the corrupted "
        "run, in percentage points (pp). Bold tokens with * are the subject's.",
    )
    return figure


@styled
def head_trace_facts(shown: pd.DataFrame, model: str) -> Figure:
    """The same of single facts alone."""
    cases = sorted(shown["case"].unique())
    figure = _figure([_fact(shown[shown["case"] == case]) for case in cases])
    heading(
        figure,
        f"Causal traces of the heads of {model}: {len(cases)} fact{'s' if len(cases) != 1 else ''}",
        "Colour, on a root scale: p(answer) with one head's output at one token restored, less that of the corrupted "
        "run, in percentage points (pp). Bold tokens with * are the subject's.",
    )
    return figure


def _figure(panels: Sequence[Panel]) -> Figure:
    heights = [0.75 + 0.19 * len(labels) for _, labels, _ in panels]
    figure = new_figure(11.5, 1.1 + sum(heights))
    axes = figure.subplots(len(panels), 1, squeeze=False, height_ratios=heights)[:, 0]
    for axis, panel in zip(axes, panels, strict=True):
        _panel(axis, *panel)
    axes[-1].set_xlabel("heads by layer")
    return figure


def _fact(rows: pd.DataFrame) -> Panel:
    tokens = rows.drop_duplicates("position").sort_values("position")
    labels: dict[object, str] = {
        position: token_label(token) + ("*" if inside else "")
        for position, token, inside in zip(tokens["position"], tokens["token"], tokens["in_subject"], strict=True)
    }
    first = rows.iloc[0]
    scores = f"{percent(first['p_clean'])} clean, {percent(first['p_corrupted'])} corrupted"
    return (
        rows.assign(place=rows["position"]),
        labels,
        f"“{first['prompt']}” → {str(first['answer']).strip()} ({scores})",
    )


def _panel(axis: Axes, rows: pd.DataFrame, labels: dict[object, str], title: str) -> None:
    """One heatmap: places from top to bottom, heads by layer from left to right."""
    table = rows.pivot(index="place", columns=["layer", "head"], values="effect").reindex(list(labels))
    table = table.sort_index(axis="columns")
    values = 100 * table.to_numpy(dtype=float)
    high = max(float(np.nanmax(values)), 1e-6)
    scale = PowerNorm(0.5, 0.0, high)  # single heads stand out by orders of magnitude
    image = axis.imshow(values, aspect="auto", cmap=COLOURS, norm=scale, interpolation="nearest")
    layers = table.columns.get_level_values("layer").to_numpy()
    starts = {int(layer): int(np.argmax(layers == layer)) for layer in np.unique(layers)}
    few = layer_ticks(len(starts))
    ticks = [layer for place, layer in enumerate(starts) if place in few]
    axis.set_xticks([starts[layer] - 0.5 for layer in ticks], [str(layer) for layer in ticks])
    axis.set_yticks(range(len(labels)), list(labels.values()))
    axis.tick_params(axis="y", length=0)
    for label in axis.get_yticklabels():
        label.set_fontweight("bold" if label.get_text().endswith("*") else "normal")
    order = np.argsort(-np.nan_to_num(values, nan=-np.inf), axis=None)[:NAMED]
    places = [np.unravel_index(int(i), values.shape) for i in order]
    spoken, heads = [text.removesuffix("*") for text in labels.values()], list(table.columns)
    names = [f"a{heads[j][0]}.h{heads[j][1]} {values[i, j]:.2g} pp at {spoken[i]}" for i, j in places]
    axis.set_title(f"{title}\n{'; '.join(names)}", loc="left", fontsize=SMALL + 1)
    axis.plot(*places[0][::-1], marker="o", markersize=5, markerfacecolor="none", markeredgecolor=BLACK, clip_on=False)
    below = float(np.nanmin(values)) < -1e-9
    bar = axis.figure.colorbar(image, ax=axis, extend="min" if below else "neither", pad=0.01, aspect=14)
    bar.set_label("effect (pp)")
    bar.outline.set_visible(False)
