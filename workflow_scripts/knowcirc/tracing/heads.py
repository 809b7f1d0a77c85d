"""Causal traces of single heads: one head's output at one token is made clean in the corrupted run.

A head's output is what it mixes from the values that it attends to, before the output matrix of its layer. Its clean
value at one position takes the place of the corrupted one; the layer's other heads stay corrupted. So the effects of
all heads of a layer need not add up to that of its attention.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float

from knowcirc.facts.prompts import ROLES, Prompt, token_roles
from knowcirc.models.loading import LanguageModel
from knowcirc.statistics import bootstrap, columns
from knowcirc.tracing.causal import TraceSettings, restore_sites
from knowcirc.tracing.restored import Site

KIND = "head"
MOST = 20  # heads of a role in the table


@dataclass(frozen=True, slots=True)
class HeadTrace:
    """Indirect effects of the heads of some layers on one fact, in probability; 0 before the subject."""

    p_clean: float
    p_corrupted: float
    layers: range
    effects: Float[np.ndarray, "layer head pos"]

    @property
    def total(self) -> float:
        """The total effect: what the corruption takes from the answer's probability."""
        return self.p_clean - self.p_corrupted


def layers_of(n_layers: int, bounds: tuple[int, int] | None) -> range:
    """The layers from the first of `bounds` to that before the second; all without bounds.

    Raises:
        ValueError: if the model has no such layers.
    """
    low, high = bounds or (0, n_layers)
    if not 0 <= low < high <= n_layers:
        raise ValueError(f"layers {low}:{high}: the model has 0:{n_layers}; give A:B within these, A < B")
    return range(low, high)


def trace_heads(
    model: LanguageModel,
    prompt: Prompt,
    settings: TraceSettings,
    *,
    layers: tuple[int, int] | None = None,
    other: Prompt | None = None,
    memory: int | None = None,
) -> HeadTrace:
    """The indirect effect of every head of `layers` at every token on the probability of `prompt.answer[0]`.

    Noise, `other` and `memory` are those of `trace_fact`; the settings' kinds and window are not read.

    Raises:
        ValueError: as `trace_fact`, and if the model lacks some of the layers.
    """
    shape = model.transformer.shape
    chosen = layers_of(shape.n_layers, layers)
    here = [Site.of_head(layer, head) for layer in chosen for head in range(shape.n_heads)]
    first = prompt.span[0] if prompt.span else 0
    sites = dict.fromkeys(range(first, len(prompt.ids)), here)
    found = restore_sites(model, prompt, settings, sites, other=other, memory=memory)
    effects = np.zeros((len(chosen), shape.n_heads, len(prompt.ids)))
    for position, values in found.effects.items():
        effects[:, :, position] = np.array(values).reshape(len(chosen), shape.n_heads)
    return HeadTrace(found.p_clean, found.p_corrupted, chosen, effects)


def head_rows(trace: HeadTrace, prompt: Prompt, tokens: list[str]) -> Iterator[dict[str, object]]:
    """A trace of heads as rows, one a head and position, and the total effect (layer, head and position -1).

    The prompt has a subject; `tokens` are its tokens as text.
    """
    low, high = prompt.span or (0, 0)
    roles = token_roles(len(prompt.ids), (low, high))
    about = {"prompt": prompt.text, "answer": prompt.answer_text}
    about |= {"p_clean": trace.p_clean, "p_corrupted": trace.p_corrupted}  # type: ignore[dict-item]
    place: dict[str, object] = {"layer": -1, "head": -1, "position": -1, "token": "", "role": None, "in_subject": False}
    yield {**about, "kind": "total", **place, "effect": trace.total}
    for index, head, position in np.ndindex(*trace.effects.shape):
        place = {"layer": trace.layers[index], "head": head, "position": position, "token": tokens[position]}
        place |= {"role": roles[position], "in_subject": low <= position < high}
        yield {**about, "kind": KIND, **place, "effect": float(trace.effects[index, head, position])}


def head_averages(traces: pd.DataFrame) -> pd.DataFrame:
    """Average indirect effects of all heads by token role, with intervals; n counts facts that have the role.

    Positions of one role are averaged within a fact first. A row of kind total, without role, has the total effect.
    """
    sites = traces[traces["role"].notna()]
    keys = ["role", "layer", "head"]
    within = sites.groupby([*keys, "case"], as_index=False)["effect"].mean()
    rows: list[dict[str, object]] = []
    for (role, layer, head), part in within.groupby(keys):
        interval = bootstrap(part["effect"].tolist())
        about = {"kind": KIND, "role": role, "layer": layer, "head": head}
        rows.append({**about, **columns("effect", interval), "n": interval.n})
    rows.sort(key=lambda row: (ROLES.index(str(row["role"])), row["layer"], row["head"]))
    total = bootstrap(traces.loc[traces["kind"] == "total", "effect"].tolist())
    rows.append({"kind": "total", "layer": -1, "head": -1, **columns("effect", total), "n": total.n})
    return pd.DataFrame(rows)


def head_effects(traces: pd.DataFrame, model: str) -> pd.DataFrame:
    """Table head_traces: of each token role the `MOST` heads of the largest average effects in size, and the total."""
    averages = head_averages(traces)
    order = averages["role"].map(ROLES.index, na_action="ignore").fillna(len(ROLES))
    averages = averages.assign(order=order, size=averages["effect"].abs()).sort_values(
        ["order", "size"], ascending=[True, False], kind="stable"
    )
    table = averages.groupby("order").head(MOST).reset_index(drop=True)
    single = table["kind"] == KIND
    names = [f"a{layer}.h{head}" for layer, head in zip(table["layer"], table["head"], strict=True)]
    table["head"] = pd.Series(names).where(single)
    table["layer"] = table["layer"].astype("Int64").where(single)
    table = table[["role", "layer", "head", "effect", "effect_low", "effect_high", "n"]]
    table.insert(0, "model", model)
    return table


def shown_heads(traces: pd.DataFrame, examples: int) -> pd.DataFrame:
    """The data of figure head_trace: averages of all heads (case -1), and the first `examples` facts of the traces."""
    cases = sorted(traces["case"].unique())[:examples]
    facts = traces[traces["case"].isin(cases) & (traces["kind"] == KIND)]
    return pd.concat([head_averages(traces).assign(case=-1), facts], ignore_index=True)
