"""Integrated gradients of many facts as tables: rows of one fact, and averages by token role and layer."""

from collections.abc import Iterable, Iterator

import pandas as pd

from knowcirc.facts.prompts import ROLES, Prompt, token_roles
from knowcirc.statistics import bootstrap, columns
from knowcirc.tracing.saliency import Saliency
from knowcirc.tracing.settings import ACTIVATIONS

MEASURES = ("saliency", "attribution")


def saliency_rows(found: Iterable[Saliency], prompt: Prompt, tokens: list[str]) -> Iterator[dict[str, object]]:
    """A row for each kind, layer (-1: embeddings) and position, with the token, its role and the three measures.

    The prompt has a subject; `tokens` are its tokens as text.
    """
    low, high = prompt.span or (0, 0)
    roles = token_roles(len(prompt.ids), (low, high))
    shared = {"prompt": prompt.text, "answer": prompt.answer_text}
    for one in found:
        about = {**shared, "kind": one.kind, "layer": one.layer, "missing": one.missing}
        for position, (norm, total) in enumerate(zip(one.norms.tolist(), one.sums.tolist(), strict=True)):
            place = {"position": position, "token": tokens[position], "role": roles[position]}
            inside = low <= position < high
            yield {**about, **place, "in_subject": inside, "saliency": norm, "attribution": total}


def saliency_table(gradients: pd.DataFrame, model: str) -> pd.DataFrame:
    """Table saliency: averages over facts by kind, role and layer (empty: embeddings), beside causal_effects.

    Positions of one role are averaged within a fact first; n counts facts that have the role. `missing` is the mean
    size, over all facts, of what the sums lack, one number for a kind and layer.
    """
    keys = ["kind", "role", "layer"]
    sites = gradients[gradients["role"].notna()]
    within = sites.groupby([*keys, "case"], as_index=False)[list(MEASURES)].mean()
    missing = gradients.drop_duplicates(["kind", "layer", "case"])
    sizes = missing["missing"].abs().groupby([missing["kind"], missing["layer"]]).mean()
    rows = []
    for (kind, role, layer), part in within.groupby(keys):
        found = {name: bootstrap(part[name].tolist()) for name in MEASURES}
        spans = {key: value for name, interval in found.items() for key, value in columns(name, interval).items()}
        about = {"model": model, "kind": kind, "role": role, "layer": None if layer < 0 else layer}
        rows.append({**about, **spans, "missing": sizes[kind, layer], "n": len(part)})
    rows.sort(key=lambda row: (ACTIVATIONS.index(row["kind"]), ROLES.index(row["role"]), row["layer"] or 0))
    return pd.DataFrame(rows).astype({"layer": "Int64"})
