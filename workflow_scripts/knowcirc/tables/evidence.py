"""What the papers' claims are read off, and how: one number with its interval each.

Where facts are of several relations, these weigh alike and are resampled; records and compositions are resampled
elsewhere. `n` counts what is resampled.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from knowcirc.statistics import NOTHING, Interval, bootstrap, paired_bootstrap, pooled

MIDDLE = 2 / 3  # of the depth: where early and middle layers end
LOWEST = 1 / 3  # of the depth: the lowest layers
TENTH = 0.1  # of the graph's edges
FIRST = 10  # ranks that count as on top
FEWEST = 5  # of what is resampled, for a verdict: an interval of two values holds the truth half the time
# The editors that a claim is about: the first that a study sees through circuits.
AS_ROME, AS_FT_M = ("rome", "rome-easyedit"), ("ft-m", "ft-m-easyedit")


class AbsentError(LookupError):
    """The study does not run the editor, or the traces, that a claim is about; the message names it."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the claims are read off, all tables of this run with one row per fact, head, relation or record.

    `edits` are the scores record by record, by editor.
    """

    ranks: pd.DataFrame
    heads: pd.DataFrame
    ablation: pd.DataFrame
    traces: pd.DataFrame
    circuits: pd.DataFrame
    edited_ranks: pd.DataFrame
    wrong: pd.DataFrame
    icl: pd.DataFrame
    hops: pd.DataFrame
    both_ways: pd.DataFrame
    alone: pd.DataFrame
    components: pd.DataFrame
    edits: dict[str, pd.DataFrame] = field(default_factory=dict)

    def scores(self, editor: str) -> pd.DataFrame:
        """An editor's scores by record.

        Raises:
            AbsentError: if the study does not run it.
        """
        if editor not in self.edits:
            raise AbsentError(editor)
        return self.edits[editor].set_index("case")


def _of_relations(values: pd.Series) -> Interval:
    """Of values with a level `relation` in their index: n counts the relations."""
    values = values.dropna()
    names = values.index.get_level_values("relation")
    return pooled(values.tolist(), names.tolist())._replace(n=names.nunique()) if len(values) else NOTHING


def _at(evidence: Evidence, position: str) -> pd.DataFrame:
    return evidence.ranks[evidence.ranks["position"] == position]


def gathered_at_subject(evidence: Evidence) -> Interval:
    """What share of other objects the answer leads at the subject, less the same once one layer is passed.

    Known answers are likely objects, which lead others before anything is computed: so 0.5 would be no floor.
    """
    rows = _at(evidence, "subject").set_index(["relation", "subject"])
    late, early = (rows.loc[rows["layer"] == layer, "outranks"] for layer in (round(MIDDLE * rows["layer"].max()), 1))
    return _of_relations(late - early)


def arrival(ranks: pd.Series) -> int:
    """How many layers are passed when the rank is among the first for good; one more than there are if it never is."""
    values = ranks.to_numpy()
    late = np.flatnonzero(values > FIRST)
    return int(late[-1]) + 1 if len(late) else 0


def arrives_late(evidence: Evidence) -> Interval:
    rows = _at(evidence, "last").sort_values("layer")
    depth = rows.groupby(["relation", "subject"], sort=False)["rank"].agg(arrival) / rows["layer"].max()
    return _of_relations(depth)


def rank_drops(evidence: Evidence, position: str, more: str, less: str) -> Interval:
    """Orders of magnitude of rank that one kind of writer takes off at a position, less those of the other."""
    total = _at(evidence, position).groupby(["relation", "subject"], sort=False)[[more, less]].sum()
    return _of_relations(total[more] - total[less])


def mover_depth(evidence: Evidence) -> Interval:
    rows = evidence.heads[evidence.heads["role"].isin(["mover", "mixture"])]
    depth = rows.set_index("relation")["layer"] / (evidence.ranks["layer"].max() - 1)
    return _of_relations(depth)


def ablation(role: str) -> Callable[[Evidence], Interval]:
    def read(evidence: Evidence) -> Interval:
        rows = evidence.ablation[evidence.ablation["role"] == role]
        return bootstrap((rows["p_random"] - rows["p_ablated"]).tolist())

    return read


def sites(role: str, more: str, less: str) -> Callable[[Evidence], Interval]:
    """Indirect effect of one kind of window at a token role, less that of another, each at its own best layer.

    Which layer is best is chosen anew in every draw of relations.
    """

    def read(evidence: Evidence) -> Interval:
        rows = evidence.traces[evidence.traces["role"] == role]
        each = rows.groupby(["kind", "layer", "relation", "case"])["effect"].mean()
        means = each.groupby(["kind", "layer", "relation"]).mean()
        tables = [means[kind].unstack("relation") for kind in (more, less)]  # layer x relation
        both = tables[0].columns.intersection(tables[1].columns)
        values = [table[both].to_numpy() for table in tables]

        def gap(picks: np.ndarray | None) -> np.ndarray:
            best = [np.nanmean(value if picks is None else value[:, picks], -1).max(0) for value in values]
            return np.asarray(best[0] - best[1])

        return paired_bootstrap(gap, len(both)) if len(both) else NOTHING

    return read


def severed_low(evidence: Evidence) -> Interval:
    """Effect of a single state at the subject's last token, attention severed less MLPs severed, in the low layers.

    Raises:
        AbsentError: if the study does not sever both (`tracing.severed`).
    """
    rows = evidence.traces[evidence.traces["role"] == "subject_last"]
    low = rows[rows["layer"] < LOWEST * (rows["layer"].max() + 1)]
    kinds = ("severed_attention", "severed_mlp")
    for kind in kinds:
        if not (low["kind"] == kind).any():
            raise AbsentError(kind)
    by = {kind: low[low["kind"] == kind].groupby(["relation", "case", "layer"])["effect"].mean() for kind in kinds}
    gap = by["severed_attention"] - by["severed_mlp"]
    return _of_relations(gap.groupby(["relation", "case"]).mean())


def rises_later(evidence: Evidence) -> Interval:
    """How many layers later the new object is on top at the last position for each layer that ROME edits later.

    The slope of a record's arrivals (least squares); 1 where it always comes as many layers after the edited one, 0
    where it comes at the same layer whatever is edited. Edits after which it never does have no arrival.
    """
    rows = evidence.edited_ranks.sort_values("passed")
    rows = rows[(rows["editor"] == _need(rows, *AS_ROME)) & (rows["position"] == "last")]
    found = rows.groupby(["case", "layer"])["rank_new"].agg(arrival).reset_index()
    found = found[found["rank_new"] <= rows["passed"].max()]
    slopes = [
        float(np.polyfit(group["layer"], group["rank_new"], 1)[0])
        for _, group in found.groupby("case")
        if group["layer"].nunique() > 1
    ]
    return bootstrap(slopes)


def written_straight(evidence: Evidence) -> Interval:
    """Orders of magnitude of rank that the edited layer's MLP takes off at the last position, FT-M less ROME."""
    rows = evidence.edited_ranks
    rows = rows[(rows["position"] == "last") & (rows["passed"] == rows["layer"] + 1)]
    by = {
        names: rows[rows["editor"] == _need(rows, *names)].set_index(["case", "layer"])["rank_drop_mlp"]
        for names in (AS_FT_M, AS_ROME)
    }
    return _by_case((by[AS_FT_M] - by[AS_ROME]).rename("value").reset_index())


