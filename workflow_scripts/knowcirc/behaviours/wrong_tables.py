"""Table hallucination_heads: wrong answers of the right type beside right ones, one row per relation and one of all."""

import logging

import pandas as pd

from knowcirc.statistics import Interval, bootstrap, columns, pooled, proportion

ALL = "all"
LEAST = 3
MEASURES = {
    # column: (kind of case, measure)
    "overtaken_from": ("wrong", "leads_from"),
    "leads_from": ("right", "leads_from"),
    "right_ever_on_top": ("wrong", "ever_on_top"),
    "right_ever_in_first": ("wrong", "ever_in_first"),
    "right_gathers": ("wrong", "gathers"),
    "right_ever_led": ("wrong", "ever_led"),
    "to_subject_wrong": ("wrong", "to_subject"),
    "to_subject_right": ("right", "to_subject"),
    "attends_wrong": ("wrong", "attends"),
    "attends_right": ("right", "attends"),
    "writes_said_wrong": ("wrong", "writes_rival"),
    "writes_right_wrong": ("wrong", "writes_right"),
    "prefers_said_wrong": ("wrong", "prefers_rival"),
    "writes_said_right": ("right", "writes_right"),
    "same_head": ("wrong", "same_head"),
}
MOST_OFTEN = {
    # column: (kind of case, the head that adds most to an answer)
    "said_by_wrong": ("wrong", "said_by"),
    "right_by_wrong": ("wrong", "right_by"),
    "said_by_right": ("right", "said_by"),
}
OF_MOVERS = ("head", "to_subject", "attends", "writes_right", "writes_rival", "prefers_rival")
log = logging.getLogger(__name__)


def hallucination_table(cases: pd.DataFrame, model: str) -> pd.DataFrame:
    """The table; a relation with too few wrong or right cases is in the row of all alone, and named in the log.

    `said_by_wrong` is the head that most often adds most to what the model says in wrong answers, with the share of
    these, `right_by_wrong` the same of the right answer, `said_by_right` the same in right answers. n counts wrong
    answers, n_right right ones, n_mover wrong answers of relations that have a mover. Rows of single relations have
    Wilson or bootstrap intervals over facts, that of all resamples relations.
    """
    lacking = [name for name in OF_MOVERS if name not in cases]  # where no relation has a mover
    cases = cases.assign(**dict.fromkeys(lacking))
    rows = []
    for relation, group in cases.groupby("relation", sort=True):
        counts = group["kind"].value_counts()
        if min(counts.get("wrong", 0), counts.get("right", 0)) < LEAST:
            log.warning("hallucination: %s stands in the row of all alone, with %s cases", relation, counts.to_dict())
            continue
        rows.append(_row(str(relation), group, model))
    rows.append(_row(ALL, cases, model))
    return pd.DataFrame(rows)


def _row(name: str, cases: pd.DataFrame, model: str) -> dict[str, object]:
    heads = cases["head"].dropna().unique()
    row: dict[str, object] = {"model": model, "relation": name, "head": heads[0] if name != ALL and len(heads) else ""}
    for column, (kind, measure) in MEASURES.items():
        part = cases[cases["kind"] == kind].dropna(subset=[measure])
        row |= columns(column, _interval(part, measure, name))
    for column, (kind, measure) in MOST_OFTEN.items():
        counts = cases.loc[cases["kind"] == kind, measure].value_counts().sort_index().sort_values(kind="stable")
        row |= {column: counts.index[-1], f"{column}_share": counts.iloc[-1] / counts.sum()} if len(counts) else {}
    wrong = cases[cases["kind"] == "wrong"]
    n_right, n_mover = int((cases["kind"] == "right").sum()), int(wrong["head"].notna().sum())
    return {**row, "n_right": n_right, "n_mover": n_mover, "n": len(wrong)}


def _interval(part: pd.DataFrame, measure: str, name: str) -> Interval:
    values = part[measure].astype(float).tolist()
    if name == ALL:
        return pooled(values, part["relation"].tolist()) if values else bootstrap([])
    flags = part[measure].map(lambda value: isinstance(value, bool)).all()
    return proportion([bool(value) for value in values]) if flags and values else bootstrap(values)
