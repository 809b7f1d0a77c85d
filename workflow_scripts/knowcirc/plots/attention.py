"""Parts that several figures share: a head's attention over the prompt, and the tokens its output raises."""

from collections.abc import Collection, Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes

from knowcirc.plots.style import BLUE, GREY, SMALL, token_label


def bar_limit(attentions: Sequence[Sequence[float]]) -> float:
    """Upper end, in percent, of the axes that compare these heads' attention (lists of 0 to 1 over tokens).

    Heads park attention on the first token; where that dwarfs the rest, the axis ends above the rest.
    """
    first = max(float(values[0]) for values in attentions)
    rest = max((float(value) for values in attentions for value in values[1:]), default=0.0)
    return 125 * (rest if first > 1.6 * rest > 0 else max(first, rest, 1e-5))


def attention_bars(
    axis: Axes,
    tokens: Sequence[str],
    attention: Sequence[float],
    *,
    color: str = BLUE,
    marked: Collection[int] = (),
    label: bool = True,
    top: float | None = None,
) -> None:
    """Draw the attention (0 to 1) from the last position over the prompt's tokens as bars, in percent up to `top`.

    Bars higher than the axis are hatched and carry their value. Bars at the positions `marked` are coloured, all
    others grey (all are coloured where none is marked). Without `top`, `bar_limit` chooses it.
    """
    values = 100 * np.asarray(attention, dtype=float)
    top = bar_limit([attention]) if top is None else top
    colors = [color if not marked or i in marked else "#b5b5b5" for i in range(len(values))]
    bars = axis.bar(range(len(values)), np.minimum(values, top), color=colors, width=0.78)
    for i in np.flatnonzero(values > top).tolist():
        bars[i].set(hatch="////", edgecolor="white", linewidth=0)
        text = f"{values[i]:.0f} %"
        axis.annotate(text, (i, top), (0, 1), textcoords="offset points", ha="center", va="bottom", size=SMALL - 1)
    axis.set_ylim(0, top)
    axis.set_xlim(-0.6, len(values) - 0.4)
    size = SMALL if len(values) <= 16 else SMALL - 1
    texts = [token_label(token, 13) for token in tokens]
    axis.set_xticks(range(len(values)), texts, rotation=60, ha="right", rotation_mode="anchor", fontsize=size)
    axis.tick_params(axis="x", length=0, pad=2)
    axis.locator_params(axis="y", nbins=4)
    if label:
        axis.set_ylabel("attention (%)", fontsize=SMALL + 0.5)


def token_list(
    axis: Axes,
    tokens: Sequence[str],
    colors: Mapping[str, str],
    *,
    title: str = "writes",
    most: int = 8,
    height: float = 1.0,
) -> None:
    """List the tokens that a head's output raises most, the first on top, in an axis without frame.

    `colors` gives tokens (compared without spaces around them) a coloured, bold label. The list begins at `height`
    of the axis, above 1 where the axis is low.
    """
    axis.set_axis_off()
    axis.set_xlim(0, 1)
    axis.set_ylim(0, 1)
    axis.text(0, height, title, size=SMALL, color="#555555", va="top")
    step = height / (most + 1)
    for row, token in enumerate(list(tokens)[:most]):
        color = next((c for key, c in colors.items() if _same(token, key)), None)
        box = {"boxstyle": "round,pad=0.18", "facecolor": color, "edgecolor": "none"} if color else None
        axis.text(0, height - step * (row + 1.1), f"{row + 1}", size=SMALL - 1, color=GREY, va="top")
        axis.text(
            0.13,
            height - step * (row + 1.1),
            token_label(token, 15),
            size=SMALL,
            va="top",
            color="white" if color else "black",
            weight="bold" if color else "normal",
            bbox=box,
        )


def _same(token: str, answer: str) -> bool:
    return token.strip() == answer.strip() != ""
