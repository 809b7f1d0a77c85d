"""Table method_comparison and the points of figure faithfulness_curves, from the rows of `circuits.comparison`.

Relations weigh equally where they are pooled (relation `all`); the interval resamples whole relations then, and prompts
within one relation.
"""

from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd

from knowcirc.circuits.evaluation import areas
from knowcirc.statistics import Interval, bootstrap, columns, pooled, proportion

POOLED = "all"


def method_comparison(rows: pd.DataFrame, seconds: Mapping[str, Mapping[str, float]], model: str) -> pd.DataFrame:
    """Table method_comparison: a row a method for all relations together, then a row a method and relation.

    n_edges, edge_share and seconds (of discovery, a relation) are medians over relations; `seconds` holds them by
    method and relation, a method that is not in it (random) has none. n_dropped counts the edges on no path from input
    to logits (median), n_constant the relations of whose circuit no edge is left: its output is the same for every
    prompt. n counts the prompts of faithfulness, completeness, CPR and CMD, n_test those of hit@k.
    """
    hit = next(name for name in rows["measure"].unique() if name.startswith("hit_at_"))
    table = []
    for relation, method, part in _parts(rows):
        own = part[part["size"].isna()]
        circuits = own.drop_duplicates("relation")
        spent = [seconds[method][name] for name in circuits["relation"]] if method in seconds else []
        hits, kept, rest = (own[own["measure"] == name] for name in (hit, "faithfulness", "completeness"))
        curves = _curves(part)
        cpr, cmd = areas(list(curves.columns), curves.to_numpy(dtype=float))
        names = curves.index.get_level_values("relation")
        table.append(
            {
                "model": model,
                "method": method,
                "relation": relation,
                "n_edges": float(circuits["n_edges"].median()),
                "edge_share": float(circuits["edge_share"].median()),
                "n_dropped": float(circuits["n_dropped"].median()),
                "n_constant": int((circuits["n_dropped"] == circuits["n_edges"]).sum()),
                **columns(hit, _interval(hits["value"], hits["relation"], share=True)),
                **columns("faithfulness", _interval(kept["value"], kept["relation"])),
                **columns("completeness", _interval(rest["value"], rest["relation"])),
                **columns("cpr", _interval(cpr, names)),
                **columns("cmd", _interval(cmd, names)),
                "seconds": float(np.median(spent)) if spent else None,
                "n": len(kept),
                "n_test": len(hits),
                "n_relations": len(circuits),
            }
        )
    return pd.DataFrame(table)


def faithfulness_points(rows: pd.DataFrame) -> pd.DataFrame:
    """Points of the figure: a row a method, relation (or `all`) and size, with faithfulness and its interval.

    size is the share of the edges asked for, none for the method's own circuit; n_edges and edge_share are what the
    circuits hold (medians over relations); n counts prompts.
    """
    points = []
    for relation, method, part in _parts(rows[rows["measure"] == "faithfulness"]):
        for size, group in part.groupby("size", dropna=False, sort=True):
            circuits = group.drop_duplicates("relation")
            points.append(
                {
                    "method": method,
                    "relation": relation,
                    "size": size,
                    "n_edges": float(circuits["n_edges"].median()),
                    "edge_share": float(circuits["edge_share"].median()),
                    **columns("faithfulness", _interval(group["value"], group["relation"])),
                    "n": len(group),
                    "n_relations": len(circuits),
                }
            )
    return pd.DataFrame(points)


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
    """Faithfulness, a row a (relation, prompt), a column a size."""
    sized = part[(part["measure"] == "faithfulness") & part["size"].notna()]
    return sized.pivot(index=["relation", "prompt"], columns="size", values="value")


def _interval(values: Iterable[float], relations: Iterable[str], *, share: bool = False) -> Interval:
    """The mean with its interval: over relations where there are several, else over prompts."""
    cases, groups = list(values), list(relations)
    if len(set(groups)) > 1:
        return pooled(cases, groups)
    return proportion([case == 1 for case in cases]) if share else bootstrap(cases)
