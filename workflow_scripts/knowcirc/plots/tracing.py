"""Figures of causal tracing (ROME section 2): averages over facts, and single facts with their tokens."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.lines import Line2D
from matplotlib.typing import LineStyleType

from knowcirc.plots.style import (
    BLACK,
    BLUE,
    GREEN,
    ORANGE,
    PURPLE,
    SKY,
    VERMILION,
    banded_line,
    heading,
    layer_ticks,
    new_figure,
    percent,
    styled,
    token_label,
)

KINDS = ("state", "mlp", "attention")
SEVERED = ("severed_mlp", "severed_attention")
KIND_NAMES = {"state": "hidden state", "mlp": "MLP", "attention": "attention"}
MAPS = {"state": "Purples", "mlp": "Greens", "attention": "Oranges", **dict.fromkeys(SEVERED, "Purples")}
SEVERED_LINES: dict[str, tuple[str, str, LineStyleType]] = {
    "none": ("run above intact", BLACK, "-"),
    "mlp": ("MLPs severed above", GREEN, "--"),
    "attention": ("attention severed above", VERMILION, "-."),
}
ROLES = {
    "subject_first": "first subject token",
    "subject_middle": "middle subject tokens",
    "subject_last": "last subject token",
    "first_subsequent": "first subsequent token",
    "further": "further tokens",
    "last": "last token",
}
LINES: dict[str, tuple[str, LineStyleType]] = {
    "subject_first": (SKY, "--"),
    "subject_middle": (GREEN, "-."),
    "subject_last": (VERMILION, "-"),
    "first_subsequent": (ORANGE, "--"),
    "further": (PURPLE, ":"),
    "last": (BLUE, "-"),
}


@styled
def causal_trace(effects: pd.DataFrame, model: str, window: int, pooling: str = "facts") -> Figure:
    """Average indirect effects by layer and token role: heatmaps above, lines with 95 % intervals below.

    ROME Fig. 2 and 7. `effects` has one row per kind (state, mlp, attention), role and layer, with effect, effect_low,
    effect_high (differences of probability, 0 to 1) and n facts, and rows of kind `total` (the average total effect).
    Roles and kinds may be absent. `window` is the number of layers restored together for MLPs and attention, `pooling`
    what the means are over: facts, or tokens of a role.
    """
    kinds = [kind for kind in KINDS if (effects["kind"] == kind).any()]
    single = effects[effects["kind"].isin(kinds)]
    roles = [role for role in ROLES if (single["role"] == role).any()]
    figure = new_figure(4.5 * max(len(kinds), 2), 6.6)
    axes = figure.subplots(2, len(kinds), squeeze=False, height_ratios=(len(roles) * 0.55, 3.4))
    top = 100 * max(float(single["effect_high"].max()), float(single["effect"].max()))
    bottom = 100 * min(0.0, float(single["effect_low"].min()))
    for column, kind in enumerate(kinds):
        rows = single[single["kind"] == kind]
        average_map(axes[0, column], rows, roles, kind_title(kind, window), labels=column == 0)
        _average_lines(axes[1, column], rows, roles)
        axes[1, column].set_ylim(bottom - 0.03 * (top - bottom), top + 0.05 * (top - bottom))
        if column:
            axes[1, column].tick_params(labelleft=False)
    axes[1, 0].set_ylabel("average indirect effect (pp)")
    handles = [Line2D([], [], color=LINES[r][0], linestyle=LINES[r][1], label=ROLES[r]) for r in roles]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), title="token restored")
    heading(
        figure,
        f"Causal tracing: where {model} recalls facts",
        f"{_totals(effects)} Effect: p(answer) with one activation restored, less that with the subject corrupted, in "
        f"percentage points (pp). Lines: mean over {pooling}; bands: 95 % intervals.",
    )
    return figure


def _totals(effects: pd.DataFrame) -> str:
    total = effects[effects["kind"] == "total"]
    n = int(effects["n"].max())
    if total.empty:
        return f"n = {n} facts."
    row = total.iloc[0]
    span = f"[{100 * row['effect_low']:.1f}, {100 * row['effect_high']:.1f}]"
    return f"n = {n} facts, average total effect {100 * row['effect']:.1f} pp {span}."


def kind_title(kind: str, window: int) -> str:
    if kind in SEVERED:
        return f"state, {KIND_NAMES[kind.removeprefix('severed_')]} severed"
    name = KIND_NAMES[kind]
    if kind == "state":
        return f"single {name}"
    return f"{name}, single layer" if window == 1 else f"{name}, window of {window} layers"


def average_map(
    axis: Axes, rows: pd.DataFrame, roles: list[str], title: str, *, labels: bool, high: float | None = None
) -> None:
    """Draw effects (0 to 1, in column effect) by role and layer in percentage points; colours end at `high` of them."""
    table = rows.pivot(index="role", columns="layer", values="effect").reindex(roles)
    values = 100 * table.to_numpy(dtype=float)
    layers = [int(layer) for layer in table.columns]
    best = np.unravel_index(int(np.nanargmax(values)), values.shape)
    peaks = _peaks(values, roles, layers)
    names = [ROLES[role] for role in roles]
    heatmap(axis, values, layers, str(rows["kind"].iloc[0]), 0.0, "effect (pp)", high)
    axis.plot(best[1], best[0], marker="o", markersize=4, markerfacecolor="white", markeredgecolor=BLACK, clip_on=False)
    axis.set_yticks(range(len(names)), names if labels else [""] * len(names))
    axis.set_title("\n".join([title, *peaks]), loc="left")


def _peaks(values: np.ndarray, roles: list[str], layers: list[int]) -> list[str]:
    """The two roles with the highest peaks, as texts."""
    best = np.where(np.isnan(values), -np.inf, values).max(1)
    order = np.argsort(-best, kind="stable")[:2]
    texts = [
        f"{np.nanmax(values[i]):.1f} pp: {ROLES[roles[i]]}, layer {layers[int(np.nanargmax(values[i]))]}" for i in order
    ]
    return [f"{word} {text}" for word, text in zip(("peak", "then"), texts, strict=False)]


def heatmap(
    axis: Axes, values: np.ndarray, layers: list[int], kind: str, low: float, unit: str, high: float | None = None
) -> None:
    """Draw tokens or roles (rows) x layers (columns) with a colour bar from `low` to `high` (the largest value)."""
    high = max(float(np.nanmax(values)) if high is None else high, low + 1e-6)
    image = axis.imshow(values, aspect="auto", cmap=MAPS[kind], vmin=low, vmax=high, interpolation="nearest")
    ticks = [i for i, layer in enumerate(layers) if layer in layer_ticks(max(layers) + 1)]
    axis.set_xticks(ticks, [str(layers[i]) for i in ticks])
    axis.set_xlabel("layer (centre of the window)" if kind in ("mlp", "attention") else "layer")
    axis.tick_params(axis="y", length=0)
    below = float(np.nanmin(values)) < low - 1e-9
    bar = axis.figure.colorbar(image, ax=axis, extend="min" if below else "neither", pad=0.02, aspect=22)
    bar.set_label(unit)
    bar.outline.set_visible(False)


def _average_lines(axis: Axes, rows: pd.DataFrame, roles: list[str]) -> None:
    for role in roles:
        _line(axis, rows[rows["role"] == role], *LINES[role])
    layer_axis(axis, rows)


def _line(axis: Axes, rows: pd.DataFrame, color: str, style: LineStyleType) -> None:
    """Mean effects by layer in percentage points, with their intervals as a band."""
    line = rows.sort_values("layer")
    banded_line(axis, line, "layer", "effect", factor=100.0, alpha=0.16, color=color, linestyle=style)


def layer_axis(axis: Axes, rows: pd.DataFrame) -> None:
    axis.axhline(0, color=BLACK, linewidth=0.6)
    axis.set_xlabel("layer (centre of the window)" if rows["kind"].iloc[0] in ("mlp", "attention") else "layer")
    axis.set_xticks(layer_ticks(int(rows["layer"].max()) + 1))
    axis.margins(x=0.02)
    axis.grid(axis="y")


@styled
def causal_trace_severed(effects: pd.DataFrame, model: str) -> Figure:
    """Average indirect effect of single states at the subject's last token by layer, three lines (ROME Fig. 3).

    `effects` has one row per layer and `severed` (none, mlp, attention: what keeps its corrupted values at that token
    above the restored layer; all but none may be absent), with kind, effect, effect_low, effect_high (differences of
    probability, 0 to 1) and n facts.
    """
    figure = new_figure(7.5, 4.4)
    axis = figure.subplots()
    shown = [name for name in SEVERED_LINES if (effects["severed"] == name).any()]
    handles = []
    for name in shown:
        label, color, style = SEVERED_LINES[name]
        rows = effects[effects["severed"] == name]
        best = rows.loc[rows["effect"].idxmax()]
        text = f"{label} (peak {100 * best['effect']:.1f} pp, layer {int(best['layer'])})"
        _line(axis, rows, color, style)
        handles.append(Line2D([], [], color=color, linestyle=style, label=text))
    layer_axis(axis, effects)
    axis.set_ylabel("average indirect effect (pp)")
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles) if len(handles) < 3 else 2)
    heading(
        figure,
        f"Causal tracing with severed paths: {model}",
        f"n = {int(effects['n'].max())} facts. One state at the last subject token is restored; severed: the outputs "
        "of all MLPs (attention layers) above it at that token stay those of the corrupted run. Bands: 95 % intervals.",
    )
    return figure


def shown_traces(traces: pd.DataFrame, examples: int) -> pd.DataFrame:
    """The rows that figure causal_trace_facts shows: the first `examples` cases, nothing severed."""
    return traces[(traces["case"] < examples) & traces["kind"].isin(KINDS)]


@styled
def causal_trace_facts(
    traces: pd.DataFrame,
    model: str,
    window: int,
    corrupted: str = "with the subject corrupted (mean over draws of noise)",
) -> Figure:
    """Causal traces of single facts, token x layer: one row of panels per fact, one column per kind (ROME Fig. 1).

    `traces` has one row per case, kind, layer and position, with token (decoded), in_subject, and effect; and, the
    same in all rows of a case, prompt, subject, answer, p_clean and p_corrupted. The colour is the probability of the
    answer once that activation is restored (p_corrupted + effect). Kinds may be the severed ones, too (ROME Fig. 3).
    `corrupted` says in words what the run reads.
    """
    cases = sorted(int(case) for case in traces["case"].unique())
    lengths = [int(traces.loc[traces["case"] == case, "position"].nunique()) for case in cases]
    heights = [1.35 + 0.185 * length for length in lengths]
    kinds = [kind for kind in (*KINDS, *SEVERED) if (traces["kind"] == kind).any()]
    figure = new_figure(4.2 * max(len(kinds), 2), 1.0 + sum(heights))
    panels = figure.subfigures(len(cases), 1, squeeze=False, height_ratios=heights)
    for panel, case in zip(panels[:, 0], cases, strict=True):
        _fact_row(panel, traces[traces["case"] == case], kinds, window)
    heading(
        figure,
        f"Causal traces of {len(cases)} fact{'s' if len(cases) != 1 else ''} in {model}",
        "Colour: p(answer) with one activation (MLP and attention: a window of layers) restored in the run "
        f"{corrupted}. Bold tokens with * are the subject's.",
    )
    return figure


def _fact_row(panel: SubFigure, rows: pd.DataFrame, kinds: list[str], window: int) -> None:
    first = rows.iloc[0]
    axes = panel.subplots(1, len(kinds), squeeze=False)[0]
    tokens = rows.drop_duplicates("position").sort_values("position")
    for column, (axis, kind) in enumerate(zip(axes, kinds, strict=True)):
        part = rows[rows["kind"] == kind]
        table = part.pivot(index="position", columns="layer", values="effect").reindex(tokens["position"])
        values = 100 * (table.to_numpy(dtype=float) + float(first["p_corrupted"]))
        layers = [int(layer) for layer in table.columns]
        heatmap(axis, values, layers, kind, 100 * float(first["p_corrupted"]), "p(answer), %")
        best = np.unravel_index(int(np.nanargmax(values)), values.shape)
        axis.set_title(f"{kind_title(kind, window)}: max {values[best]:.0f} % at layer {layers[best[1]]}", loc="left")
        labels = [
            token_label(t) + ("*" if s else "") for t, s in zip(tokens["token"], tokens["in_subject"], strict=True)
        ]
        axis.set_yticks(range(len(labels)), labels if column == 0 else [""] * len(labels))
        for label, inside in zip(axis.get_yticklabels(), tokens["in_subject"], strict=True):
            label.set_fontweight("bold" if inside else "normal")
    text = f"“{first['prompt']}” → {str(first['answer']).strip()}"
    scores = f"p(answer): {percent(first['p_clean'])} clean, {percent(first['p_corrupted'])} with the subject corrupted"
    heading(panel, f"{text}    {scores}", size=9.5)