def _by_case(rows: pd.DataFrame) -> Interval:
    """Of the means by record of the column `value`."""
    return bootstrap(rows.groupby("case")["value"].mean().tolist())


def _need(rows: pd.DataFrame, *editors: str) -> str:
    """The first of the editors that has rows."""
    for editor in editors:
        if (rows["editor"] == editor).any():
            return editor
    raise AbsentError(editors[0])


def score_gap(measure: str, more: str, less: str) -> Callable[[Evidence], Interval]:
    """A score of one editor less that of another, record by record; editor `none` is the model as it is."""

    def read(evidence: Evidence) -> Interval:
        scores = (evidence.scores(name)[measure] for name in (more, less))
        return bootstrap(next(scores).sub(next(scores)).dropna().tolist())

    return read


def _read_once(circuits: pd.DataFrame, prompt: str) -> pd.DataFrame:
    """Rows of followed edits of one prompt: what the model says is the same in those of each circuit method."""
    return circuits[circuits["prompt"] == prompt].drop_duplicates(["case", "editor", "layer"])


def mover_writes_new(evidence: Evidence) -> Interval:
    """Share of edits by ROME after which the original mover head writes the new object, less the share before.

    Of the records that have a mover head before the edit.
    """
    rows = _read_once(evidence.circuits, "request")
    rows = rows[rows["is_mover"].fillna(False).astype(bool)]
    before = rows[rows["editor"] == "none"].set_index("case")["writes_new"].astype(float)
    after = rows[rows["editor"] == _need(rows, *AS_ROME)].assign(value=lambda one: one["writes_new"].astype(float))
    return bootstrap((after.groupby("case")["value"].mean() - before).dropna().tolist())


