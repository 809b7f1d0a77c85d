"""KC's Table 1 from the scores of every relation's circuits: means over relations, and what random circuits leave."""

import numpy as np
import pandas as pd

from knowcirc.statistics import bootstrap, columns

ALL, OPEN, MANY = "all", "over 10 objects", 10
"""Relations of the summary rows, and how many objects a relation of the second has more than."""
BEATS = (
    ("hit_at_10", "d_test_circuit", "d_test_random"),
    ("faithfulness", "faithfulness", "faithfulness_random"),
)


def circuit_table(scores: pd.DataFrame, showcase: pd.DataFrame, model: str) -> pd.DataFrame:
    """Table circuit_hit_at_10: rows of relations, then their means, then the showcase's one fact."""
    order = list(dict.fromkeys(scores["method"]))
    place = scores["method"].map(order.index)
    scores = scores.assign(place=place).sort_values(["place", "category", "relation"], kind="stable")
    scores = scores.drop(columns="place")
    table = pd.concat([scores, summaries(scores), showcase], ignore_index=True)
    for name, found, random in BEATS:
        table[f"{name}_beats_random"] = against_random(table, found, random)
    table.insert(0, "model", model)
    return table


def against_random(table: pd.DataFrame, found: str, random: str) -> list[str]:
    """Whether a circuit's measure lies above that of random circuits: yes or no where the intervals do not overlap.

    Where they do, `unclear`; where there is no value, empty.
    """
    lows, highs = (table[[f"{found}{end}", f"{random}{end}"]].to_numpy(dtype=float) for end in ("_low", "_high"))
    above, below = lows[:, 0] > highs[:, 1], highs[:, 0] < lows[:, 1]
    verdicts = np.where(above, "yes", np.where(below, "no", "unclear"))
    return np.where(np.isnan(lows).any(1), "", verdicts).tolist()


def summaries(table: pd.DataFrame) -> pd.DataFrame:
    """Means over relations, which are resampled for the intervals: one row per method and ablation, twice.

    Relation `all` is all of the table's, `over 10 objects` those with more than ten objects: where there are fewer, ten
    tokens hold them all and hit@10 says little. Counts of prompts are sums, n_relations counts the relations.
    """
    rows = []
    for name, chosen in ((ALL, table), (OPEN, table[table["n_objects"] > MANY])):
        for (method, ablation), part in chosen.groupby(["method", "ablation"], sort=False):
            row: dict[str, object] = {"category": ALL, "relation": name, "method": method, "ablation": ablation}
            for column in part.columns.difference(list(row), sort=False):
                if column in ("n_val", "n_test", "n_scored", "n_pairs", "n_relations"):
                    row[column] = int(part[column].sum())
                elif f"{column}_low" in part:
                    row |= columns(column, bootstrap(part[column].dropna().tolist()))
                elif not column.endswith(("_low", "_high")):
                    row[column] = part[column].mean()
            rows.append(row)
    return pd.DataFrame(rows, columns=table.columns)
