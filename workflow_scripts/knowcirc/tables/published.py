"""The papers' printed numbers beside this run's: table paper_comparison.

`config/published.csv` holds them, as printed and in our unit (shares, bits), each with where it stands. Three kinds of
rows:

| comparison | what stands beside | verdict |
|---|---|---|
| in kind | what another model, on other facts, can be compared in | see below |
| same model | the number of the same model on the same data | within the interval, or outside it |
| none | nothing: a table of another model, and how many numbers it has | another model |

In kind, a level is higher, lower or no different (the printed number lies in the interval); a difference between
editors or parts has the same sign, the opposite sign, or an unclear one. Numbers of the same model whose data this
study does not use say "other facts", those of what it does not run "not run"; both are empty. Nothing here is a
result: what is printed never enters a number of ours.
"""

import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from knowcirc.statistics import DRAWS, NOTHING, Interval, bootstrap, columns
from knowcirc.tables.evidence import FEWEST

OWN, KIND, NONE = "same model", "in kind", "none"
SCORED = ("ES", "PS", "NS")
REUSED = tuple(f"reused_{of}_{part}" for of in ("nodes", "edges") for part in ("first", "second", "direct"))
PEAKS = {"peak_state": "state", "peak_mlp": "mlp", "peak_attention": "attention"}


@dataclass(frozen=True, slots=True)
class Results:
    """This run's tables, and where its relations, records and traced facts come from.

    `questions` holds table zsre_scores by its name, where the study has it.
    """

    known: pd.DataFrame
    circuits: pd.DataFrame
    effects: pd.DataFrame
    editing: pd.DataFrame
    questions: Mapping[str, pd.DataFrame]
    icl: pd.DataFrame
    hops: pd.DataFrame
    both_ways: pd.DataFrame
    edits: Mapping[str, pd.DataFrame]
    relations: str
    records: str
    traced: str

    def uses(self, data: object) -> bool:
        """Whether the study's numbers are of a published number's data (none named: of any)."""
        zsre = "zsre" if self.questions else None
        return data in (self.relations, self.records, self.traced, zsre) or pd.isna(data)


def paper_comparison(model: str, published: pd.DataFrame, **tables: object) -> pd.DataFrame:
    """Table paper_comparison: rows in kind first, then the model's own, then one row per table of other models."""
    results = Results(**tables)  # type: ignore[arg-type]
    own = (published["comparison"] == OWN) & (published["model"] == model)
    rows = [_in_kind(row, results) for row in _rows(published[published["comparison"] == KIND])]
    rows += [_same_model(row, results) for row in _rows(published[own])]
    others = published[(published["comparison"] == OWN) & ~own]
    for (paper, other), group in others.groupby(["paper", "model"], sort=False):
        absent = {"paper": paper, "published_model": other, "measure": f"{len(group)} numbers", "comparison": NONE}
        rows.append({**absent, **columns("ours", NOTHING), "verdict": "another model"})
    table = pd.DataFrame(rows)
    table.insert(0, "model", model)
    order = ["comparison", "paper", "published_model", "measure", "about", "printed", "published"]
    return table[["model", *order, "ours", "ours_low", "ours_high", "difference", "verdict", "n"]]


def _rows(published: pd.DataFrame) -> list[dict[str, object]]:
    return published.to_dict("records")  # type: ignore[return-value]


def _beside(row: Mapping[str, object], ours: Interval, verdict: str) -> dict[str, object]:
    """A published number with ours."""
    value = float(row["value"])  # type: ignore[arg-type]
    named = {key: row[key] for key in ("comparison", "paper", "measure", "about", "printed")}
    named |= {"published_model": row["model"], "published": value, **columns("ours", ours)}
    return {**named, "difference": ours.value - value, "verdict": verdict, "n": ours.n}


def _in_kind(row: Mapping[str, object], results: Results) -> dict[str, object]:
    measure, about, value = str(row["measure"]), str(row["about"]), float(row["value"])  # type: ignore[arg-type]
    ours = IN_KIND[measure](results, about)
    if not ours.n:
        return _beside(row, ours, "not run")
    if ours.n < FEWEST:
        return _beside(row, ours, "unclear" if row["kind"] == "difference" else "no different")
    if row["kind"] == "difference":
        sign = "unclear" if ours.low <= 0 <= ours.high else "same sign" if ours.value * value > 0 else "opposite sign"
        return _beside(row, ours, sign)
    return _beside(row, ours, "higher" if ours.low > value else "lower" if ours.high < value else "no different")


def _same_model(row: Mapping[str, object], results: Results) -> dict[str, object]:
    if not results.uses(row["data"]):
        return _beside(row, NOTHING, "other facts")
    ours = LEVELS[str(row["paper"])](results, str(row["measure"]), str(row["about"]))
    if not ours.n:
        return _beside(row, ours, "not run")
    value = float(row["value"])  # type: ignore[arg-type]
    return _beside(row, ours, "within" if ours.low <= value <= ours.high else "outside")


# -- ours, number by number ---------------------------------------------------------------------------------------


def _cell(rows: pd.DataFrame, column: str) -> Interval:
    """The one row's value with its interval; a number without one is its own."""
    if len(rows) != 1 or pd.isna(rows.iloc[0][column]):
        return NOTHING
    row = rows.iloc[0]
    value = float(row[column])
    low, high = (float(row.get(f"{column}_{end}", value)) for end in ("low", "high"))
    n = row.get("n", row.get("n_val" if column.startswith("d_val") else "n_test"))
    return Interval(value, low, high, int(n))


