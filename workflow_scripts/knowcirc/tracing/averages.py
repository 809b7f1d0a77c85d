"""Traces of many facts as tables: rows of one trace, and average indirect effects by token role and layer."""

import itertools
from collections.abc import Iterable, Mapping
from typing import Any, Literal

import pandas as pd

from knowcirc.facts.prompts import ROLES, Prompt, token_roles
from knowcirc.statistics import bootstrap, columns
from knowcirc.tracing.causal import KINDS, SEVERED, Trace, TraceSettings, tabulate
from knowcirc.tracing.noise import Sample
from knowcirc.tracing.pooling import average_tokens
from knowcirc.tracing.settings import FITTED, Pooling

SEVERED_AT: Literal["subject_last"] = "subject_last"
"""The token at which the study runs severed runs (ROME Fig. 3); none but theirs stand in its table."""


def settings_of(tracing: Mapping[str, Any], sample: Sample) -> TraceSettings:
    """The settings of a study, from its configuration `tracing` and the sample of tokens that sets the noise."""
    fitted = tracing["distribution"] == FITTED
    return TraceSettings(
        noise=tracing["noise_multiplier"] * (1.0 if fitted else sample.deviation),
        draws=tracing["draws"],
        window=tracing["window"],
        seed=tracing["noise_seed"],
        kinds=(*KINDS, *(kind for kind in SEVERED if kind.removeprefix("severed_") in tracing["severed"])),
        distribution=tracing["distribution"],
        extra=tracing["extra"],
        severed_at=SEVERED_AT,
        fitted_to=sample.tokens if fitted else (),
    )


def trace_rows(trace: Trace, prompt: Prompt, tokens: list[str]) -> list[dict[str, object]]:
    """A trace as rows, each with the prompt, the token's role and the probabilities of the two runs.

    The prompt has a subject; `tokens` are its tokens as text.
    """
    low, high = prompt.span or (0, 0)
    roles = token_roles(len(prompt.ids), (low, high))
    shared = {
        "prompt": prompt.text,
        "answer": prompt.answer_text,
        "p_clean": trace.p_clean,
        "p_corrupted": trace.p_corrupted,
    }
    rows = []
    for row in tabulate(trace, tokens):
        position = int(str(row["position"]))
        role = roles[position] if position >= 0 else None
        rows.append({**shared, **row, "role": role, "in_subject": low <= position < high})
    return rows


def causal_effects(traces: pd.DataFrame, model: str, pooling: Pooling = "facts") -> pd.DataFrame:
    """Table causal_effects: average indirect effects by kind, role and layer, and the average total effect.

    With `pooling` facts, positions of one role (the subject's middle, further tokens) are averaged within a fact first,
    a token has one role, and a fact's effect is counted from its own corrupted run. With tokens, as in ROME's code,
    every position of a role weighs the same; a subject of one token is its first and its last, and one token behind the
    subject the first subsequent and the last; the mean probability of the corrupted runs of all facts is taken off.
    n counts facts that have the role.
    """
    average = _average if pooling == "facts" else average_tokens
    rows = average(traces, KINDS, ROLES)
    total = bootstrap(traces.loc[traces.kind == "total", "effect"].tolist())
    rows.append({"kind": "total", "role": None, "layer": None, **columns("effect", total), "n": total.n})
    return _named(pd.DataFrame(rows), model)


def causal_effects_severed(traces: pd.DataFrame, model: str) -> pd.DataFrame:
    """Table causal_effects_severed: average effects of restored states at the subject's last token, one row per layer.

    `severed` says what keeps its corrupted values at that token above the restored layer: none, mlp or attention.
    Parts that the traces do not sever have no rows.
    """
    names = {"state": "none", "severed_mlp": "mlp", "severed_attention": "attention"}
    frame = pd.DataFrame(_average(traces, names, (SEVERED_AT,)))
    frame.insert(1, "severed", frame["kind"].map(names))
    return _named(frame.assign(kind="state"), model)


def counterfactual_effects(counterfactuals: pd.DataFrame, traces: pd.DataFrame, model: str) -> pd.DataFrame:
    """Table counterfactual_traces: average effects with another subject in place of noise, and with noise beside them.

    Both are of the same facts. Positions of one role are averaged within a fact first; n counts facts that have the
    role.
    """
    frames = []
    for name, part in (("effect", counterfactuals), ("noise", traces[traces["case"].isin(counterfactuals["case"])])):
        rows = _average(part, KINDS, ROLES)
        total = bootstrap(part.loc[part.kind == "total", "effect"].tolist())
        rows.append({"kind": "total", "role": None, "layer": None, **columns("effect", total), "n": total.n})
        frames.append(pd.DataFrame(rows).rename(columns=lambda column, name=name: column.replace("effect", name)))
    one, other = frames
    return _named(one.drop(columns="n").merge(other, on=["kind", "role", "layer"], validate="one_to_one"), model)


def _average(traces: pd.DataFrame, kinds: Iterable[str], roles: Iterable[str]) -> list[dict[str, object]]:
    """Mean effects with intervals, by kind, role and layer."""
    sites = traces[traces["role"].notna()]
    within = sites.groupby(["kind", "role", "layer", "case"], as_index=False)["effect"].mean()
    groups = within.groupby(["kind", "role", "layer"])["effect"]
    values = {key: group.tolist() for key, group in groups}
    layers = range(int(traces["layer"].max()) + 1)
    rows: list[dict[str, object]] = []
    for kind, role, layer in itertools.product(kinds, roles, layers):
        if (kind, role, layer) in values:
            interval = bootstrap(values[kind, role, layer])
            rows.append({"kind": kind, "role": role, "layer": layer, **columns("effect", interval), "n": interval.n})
    return rows


def _named(frame: pd.DataFrame, model: str) -> pd.DataFrame:
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
