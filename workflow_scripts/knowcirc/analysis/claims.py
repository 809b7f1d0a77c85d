"""The papers' claims as statements that the run's own data decide: table claims.

Every claim is one number with a 95 % interval, and a bound: it holds where the whole interval lies above the bound,
does not where it lies below, and is unclear otherwise. Where facts are of several relations, these weigh alike and are
resampled; records and facts are resampled elsewhere.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from knowcirc.statistics import NOTHING, Interval, bootstrap, columns, pooled

MIDDLE = 2 / 3  # of the depth: where early and middle layers end
FIRST = 10  # ranks that count as on top
log = logging.getLogger(__name__)


class AbsentError(LookupError):
    """The study does not run the editor that a claim is about; the message names it."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the claims are read off, all tables of this run with a row a fact, head, relation or record.

    `edits` are the scores record by record, by editor.
    """

    ranks: pd.DataFrame
    heads: pd.DataFrame
    ablation: pd.DataFrame
    traces: pd.DataFrame
    circuits: pd.DataFrame
    edited_ranks: pd.DataFrame
    edits: dict[str, pd.DataFrame] = field(default_factory=dict)

    def scores(self, editor: str) -> pd.DataFrame:
        """An editor's scores by record.

        Raises:
            AbsentError: if the study does not run it.
        """
        if editor not in self.edits:
            raise AbsentError(editor)
        return self.edits[editor].set_index("case")


@dataclass(frozen=True, slots=True)
class Claim:
    """A statement of a paper, how it is measured, and above which bound it holds."""

    claim: str
    section: str
    measure: str
    bound: float
    read: Callable[[Evidence], Interval]


def verdict(interval: Interval, bound: float) -> str:
    """`yes` above the bound, `no` below it, `unclear` where the interval holds it or there is no case.

    >>> verdict(Interval(0.4, 0.1, 0.6, 9), 0.0), verdict(Interval(0.4, 0.1, 0.6, 9), 0.5)
    ('yes', 'unclear')
    """
    if interval.low > bound:
        return "yes"
    return "no" if interval.high < bound else "unclear"


def claims_table(evidence: Evidence, model: str) -> pd.DataFrame:
    """Table claims: a row a claim. Those about editors that the study does not run are left out, named in the log."""
    rows = []
    for claim in CLAIMS:
        try:
            interval = claim.read(evidence)
        except AbsentError as error:
            log.warning("claims: %r is left out, the study does not run %s", claim.claim, error)
            continue
        row: dict[str, object] = {"model": model, "claim": claim.claim, "section": claim.section}
        row |= {"measure": claim.measure, **columns("value", interval), "bound": claim.bound}
        rows.append({**row, "holds": verdict(interval, claim.bound), "n": interval.n})
    return pd.DataFrame(rows).rename(columns={"value_low": "low", "value_high": "high"})


def _pooled(values: pd.Series) -> Interval:
    """Of values indexed by (relation, subject)."""
    values = values.dropna()
    return pooled(values.tolist(), values.index.get_level_values("relation").tolist()) if len(values) else NOTHING


def _at(evidence: Evidence, position: str) -> pd.DataFrame:
    return evidence.ranks[evidence.ranks["position"] == position]


def _outranks_at_subject(evidence: Evidence) -> Interval:
    rows = _at(evidence, "subject")
    rows = rows[rows["layer"] == round(MIDDLE * rows["layer"].max())]
    return _pooled(rows.set_index(["relation", "subject"])["outranks"])


def _arrival(ranks: pd.Series) -> int:
    """How many layers are passed when the rank is among the first for good; one more than there are if it never is."""
    values = ranks.to_numpy()
    late = np.flatnonzero(values > FIRST)
    return int(late[-1]) + 1 if len(late) else 0


def _arrives_late(evidence: Evidence) -> Interval:
    rows = _at(evidence, "last").sort_values("layer")
    depth = rows.groupby(["relation", "subject"], sort=False)["rank"].agg(_arrival) / rows["layer"].max()
    return _pooled(depth)


def _falls(evidence: Evidence, position: str, more: str, less: str) -> Interval:
    """Decades of rank that one kind of writer takes off at a position, less those of the other."""
    total = _at(evidence, position).groupby(["relation", "subject"], sort=False)[[more, less]].sum()
    return _pooled(total[more] - total[less])


def _mover_depth(evidence: Evidence) -> Interval:
    rows = evidence.heads[evidence.heads["role"].isin(["mover", "mixture"])]
    depth = rows["layer"] / (evidence.ranks["layer"].max() - 1)
    return pooled(depth.tolist(), rows["relation"].tolist()) if len(rows) else NOTHING


def _ablation(role: str) -> Callable[[Evidence], Interval]:
    def read(evidence: Evidence) -> Interval:
        rows = evidence.ablation[evidence.ablation["role"] == role]
        return bootstrap((rows["p_random"] - rows["p_ablated"]).tolist())

    return read


def _sites(role: str, more: str, less: str) -> Callable[[Evidence], Interval]:
    """Indirect effect of one kind of window at a token role, less that of another, each at its own best layer."""

    def read(evidence: Evidence) -> Interval:
        rows = evidence.traces[(evidence.traces["role"] == role) & (evidence.traces["kind"].isin([more, less]))]
        effects = rows.groupby(["kind", "layer", "case"])["effect"].mean()
        best = effects.groupby(["kind", "layer"]).mean()
        values = [effects[kind, best[kind].idxmax()] for kind in (more, less)]
        return bootstrap((values[0] - values[1]).dropna().tolist())

    return read


def _rises_later(evidence: Evidence) -> Interval:
    """Layers between the edited one and the one from which the new object is on top at the last position (ROME)."""
    rows = evidence.edited_ranks.sort_values("passed")
    rows = rows[(rows["editor"] == _need(rows, "rome")) & (rows["position"] == "last")]
    arrival = rows.groupby(["case", "layer"])["rank_new"].agg(_arrival).reset_index()
    return _by_case(arrival.assign(value=arrival["rank_new"] - arrival["layer"] - 1))


def _written_straight(evidence: Evidence) -> Interval:
    """Decades that the edited layer's MLP takes off the new object's rank at the last position, FT-M less ROME."""
    rows = evidence.edited_ranks
    rows = rows[(rows["position"] == "last") & (rows["passed"] == rows["layer"] + 1)]
    by = {
        name: rows[rows["editor"] == _need(rows, name)].set_index(["case", "layer"])["fall_mlp"]
        for name in ("ft-m", "rome")
    }
    return _by_case((by["ft-m"] - by["rome"]).rename("value").reset_index())


def _by_case(rows: pd.DataFrame) -> Interval:
    """Of the means by record of the column `value`."""
    return bootstrap(rows.groupby("case")["value"].mean().tolist())


def _need(rows: pd.DataFrame, editor: str) -> str:
    if not (rows["editor"] == editor).any():
        raise AbsentError(editor)
    return editor


def _leak(editor: str) -> Callable[[Evidence], Interval]:
    def read(evidence: Evidence) -> Interval:
        before, after = (evidence.scores(name)["p_neighbour"] for name in ("none", editor))
        return bootstrap((1 - after / before).dropna().tolist())

    return read


def _mover_writes_new(evidence: Evidence) -> Interval:
    """Share of edits by ROME after which the original mover head writes the new object, less the share before."""
    rows = evidence.circuits[evidence.circuits["prompt"] == "request"]
    before = rows[rows["editor"] == "none"].set_index("case")["writes_new"].astype(float)
    after = rows[rows["editor"] == _need(rows, "rome")].assign(value=lambda one: one["writes_new"].astype(float))
    return bootstrap((after.groupby("case")["value"].mean() - before).dropna().tolist())


def _unrelated(evidence: Evidence) -> Interval:
    """Share of an unrelated fact's probability that is kept, ROME less FT-M."""
    rows = evidence.circuits[evidence.circuits["prompt"] == "unrelated"]
    kept = {
        name: rows[rows["editor"] == _need(rows, name)].set_index(["case", "layer"])["kept_share"]
        for name in ("rome", "ft-m")
    }
    return _by_case((kept["rome"] - kept["ft-m"]).rename("value").reset_index())