def _known(results: Results, measure: str, relation: str) -> Interval:
    return _cell(results.known[results.known["relation"] == relation], measure)


def _exact(results: Results, measure: str, relation: str) -> Interval:
    """Of the paper's own method: exact ACDC, judged alone under zero ablation; its edges count Q, K and V once."""
    rows = results.circuits
    rows = rows[(rows["method"] == "acdc") & (rows["ablation"] == "zero") & (rows["relation"] == relation)]
    return _cell(rows, "n_edges_merged" if measure == "n_edges" else measure)


def _edited(results: Results, measure: str, editor: str) -> Interval:
    rows = results.editing[results.editing["editor"] == editor]
    return _cell(rows, measure)


def _asked(results: Results, measure: str, editor: str) -> Interval:
    rows = results.questions["zsre_scores"]
    return _cell(rows[rows["editor"] == editor], measure)


def _traced(results: Results, measure: str, role: str) -> Interval:
    effects = results.effects
    if measure == "total_effect":
        return _cell(effects[effects["kind"] == "total"], "effect")
    rows = effects[(effects["kind"] == PEAKS[measure]) & (effects["role"] == role)]
    return _cell(rows[rows["effect"] == rows["effect"].max()].head(1), "effect")


LEVELS: dict[str, Callable[[Results, str, str], Interval]] = {
    "KC Table 1": _exact,
    "KC Table 6": _known,
    "ROME Table 4": _edited,
    "ROME Table 5": _edited,
    "ROME Table 1": _asked,
    "ROME Table 6": _asked,
    "ROME 2.2": _traced,
}


def _alone(measure: str) -> Callable[[Results, str], Interval]:
    """Mean over the relations' circuits of the first method, alone under zero ablation."""

    def read(results: Results, _: str) -> Interval:
        rows = results.circuits
        rows = rows[(rows["method"] == rows["method"].iloc[0]) & (rows["ablation"] == "zero")]
        return bootstrap(rows[measure].dropna().tolist())

    return read


def _mean(table: str, more: str, less: str | None = None) -> Callable[[Results, str], Interval]:
    """Mean over a table's rows of a column, or of its difference to another."""

    def read(results: Results, _: str) -> Interval:
        rows = getattr(results, table)
        values = rows[more] - (0.0 if less is None else rows[less])
        return bootstrap(values.dropna().tolist())

    return read


def _gap(measure: str) -> Callable[[Results, str], Interval]:
    """A score of one editor less that of another, over the same records; S is that of the resampled records' means."""

    def read(results: Results, about: str) -> Interval:
        names = about.split(" less ")
        if not set(names) <= set(results.edits):
            return NOTHING
        frames = [results.edits[name].set_index("case") for name in names]
        if measure != "S":
            return bootstrap((frames[0][measure] - frames[1][measure]).dropna().tolist())
        return harmonic_gap(*(frame.loc[frames[0].index, list(SCORED)].to_numpy() for frame in frames))

    return read


def harmonic_gap(one: np.ndarray, other: np.ndarray) -> Interval:
    """S of one editor less S of another: harmonic means of the columns' means, with records resampled in pairs."""

    def gap(picks: np.ndarray) -> float:
        means = (np.clip(scores[picks].mean(0), 0.0, 1.0) for scores in (one, other))
        first, second = (statistics.harmonic_mean(mean.tolist()) for mean in means)
        return first - second

    draws = np.random.default_rng(0).integers(0, len(one), (DRAWS, len(one)))
    low, high = np.percentile([gap(picks) for picks in draws], [2.5, 97.5])
    return Interval(gap(np.arange(len(one))), float(low), float(high), len(one))


def _mlp_less_attention(results: Results, role: str) -> Interval:
    return _between(results, "peak_mlp", "peak_attention", role, lambda one, other: one - other)


def _state_of_total(results: Results, role: str) -> Interval:
    """Nothing where the total effect may be zero: its share would be any number."""
    if not _traced(results, "total_effect", role).low > 0:
        return NOTHING
    return _between(results, "peak_state", "total_effect", role, lambda one, other: one / other)


def _between(results: Results, one: str, other: str, role: str, join: Callable[[float, float], float]) -> Interval:
    """Two average effects joined, with the widest bounds that their intervals allow."""
    first, second = _traced(results, one, role), _traced(results, other, role)
    if not first.n or not second.n:
        return NOTHING
    ends = [join(a, b) for a in first[1:3] for b in second[1:3]]
    return Interval(join(first.value, second.value), min(ends), max(ends), first.n)


IN_KIND: dict[str, Callable[[Results, str], Interval]] = {
    **{name: _alone(name) for name in ("d_val_circuit", "d_test_circuit", "d_test_random")},
    **{name: _mean("hops", name) for name in REUSED},
    "reused_nodes_first_less_second": _mean("hops", "reused_nodes_first", "reused_nodes_second"),
    "reused_edges_first_less_second": _mean("hops", "reused_edges_first", "reused_edges_second"),
    "reused_nodes_both_ways": _mean("both_ways", "reused_nodes_both_ways"),
    "icl_heads": _mean("icl", "p_random_heads_ablated", "p_icl_heads_ablated"),
    **{f"{name}_gap": _gap(name) for name in ("S", *SCORED)},
    "question_efficacy_gap": _gap("question_efficacy"),
    "question_paraphrase_gap": _gap("question_paraphrase"),
    "peak_mlp_less_attention": _mlp_less_attention,
    "peak_state_of_total": _state_of_total,
}
