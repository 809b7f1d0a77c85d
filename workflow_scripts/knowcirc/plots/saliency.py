"""Figure of integrated gradients (ROME Fig. 16): single facts with their tokens."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure

from knowcirc.plots.style import heading, layer_ticks, new_figure, styled, token_label

PANELS = {"state": ("hidden state", "Purples"), "mlp": ("MLP output", "Greens"), "attention": ("attention", "Oranges")}
BASELINES = {"zero": "activations of zero", "corrupted": "the runs with the subject corrupted"}


def shown_gradients(gradients: pd.DataFrame, examples: int) -> pd.DataFrame:
    """The rows that figure saliency_facts shows: the first `examples` cases."""
    return gradients[gradients["case"] < examples]


@styled
def saliency_facts(gradients: pd.DataFrame, model: str, baseline: str) -> Figure:
    """Norms of integrated gradients of single facts, token x layer: a row of panels per fact, a column per kind.

    `gradients` has one row per case, kind (state, mlp, attention, embedding), layer (-1: embeddings) and position, with
    token (decoded), in_subject and saliency (a norm, in probability), and prompt and answer, the same in a case.
    `baseline` is zero or corrupted.
    """
    cases = sorted(int(case) for case in gradients["case"].unique())
    heights = [1.35 + 0.185 * int(gradients.loc[gradients["case"] == case, "position"].nunique()) for case in cases]
    figure = new_figure(4.2 * len(PANELS), 1.0 + sum(heights))
    panels = figure.subfigures(len(cases), 1, squeeze=False, height_ratios=heights)
    for panel, case in zip(panels[:, 0], cases, strict=True):
        _fact_row(panel, gradients[gradients["case"] == case])
    heading(
        figure,
        f"Integrated gradients of {len(cases)} fact{'s' if len(cases) != 1 else ''} in {model}",
        f"Colour: norm of the integrated gradient of the answer's probability, from {BASELINES[baseline]} to the clean "
        "run, in percentage points (pp). emb: token embeddings. Bold tokens with * are the subject's.",
    )
    return figure


def _fact_row(panel: SubFigure, rows: pd.DataFrame) -> None:
    axes = panel.subplots(1, len(PANELS), squeeze=False)[0]
    tokens = rows.drop_duplicates("position").sort_values("position")
    names = [token_label(t) + ("*" if s else "") for t, s in zip(tokens["token"], tokens["in_subject"], strict=True)]
    for column, (axis, kind) in enumerate(zip(axes, PANELS, strict=True)):
        # embeddings are states below layer 0
        part = rows[rows["kind"].isin([kind, "embedding"] if kind == "state" else [kind])]
        _map(axis, part.pivot(index="position", columns="layer", values="saliency"), kind)
        axis.set_yticks(range(len(names)), names if column == 0 else [""] * len(names))
        for label, inside in zip(axis.get_yticklabels(), tokens["in_subject"], strict=True):
            label.set_fontweight("bold" if inside else "normal")
    heading(panel, f"“{rows['prompt'].iloc[0]}” → {str(rows['answer'].iloc[0]).strip()}", size=9.5)


def _map(axis: Axes, table: pd.DataFrame, kind: str) -> None:
    values, (name, colours) = 100 * table.to_numpy(dtype=float), PANELS[kind]
    layers = [int(layer) for layer in table.columns]
    image = axis.imshow(values, aspect="auto", cmap=colours, vmin=0.0, interpolation="nearest")
    shown = layer_ticks(max(layers) + 1)
    if layers[0] < 0:
        shown = [-1, *shown[1:]]
    axis.set_xticks([layers.index(layer) for layer in shown], ["emb" if layer < 0 else str(layer) for layer in shown])
    axis.set_xlabel("layer")
    axis.tick_params(axis="y", length=0)
    best = np.unravel_index(int(values.argmax()), values.shape)
    where = "the embeddings" if layers[best[1]] < 0 else f"layer {layers[best[1]]}"
    axis.set_title(f"{name}: max {values[best]:.2g} pp at {where}", loc="left")
    bar = axis.figure.colorbar(image, ax=axis, pad=0.02, aspect=22)
    bar.set_label("norm (pp)")
    bar.outline.set_visible(False)
