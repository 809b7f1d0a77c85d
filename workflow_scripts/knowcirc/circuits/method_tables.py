"""Table method_comparison and the points of figure faithfulness_curves, from the rows of `circuits.method_scores`.

Relations weigh equally where they are pooled (relation `all`); the interval resamples whole relations then, and prompts
within one relation.
"""

from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd
from jaxtyping import Shaped
from numpy import ndarray

from knowcirc.circuits.choices import ABLATIONS
from knowcirc.circuits.evaluation import areas
from knowcirc.statistics import (
    NOTHING,
    Interval,
    Picks,
    Statistic,
    bootstrap,
    columns,
    paired_bootstrap,
    pooled,
    proportion,
)

POOLED = "all"
COSTS = ("seconds", "passes")


Costs = Mapping[str, Mapping[str, Mapping[str, float]]]
"""Seconds and passes, by method and relation."""


def method_comparison(rows: pd.DataFrame, costs: Costs, model: str) -> pd.DataFrame:
    """Table method_comparison: one row per method and ablation for all relations together, then one for each relation.

    hit@k is that of the method's own circuit, then, without intervals, that of its circuits of each size
    (`hit_at_10_size_0.05`: 5 % of the edges). So is faithfulness of these sizes, under every ablation, of means over
    prompts (`_kept`). Faithfulness and completeness of the own circuit, CPR and CMD are measured under patching and
    stand in the rows of that ablation; CPR and CMD are MIB's, of the means over prompts (`_mib`). n_edges, edge_share,
    seconds (of discovery, a relation) and passes are medians over relations; `costs` holds the last two, and a
    method that is not in it (random) has none. n_dropped counts the edges on no path from input to logits (median),
    n_constant the relations of whose circuit no edge is left: its output is the same for every prompt. n counts the
    prompts of faithfulness and its kin, which have a partner, n_test those of hit@k.
    """
    hit = next(name for name in rows["measure"].unique() if name.startswith("hit_at_"))
    sizes = sorted(rows.loc[rows["measure"] == hit, "size"].dropna().unique())
    table = []
    for relation, method, whole in _parts(rows):
        circuits = whole[whole["size"].isna()].drop_duplicates("relation")
        spent = [costs[method][name] for name in circuits["relation"]] if method in costs else []
        for ablation in ABLATIONS:
            part = whole[whole["ablation"] == ablation]
            hits = part[part["measure"] == hit]
            row: dict[str, object] = {"model": model, "method": method, "relation": relation, "ablation": ablation}
            row |= {name: float(circuits[name].median()) for name in ("n_edges", "edge_share", "n_dropped")}
            row |= {"n_constant": int((circuits["n_dropped"] == circuits["n_edges"]).sum())}
            row |= columns(hit, _of(hits[hits["size"].isna()], share=True))
            row |= {f"{hit}_size_{size:g}": _of(hits[hits["size"] == size]).value for size in sizes}
            row |= {f"faithfulness_size_{size:g}": _kept(part, size) for size in sizes}
            row |= _under_patching(part if ablation == "patch" else part.iloc[:0])
            row |= {what: float(np.median([one[what] for one in spent])) if spent else None for what in COSTS}
            row |= {"n": int((part["measure"] == "logit_diff_model").sum())}
            table.append({**row, "n_test": int(hits["size"].isna().sum()), "n_relations": len(circuits)})
    return pd.DataFrame(table)


def _kept(part: pd.DataFrame, size: float) -> float:
    """Faithfulness of the circuits of a size, the ratio of means over prompts; the mean over relations."""
    found = []
    for _, group in part.groupby("relation"):
        of_size = group[(group["measure"] == "logit_diff") & (group["size"] == size)]["value"]
        if of_size.empty:
            continue
        whole, empty = (group[group["measure"] == f"logit_diff_{name}"]["value"].mean() for name in ("model", "empty"))
        found.append((of_size.mean() - empty) / (whole - empty))
    return float(np.mean(found)) if found else float("nan")


def _under_patching(part: pd.DataFrame) -> dict[str, object]:
    """Faithfulness and completeness of the own circuit, CPR and CMD; empty where nothing was patched."""
    own = part[part["size"].isna()]
    row: dict[str, object] = {}
    for name in ("faithfulness", "completeness"):
        row |= columns(name, _of(own[own["measure"] == name]))
    cpr, cmd = _mib(part)
    return {**row, **columns("cpr", cpr), **columns("cmd", cmd)}


