"""Table method_comparison and the points of figure faithfulness_curves, from the rows of `circuits.method_scores`.

Relations weigh equally where they are pooled (relation `all`); the interval resamples whole relations then, and prompts
within one relation.
"""

from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd

from knowcirc.circuits.choices import ABLATIONS
from knowcirc.circuits.evaluation import areas
from knowcirc.statistics import Interval, bootstrap, columns, pooled, proportion

POOLED = "all"


def method_comparison(rows: pd.DataFrame, seconds: Mapping[str, Mapping[str, float]], model: str) -> pd.DataFrame:
    """Table method_comparison: one row per method and ablation for all relations together, then one for each relation.

    hit@k is that of the method's own circuit, then, without intervals, that of its circuits of each size
    (`hit_at_10_size_0.05`: 5 % of the edges). Faithfulness, completeness, CPR and CMD are measured under patching and
    stand in the rows of that ablation. n_edges, edge_share and seconds (of discovery, a relation) are medians over
    relations; `seconds` holds them by method and relation, a method that is not in it (random) has none. n_dropped
    counts the edges on no path from input to logits (median), n_constant the relations of whose circuit no edge is
    left: its output is the same for every prompt. n counts the prompts of faithfulness and its kin, n_test those of
    hit@k.
    """
    hit = next(name for name in rows["measure"].unique() if name.startswith("hit_at_"))
    sizes = sorted(rows.loc[rows["measure"] == hit, "size"].dropna().unique())
    table = []
    for relation, method, whole in _parts(rows):
        circuits = whole[whole["size"].isna()].drop_duplicates("relation")
        spent = [seconds[method][name] for name in circuits["relation"]] if method in seconds else []
        for ablation in ABLATIONS:
            part = whole[whole["ablation"] == ablation]
            hits = part[part["measure"] == hit]
            row: dict[str, object] = {"model": model, "method": method, "relation": relation, "ablation": ablation}
            row |= {name: float(circuits[name].median()) for name in ("n_edges", "edge_share", "n_dropped")}
            row |= {"n_constant": int((circuits["n_dropped"] == circuits["n_edges"]).sum())}
            row |= columns(hit, _of(hits[hits["size"].isna()], share=True))
            row |= {f"{hit}_size_{size:g}": _of(hits[hits["size"] == size]).value for size in sizes}
            row |= _under_patching(part) | {"seconds": float(np.median(spent)) if spent else None}
            row |= {"n": int((part[part["size"].isna()]["measure"] == "faithfulness").sum())}
            table.append({**row, "n_test": int(hits["size"].isna().sum()), "n_relations": len(circuits)})
    return pd.DataFrame(table)


def _under_patching(part: pd.DataFrame) -> dict[str, object]:
    """Faithfulness and completeness of the own circuit, CPR and CMD; empty where nothing was patched."""
    own = part[part["size"].isna()]
    row: dict[str, object] = {}
    for name in ("faithfulness", "completeness"):
        row |= columns(name, _of(own[own["measure"] == name]))
    curves = _curves(part)
    cpr, cmd = areas(list(curves.columns), curves.to_numpy(dtype=float))
    names = curves.index.get_level_values("relation")
    return {**row, **columns("cpr", _interval(cpr, names)), **columns("cmd", _interval(cmd, names))}


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


def _curves(part: pd.DataFrame) -> pd.DataFrame:
    """Faithfulness, one row per (relation, prompt), one column per size."""
    sized = part[(part["measure"] == "faithfulness") & part["size"].notna()]
    return sized.pivot(index=["relation", "prompt"], columns="size", values="value")


def _interval(values: Iterable[float], relations: Iterable[str], *, share: bool = False) -> Interval:
    """The mean with its interval: over relations where there are several, else over prompts."""
    cases, groups = list(values), list(relations)
    if len(set(groups)) > 1:
        return pooled(cases, groups)
    return proportion([case == 1 for case in cases]) if share else bootstrap(cases)
