"""Averages over token roles as ROME's notebook of average effects pools them: every token of a role weighs the same.

| | here | `averages.py`, the default |
|---|---|---|
| several middle or further tokens of a fact | each counts | their mean counts |
| a fact that lacks a role | adds nothing to the role; its corrupted run still counts | adds nothing |
| a subject of one token | first and last subject token | last subject token |
| one token behind the subject | first subsequent and last token | last token |
| effect | mean of restored runs less the mean of all facts' corrupted runs | mean over facts of their differences |
"""

import itertools
from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from knowcirc.statistics import DRAWS, Interval, columns


def average_tokens(traces: pd.DataFrame, kinds: Iterable[str], roles: Iterable[str]) -> list[dict[str, object]]:
    """Mean effects by kind, role and layer, with intervals that resample facts; n counts facts that have the role.

    Rows of `traces` that are of a site are read: case, kind, layer, position from 0, in_subject, effect, p_corrupted.
    """
    sites = traces[traces["position"] >= 0]
    corrupted = sites.groupby("case")["p_corrupted"].first()
    restored = sites.assign(p=sites["effect"] + sites["p_corrupted"])
    parts = {role: dict(list(restored[part].groupby(["kind", "layer"]))) for role, part in _members(sites).items()}
    layers = range(int(traces["layer"].max()) + 1)
    rows: list[dict[str, object]] = []
    for kind, role, layer in itertools.product(kinds, roles, layers):
        if (kind, layer) in parts[role]:
            tokens = parts[role][kind, layer].groupby("case")["p"]
            held = tokens.agg(["sum", "count"]).reindex(corrupted.index, fill_value=0)
            interval = shared_mean(held["sum"].tolist(), held["count"].tolist(), corrupted.tolist())
            rows.append({"kind": kind, "role": role, "layer": layer, **columns("effect", interval), "n": interval.n})
    return rows


def _members(sites: pd.DataFrame) -> dict[str, pd.Series]:
    """Which rows are of a role; a token may have two."""
    inside = sites[sites["in_subject"]].groupby("case")["position"]
    first, end = (sites["case"].map(bound) for bound in (inside.min(), inside.max() + 1))
    last = sites["case"].map(sites.groupby("case")["position"].max())
    at = sites["position"]
    return {
        "subject_first": at == first,
        "subject_middle": (at > first) & (at < end - 1),
        "subject_last": at == end - 1,
        "first_subsequent": at == end,
        "further": (at > end) & (at < last),
        "last": at == last,
    }


def shared_mean(sums: Sequence[float], counts: Sequence[int], less: Sequence[float], seed: int = 0) -> Interval:
    """Mean over things of which each case holds some, less the mean of `less` over the cases; cases are resampled.

    `sums` and `counts` are each case's sum over its things and their number, which may be 0, but not for all; n counts
    the cases that hold one or more. Draws without any such case are left out of the interval.
    """
    total, number, base = (np.asarray(values, dtype=float) for values in (sums, counts, less))
    value = float(total.sum() / number.sum() - base.mean())
    picks = np.random.default_rng(seed).integers(0, len(number), (DRAWS, len(number)))
    picks = picks[number[picks].sum(1) > 0]
    means = total[picks].sum(1) / number[picks].sum(1) - base[picks].mean(1)
    low, high = np.percentile(means, [2.5, 97.5])
    return Interval(value, min(value, float(low)), max(value, float(high)), int((number > 0).sum()))
