"""Means over facts, relations and records of what the component studies read: the data of their figures and tables."""

import numpy as np
import pandas as pd

from knowcirc.circuits.methods import STANDING
from knowcirc.editing.editors import UNEDITED
from knowcirc.statistics import Interval, bootstrap, columns, pooled

ALL = "all"
OVERLAPS = ("jaccard_edges", "jaccard_nodes", "shared_edges", "lost_edges", "new_edges")


def average_ranks(rows: pd.DataFrame, model: str) -> pd.DataFrame:
    """Figure average_rank_by_layer: means by position and layer, over all facts and a category at a time.

    Relations weigh alike; intervals resample relations. `rank` is a geometric mean.
    """
    rows = rows.assign(orders=np.log10(rows["rank"]))
    groups = [(ALL, rows), *rows.groupby("category", sort=True)]
    found = []
    for category, group in groups:
        for (position, layer), part in group.groupby(["position", "layer"], sort=False):
            row: dict[str, object] = {"model": model, "category": category, "position": position, "layer": layer}
            rank = _pooled(part, "orders")
            row |= columns("rank", _geometric(rank))
            for name in ("rank_drop_attention", "rank_drop_mlp", "outranks"):
                row |= columns(name, _pooled(part, name))
            found.append({**row, "n": len(part), "n_relations": part["relation"].nunique()})
    return pd.DataFrame(found)


def ranks_of_models(averages: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Figure all_average_rank_by_layer: the rows over all categories of every model's average ranks."""
    rows = pd.concat(averages.values(), ignore_index=True)
    return rows[rows["category"] == ALL]


def _geometric(orders: Interval) -> Interval:
    """Ranks, of the mean of their decimal logarithms."""
    return Interval(10**orders.value, 10**orders.low, 10**orders.high, orders.n)


def _pooled(part: pd.DataFrame, name: str) -> Interval:
    part = part.dropna(subset=[name])
    return pooled(part[name].tolist(), part["relation"].tolist())


def edited_overlap(circuits: pd.DataFrame, model: str) -> pd.DataFrame:
    """Table edited_circuit_overlap: one row per method, editor, edited layer and prompt; means over records, intervals.

    Standing circuits have rows of the unedited model, too: two searches from different seeds. What the mover does is of
    records that have one.
    """
    rows = []
    compared = circuits[(circuits["editor"] != UNEDITED) | (circuits["method"] == STANDING)]
    by = ["method", "editor", "layer", "prompt"]
    for key, group in compared.groupby(by, sort=False):
        row: dict[str, object] = {"model": model, **dict(zip(by, key, strict=True))}
        for name in (*OVERLAPS, "kept_share", "p_true", "p_new", "says_same"):
            row |= columns(name, bootstrap(group[name].astype(float).tolist()))
        moves = group[group["is_mover"].fillna(False).astype(bool)]
        for name in ("to_subject", "writes_new", "writes_true"):
            row |= columns(name, bootstrap(moves[name].dropna().astype(float).tolist()))
        rows.append({**row, "n": len(group)})
    return pd.DataFrame(rows).sort_values("method", kind="stable", ignore_index=True)


def edited_ranks(ranks: pd.DataFrame, model: str) -> pd.DataFrame:
    """Figure edited_rank_by_layer: geometric mean ranks by editor, edited layer, position and layers passed."""
    rows = []
    for (editor, layer, position, passed), group in ranks.groupby(
        ["editor", "layer", "position", "passed"], sort=False
    ):
        row: dict[str, object] = {
            "model": model,
            "editor": editor,
            "layer": layer,
            "position": position,
            "passed": passed,
        }
        for name in ("rank_new", "rank_true"):
            orders = bootstrap(np.log10(group[name]).tolist())
            row |= columns(name, _geometric(orders))
        rows.append({**row, "n": len(group)})
    return pd.DataFrame(rows)