def curve_points(rows: pd.DataFrame) -> pd.DataFrame:
    """Points of the figure: one row per panel (ablation and measure), method, relation (or `all`) and size.

    Panels: hit@k under zero and under mean ablation, faithfulness under patching. size is the share of the edges asked
    for, none for the method's own circuit; n_edges and edge_share are what the circuits hold (medians over relations);
    value, low and high are the measure; n counts prompts.
    """
    patched = (rows["ablation"] == "patch") & (rows["measure"] == "faithfulness")
    alone = (rows["ablation"] != "patch") & rows["measure"].str.startswith("hit_at_")
    points = []
    for relation, method, part in _parts(rows[patched | alone]):
        for (ablation, measure, size), group in part.groupby(["ablation", "measure", "size"], dropna=False):
            circuits = group.drop_duplicates("relation")
            value = _of(group, share=measure != "faithfulness")
            points.append(
                {
                    "ablation": ablation,
                    "measure": measure,
                    **{"method": method, "relation": relation, "size": size},
                    "n_edges": float(circuits["n_edges"].median()),
                    "edge_share": float(circuits["edge_share"].median()),
                    **{"value": value.value, "low": value.low, "high": value.high},
                    "n": len(group),
                    "n_relations": len(circuits),
                }
            )
    return pd.DataFrame(points)


def _of(rows: pd.DataFrame, *, share: bool = False) -> Interval:
    return _interval(rows["value"], rows["relation"], share=share)


def _parts(rows: pd.DataFrame) -> list[tuple[str, str, pd.DataFrame]]:
    """(relation, method, rows) of all relations together, then of each, methods in the order of the rows."""
    found = []
    methods, relations = rows["method"].unique(), rows["relation"].unique()
    for relation in (POOLED, *relations):
        for method in methods:
            part = rows[(rows["method"] == method) & ((rows["relation"] == relation) | (relation == POOLED))]
            if not part.empty:
                found.append((str(relation), str(method), part))
    return found


def _mib(part: pd.DataFrame) -> tuple[Interval, Interval]:
    """(CPR, CMD) as MIB defines them: of F, the ratio of means over prompts.

    CPR is of the edges of the highest scores, CMD of those of the highest absolute scores; where a method does not
    score all edges, both are of its circuits of each size. The interval resamples prompts, the same of all runs; of
    several relations it resamples relations.
    """
    areas_of = [_areas(group) for _, group in part.groupby("relation") if "logit_diff" in set(group["measure"])]
    if len(areas_of) > 1:
        cpr, cmd = (bootstrap([float(one[k](None)) for one in areas_of]) for k in (0, 1))
        return cpr, cmd
    if not areas_of:
        return NOTHING, NOTHING
    n = int((part["measure"] == "logit_diff_model").sum())
    cpr, cmd = (paired_bootstrap(statistic, n) for statistic in areas_of[0])
    return cpr, cmd


def _areas(group: pd.DataFrame) -> tuple[Statistic, Statistic]:
    """CPR and CMD of a relation as functions of the prompts drawn."""

    def runs(measure: str) -> pd.DataFrame:
        rows = group[group["measure"] == measure]
        return rows.pivot(index="prompt", columns="size", values="value")

    absolute = runs("logit_diff")
    signed = runs("logit_diff_signed")
    whole, empty = (runs(f"logit_diff_{name}").to_numpy(dtype=float)[:, 0] for name in ("model", "empty"))

    def area(which: int, curves: pd.DataFrame) -> Statistic:
        sizes, m = list(curves.columns), curves.to_numpy(dtype=float)

        def of(picks: Picks) -> Shaped[ndarray, "*draws"]:
            drawn = np.arange(len(m)) if picks is None else picks
            nothing, everything = empty[drawn].mean(-1)[..., None], whole[drawn].mean(-1)[..., None]
            return areas(sizes, (m[drawn].mean(-2) - nothing) / (everything - nothing))[which]

        return of

    return area(0, absolute if signed.empty else signed), area(1, absolute)


def _interval(values: Iterable[float], relations: Iterable[str], *, share: bool = False) -> Interval:
    """The mean with its interval: over relations where there are several, else over prompts."""
    cases, groups = list(values), list(relations)
    if len(set(groups)) > 1:
        return pooled(cases, groups)
    return proportion([case == 1 for case in cases]) if share else bootstrap(cases)