def says_more_than_it_knows(evidence: Evidence) -> Interval:
    """How much worse AttnEdit's edits do on paraphrases than on requests, less the same of ROME's."""
    gap = {name: evidence.scores(name).eval("ES - PS") for name in ("attn-edit", "rome")}
    return bootstrap((gap["attn-edit"] - gap["rome"]).dropna().tolist())


def wrong(measure: str, less: str | None = None) -> Callable[[Evidence], Interval]:
    """Mean of a measure over wrong answers, or of its difference to another measure of the same answers."""

    def read(evidence: Evidence) -> Interval:
        if measure not in evidence.wrong:  # no relation has a mover
            return NOTHING
        rows = evidence.wrong[evidence.wrong["kind"] == "wrong"].dropna(subset=[measure]).set_index("relation")
        return _of_relations(rows[measure].astype(float) - (0.0 if less is None else rows[less].astype(float)))

    return read


def _alone(evidence: Evidence) -> pd.DataFrame:
    """The first method's circuits of at most a tenth of the edges, alone under zero ablation, one row per relation."""
    rows = evidence.alone[evidence.alone["method"] == evidence.alone["method"].iloc[0]]
    return rows[(rows["ablation"] == "zero") & (rows["edge_share"] <= TENTH)]


def kept_alone(split: str) -> Callable[[Evidence], Interval]:
    """What those circuits keep of the model's hit@k."""

    def read(evidence: Evidence) -> Interval:
        return bootstrap(_alone(evidence)[f"{split}_kept"].dropna().tolist())

    return read


def beyond_random(evidence: Evidence) -> Interval:
    """Hit@k of those circuits on D_test, less that of random circuits of their size."""
    rows = _alone(evidence)
    return bootstrap((rows["d_test_circuit"] - rows["d_test_random"]).dropna().tolist())


def lower_half(component: str) -> Callable[[Evidence], Interval]:
    """How active a kind of component is in the lower half of the layers, less in the upper, relation by relation."""

    def read(evidence: Evidence) -> Interval:
        rows = evidence.components[evidence.components["component"] == component]
        low = rows["layer"] < (rows["layer"].max() + 1) / 2
        by = (rows[half].groupby("relation")["frequency"].mean() for half in (low, ~low))
        return bootstrap(next(by).sub(next(by)).tolist())

    return read


def without_first_hop(evidence: Evidence) -> Interval:
    """hit@1 with the first hop left out of the text, less with it: the mean over compositions.

    The interval is over the chains of known hops, each composition's by itself, put together as independent ones; n
    counts the chains.
    """
    rows = evidence.hops.dropna(subset=["left_out_gap"])
    if rows.empty:
        return NOTHING
    value, count = float(rows["left_out_gap"].mean()), len(rows)
    below, above = (
        float(np.sqrt(((rows["left_out_gap"] - rows[f"left_out_gap_{end}"]) ** 2).sum()) / count)
        for end in ("low", "high")
    )
    return Interval(value, value - below, value + above, int(rows["n_known"].sum()))


def difference(table: str, more: str, less: str) -> Callable[[Evidence], Interval]:
    """Mean over the rows of a table (relations, compositions) of the difference of two columns."""

    def read(evidence: Evidence) -> Interval:
        rows = getattr(evidence, table)
        return bootstrap((rows[more] - rows[less]).dropna().tolist())

    return read