def _says_more_than_it_knows(evidence: Evidence) -> Interval:
    """How much worse AttnEdit's edits do on paraphrases than on requests, less the same of ROME's."""
    gap = {name: evidence.scores(name).eval("ES - PS") for name in ("attn-edit", "rome")}
    return bootstrap((gap["attn-edit"] - gap["rome"]).dropna().tolist())


CLAIMS = (
    Claim(
        "early and middle layers gather the answer at the subject",
        "KC 4.2",
        "share of other objects of the relation that rank below the answer at the subject's last token, two thirds of "
        "the layers passed",
        0.5,
        _outranks_at_subject,
    ),
    Claim(
        "at the last position the answer rises late",
        "KC 4.2",
        "layers passed until the answer is among the ten first for good, as a share of all",
        0.5,
        _arrives_late,
    ),
    Claim(
        "at the subject MLPs bring the answer up",
        "KC 4.2",
        "decades of the answer's rank that MLPs take off at the subject's last token, less those of attention",
        0.0,
        lambda evidence: _falls(evidence, "subject", "fall_mlp", "fall_attention"),
    ),
    Claim(
        "at the last position attention brings the answer up",
        "KC 4.2",
        "decades of the answer's rank that attention takes off at the last position, less those of MLPs",
        0.0,
        lambda evidence: _falls(evidence, "last", "fall_attention", "fall_mlp"),
    ),
    Claim(
        "late heads move the answer",
        "KC 4.3",
        "depth of mover and mixture heads (0 first layer, 1 last)",
        0.5,
        _mover_depth,
    ),
    Claim(
        "the answer depends on mover heads",
        "KC 4.3",
        "p(answer) on D_test without random heads of the same layers, less without the relation's mover heads",
        0.0,
        _ablation("mover"),
    ),
    Claim(
        "the answer depends on relation heads",
        "KC 4.3",
        "p(answer) on D_test without random heads of the same layers, less without the relation's relation heads",
        0.0,
        _ablation("relation"),
    ),
    Claim(
        "at the subject's last token MLPs carry facts, not attention",
        "ROME 2.2",
        "indirect effect of MLP windows less that of attention windows there, each at its best layer (probability)",
        0.0,
        _sites("subject_last", "mlp", "attention"),
    ),
    Claim(
        "at the last token attention carries facts, not MLPs",
        "ROME 2.2",
        "indirect effect of attention windows less that of MLP windows there, each at its best layer (probability)",
        0.0,
        _sites("last", "attention", "mlp"),
    ),
    Claim(
        "ROME writes at its layer, and the answer rises some layers later",
        "KC 5",
        "layers between the edited one and that from which the new object is among the ten first at the last position",
        1.0,
        _rises_later,
    ),
    Claim(
        "FT-M writes the answer straight into the stream",
        "KC 5",
        "decades of the new object's rank that the edited MLP takes off at the last position, FT-M less ROME",
        0.0,
        _written_straight,
    ),
    Claim(
        "after ROME the mover head writes the new object",
        "KC 5",
        "share of edits after which the original mover head's ten most raised tokens hold it, less the share before",
        0.0,
        _mover_writes_new,
    ),
    Claim(
        "FT-M harms unrelated facts more than ROME",
        "KC 5",
        "share of an unrelated fact's probability that is kept, ROME less FT-M",
        0.0,
        _unrelated,
    ),
    Claim(
        "edits by ROME leak to neighbours",
        "KC 5, ROME 3.3",
        "share of the neighbours' p(true object) that is lost",
        0.0,
        _leak("rome"),
    ),
    Claim(
        "edits by FT-M leak to neighbours",
        "KC 5, ROME 3.3",
        "share of the neighbours' p(true object) that is lost",
        0.0,
        _leak("ft-m"),
    ),
    Claim(
        "knowing is not saying: AttnEdit's edits generalize less than ROME's",
        "ROME 3.4",
        "efficacy less paraphrase score (ES - PS), AttnEdit less ROME",
        0.0,
        _says_more_than_it_knows,
    ),
)
