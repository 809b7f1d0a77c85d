"""Figure of edits seen in the circuit: what the mover head attends to and writes before and after."""

import json
from collections.abc import Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.patches import Patch

from knowcirc.editing.editors import EDITORS, UNEDITED
from knowcirc.plots.attention import attention_bars, bar_limit, token_list
from knowcirc.plots.style import (
    BLUE,
    GREEN,
    PURPLE,
    SMALL,
    VERMILION,
    Plain,
    heading,
    new_figure,
    percent,
    readable,
    shorten,
    styled,
    token_label,
)

PROMPTS = {"edited": "the edited fact", "unrelated": "an unrelated fact"}
WEIGHTS = {UNEDITED: "original weights", **{name: editor.label for name, editor in EDITORS.items()}}
PARTS = {
    "shared_edges": ("kept", "#b0b0b0", ""),
    "lost_edges": ("lost", "white", "////"),
    "new_edges": ("new", PURPLE, ""),
}


@styled
def edited_circuits(heads: pd.DataFrame, overlap: pd.DataFrame, meta: Plain, model: str) -> Figure:
    """The mover head before and after edits, and how much of the circuit stays (KC Fig. 4).

    One row of panels per prompt (edited, unrelated), one column per kind of weights (none, rome, ft-m, ...). `heads`
    has one row per prompt and weights: head, tokens, attention (from the last position), top_tokens (all three JSON
    lists as text), p_old and p_new (0 to 1), answer_top (the likeliest next token). `overlap`, likewise: shared_edges,
    lost_edges, new_edges, n_edges (numbers of edges) and jaccard, against the circuit of the original weights. `meta`
    holds edit: {subject, old, new}, prompts and method, both {edited, unrelated}; and may hold right: {unrelated}, the
    right answer of that prompt where it is not the old object: `p_old` is then its probability. `heads` may have
    old_token and new_token, the tokens to highlight where an object has several.
    """
    weights = [name for name in WEIGHTS if (heads["weights"] == name).any()]
    prompts = [name for name in PROMPTS if (heads["prompt"] == name).any()]
    figure = new_figure(3.75 * len(weights) + 2.7, 1.35 + 3.05 * len(prompts))
    panels = figure.subfigures(len(prompts), 1, squeeze=False)[:, 0]
    for panel, prompt in zip(panels, prompts, strict=True):
        objects = str(meta.get("right", {}).get(prompt, meta["edit"]["old"])), str(meta["edit"]["new"])
        _prompt_row(panel, _by_weights(heads, prompt), _by_weights(overlap, prompt), weights, objects)
        heading(panel, f"{PROMPTS[prompt]}: “{meta['prompts'][prompt]}”", size=9.5)
    edit, methods = meta["edit"], ", ".join(f"{PROMPTS[name]}: {meta['method'][name]}" for name in prompts)
    figure.legend(handles=_handles(str(edit["new"]).strip()), loc="outside lower center", ncols=5)
    heading(
        figure,
        f"Edits seen in the circuit of {model}: {edit['subject']}, {edit['old'].strip()} → {edit['new'].strip()}",
        "Bars: attention of the mover head from the last position; lists: the tokens its output raises most; right: "
        f"edges of the circuit ({methods}) against the original weights'. n = 1 fact each.",
    )
    return figure


def _handles(new: str) -> list[Patch]:
    answers = (("right answer before the edit", BLUE), (f"new object: {readable(new)}", VERMILION))
    return [Patch(facecolor=color, label=label) for label, color in answers] + [
        Patch(facecolor=color, edgecolor="#8a8a8a", hatch=hatch, label=f"edges {label}")
        for label, color, hatch in PARTS.values()
    ]


def _prompt_row(
    panel: SubFigure,
    cells: dict[str, Plain],
    overlap: dict[str, Plain],
    weights: Sequence[str],
    objects: tuple[str, str],
) -> None:
    ratios = [ratio for _ in weights for ratio in (2.55, 1.05)] + [2.2]
    axes = panel.subplots(1, len(ratios), squeeze=False, width_ratios=ratios)[0]
    top = bar_limit([json.loads(cell["attention"]) for cell in cells.values()])
    for index, name in enumerate(weights):
        bars, words = axes[2 * index], axes[2 * index + 1]
        if name in cells:
            _cell(bars, words, cells[name], name, objects, top=top, label=index == 0)
        else:
            bars.set_axis_off()
            words.set_axis_off()
    _overlap_bars(axes[-1], overlap, [name for name in weights if name != UNEDITED])


def _by_weights(frame: pd.DataFrame, prompt: str) -> dict[str, Plain]:
    """The rows of a prompt as dictionaries, by their weights."""
    rows = frame[frame["prompt"] == prompt].to_dict("records")
    return {str(row["weights"]): {str(key): value for key, value in row.items()} for row in rows}


def _cell(
    bars: Axes, words: Axes, cell: Plain, weights: str, objects: tuple[str, str], *, top: float, label: bool
) -> None:
    """Draw one head under one kind of weights; `objects` are the right answer before the edit and the new object."""
    attention_bars(bars, json.loads(cell["tokens"]), json.loads(cell["attention"]), color=GREEN, label=label, top=top)
    old, new = (shorten(readable(text.strip()), 12) for text in objects)
    title = f"{WEIGHTS[weights]}: answers {token_label(str(cell['answer_top']))}"
    scores = f"{cell['head']}; p({old}) {percent(cell['p_old'])}, p({new}) {percent(cell['p_new'])}"
    bars.set_title(f"{title}\n{scores}", loc="left", pad=12, fontsize=SMALL + 1)
    tokens = (str(cell.get(key) or text) for key, text in zip(("old_token", "new_token"), objects, strict=True))
    token_list(words, json.loads(cell["top_tokens"]), dict(zip(tokens, (BLUE, VERMILION), strict=True)))


def _overlap_bars(axis: Axes, rows: dict[str, Plain], weights: Sequence[str]) -> None:
    names = [name for name in weights if name in rows]
    if not names:
        axis.set_axis_off()
        return
    total = max(sum(float(rows[name][part]) for part in PARTS) for name in names)
    for x, name in enumerate(names):
        base = 0.0
        for part, (_, color, hatch) in PARTS.items():
            count = float(rows[name][part])
            axis.bar(x, count, bottom=base, color=color, edgecolor="#8a8a8a", linewidth=0.5, hatch=hatch, width=0.62)
            if count > 0.06 * total:
                box = {"boxstyle": "round,pad=0.15", "facecolor": "white", "edgecolor": "none"} if hatch else None
                axis.text(x, base + count / 2, f"{count:,.0f}", ha="center", va="center", size=SMALL, bbox=box)
            base += count
    labels = [f"{WEIGHTS[name]}\nJaccard {float(rows[name]['jaccard']):.2f}" for name in names]
    axis.set_xticks(range(len(names)), labels, fontsize=SMALL)
    axis.tick_params(axis="x", length=0)
    axis.set_xlim(-0.6, len(names) - 0.4)
    axis.set_ylabel("edges of the circuit")
    axis.set_title("kept, lost and new edges", loc="left", fontsize=SMALL + 1, pad=12)
    axis.locator_params(axis="y", nbins=5)
