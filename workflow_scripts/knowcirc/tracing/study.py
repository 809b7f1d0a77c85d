"""Traces of many facts as tables: rows of one trace, and average indirect effects by token role and layer."""

import pandas as pd

from knowcirc.facts.prompts import ROLES, Prompt, token_roles, token_texts
from knowcirc.models.loading import LanguageModel
from knowcirc.statistics import bootstrap, columns
from knowcirc.tracing.causal import KINDS, TraceSettings, tabulate, trace_fact


def trace_rows(model: LanguageModel, prompt: Prompt, settings: TraceSettings) -> list[dict[str, object]]:
    """A fact's trace as rows, each with the prompt, the token's role and the probabilities of the two runs."""
    trace = trace_fact(model, prompt, settings)
    low, high = prompt.span or (0, 0)
    roles = token_roles(len(prompt.ids), (low, high))
    shared = {
        "prompt": prompt.text,
        "answer": prompt.answer_text,
        "p_clean": trace.p_clean,
        "p_corrupted": trace.p_corrupted,
    }
    rows = []
    for row in tabulate(trace, token_texts(model.text, prompt.ids)):
        position = int(str(row["position"]))
        role = roles[position] if position >= 0 else None
        rows.append({**shared, **row, "role": role, "in_subject": low <= position < high})
    return rows


def causal_effects(traces: pd.DataFrame, model: str) -> pd.DataFrame:
    """Table causal_effects: average indirect effects a kind, role and layer, and the average total effect.

    Positions of one role (the subject's middle, further tokens) are averaged within a fact first. n counts facts
    that have the role.
    """
    rows = []
    sites = traces[traces["role"].notna()]
    within = sites.groupby(["kind", "role", "layer", "case"], as_index=False)["effect"].mean()
    groups = within.groupby(["kind", "role", "layer"])["effect"]
    values = {key: group.tolist() for key, group in groups}
    layers = range(int(traces["layer"].max()) + 1)
    for kind in KINDS:
        for role in ROLES:
            for layer in layers:
                if (kind, role, layer) in values:
                    interval = bootstrap(values[kind, role, layer])
                    rows.append(
                        {"kind": kind, "role": role, "layer": layer, **columns("effect", interval), "n": interval.n}
                    )
    total = bootstrap(traces.loc[traces.kind == "total", "effect"].tolist())
    rows.append({"kind": "total", "role": None, "layer": None, **columns("effect", total), "n": total.n})
    frame = pd.DataFrame(rows)
    frame["layer"] = frame["layer"].astype("Int64")
    frame.insert(0, "model", model)
    return frame


def peaks(effects: pd.DataFrame) -> dict[str, dict[str, object]]:
    """Where each kind's average indirect effect is largest: role, layer, effect with interval, n."""
    result: dict[str, dict[str, object]] = {}
    for kind in KINDS:
        best = effects.loc[effects.loc[effects.kind == kind, "effect"].idxmax()]
        result[kind] = {key: best[key] for key in ("role", "effect", "effect_low", "effect_high")}
        result[kind] |= {"layer": int(best["layer"]), "n": int(best["n"])}
    return result
