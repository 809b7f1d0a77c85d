"""The papers' claims as statements that the run's own data decide: table claims.

Every claim is one number with a 95 % interval (`evidence.py`), and a bound: it holds where the whole interval lies
above the bound, does not where it lies below, and is unclear otherwise.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pandas as pd

from knowcirc.statistics import Interval, columns
from knowcirc.tables import evidence as read
from knowcirc.tables.evidence import AbsentError, Evidence

log = logging.getLogger(__name__)


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
    """Table claims: one row per claim. Those about editors that the study does not run are left out, named in the
    log."""
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


def claims_of_study(model: str, **tables: Any) -> pd.DataFrame:
    """Table claims from the tables of a run, named as `Evidence` names them."""
    return claims_table(Evidence(**tables), model)


CLAIMS = (
    *(
        Claim(
            f"a circuit of under 10 % of the edges keeps over 70 % of the model's hit@10 on {name}",
            "KC 3.2",
            f"hit@10 on {name} of a relation's circuit, all other edges zeroed, over that of the model, at most 1; "
            "mean over the relations whose circuit has at most 10 % of the edges",
            0.7,
            read.kept_alone(split),
        )
        for name, split in (("D_val", "d_val"), ("D_test", "d_test"))
    ),
    Claim(
        "early and middle layers gather the answer at the subject",
        "KC 4.2",
        "share of other objects of the relation that rank below the answer at the subject's last token, two thirds of "
        "the layers passed",
        0.5,
        read.outranks_at_subject,
    ),
    Claim(
        "at the last position the answer rises late",
        "KC 4.2",
        "layers passed until the answer is among the ten first for good, as a share of all",
        0.5,
        read.arrives_late,
    ),
    Claim(
        "at the subject MLPs bring the answer up",
        "KC 4.2",
        "orders of magnitude of rank that MLPs take off at the subject's last token, less those of attention",
        0.0,
        lambda evidence: read.rank_drops(evidence, "subject", "rank_drop_mlp", "rank_drop_attention"),
    ),
    Claim(
        "at the last position attention brings the answer up",
        "KC 4.2",
        "orders of magnitude of rank that attention takes off at the last position, less those of MLPs",
        0.0,
        lambda evidence: read.rank_drops(evidence, "last", "rank_drop_attention", "rank_drop_mlp"),
    ),
    Claim(
        "late heads move the answer",
        "KC 4.3",
        "depth of mover and mixture heads (0 first layer, 1 last)",
        0.5,
        read.mover_depth,
    ),
    Claim(
        "the answer depends on mover heads",
        "KC 4.3",
        "p(answer) on D_test without random heads of the same layers, less without the relation's mover heads",
        0.0,
        read.ablation("mover"),
    ),
    Claim(
        "the answer depends on relation heads",
        "KC 4.3",
        "p(answer) on D_test without random heads of the same layers, less without the relation's relation heads",
        0.0,
        read.ablation("relation"),
    ),
    Claim(
        "at the subject's last token MLPs carry facts, not attention",
        "ROME 2.2",
        "indirect effect of MLP windows less that of attention windows there, each at its best layer (probability)",
        0.0,
        read.sites("subject_last", "mlp", "attention"),
    ),
    Claim(
        "at the last token attention carries facts, not MLPs",
        "ROME 2.2",
        "indirect effect of attention windows less that of MLP windows there, each at its best layer (probability)",
        0.0,
        read.sites("last", "attention", "mlp"),
    ),
    Claim(
        "ROME writes at its layer, and the answer rises some layers later",
        "KC 5",
        "layers between the edited one and that from which the new object is among the ten first at the last position",
        1.0,
        read.rises_later,
    ),
    Claim(
        "FT-M writes the answer straight into the stream",
        "KC 5",
        "orders of magnitude that the edited MLP takes off the new object's rank at the last position, FT-M less ROME",
        0.0,
        read.written_straight,
    ),
    Claim(
        "after ROME the mover head writes the new object",
        "KC 5",
        "share of edits after which the original mover head's ten most raised tokens hold it, less the share before",
        0.0,
        read.mover_writes_new,
    ),
    Claim(
        "FT-M harms unrelated facts more than ROME",
        "KC 5",
        "share of an unrelated fact's probability that is kept, ROME less FT-M",
        0.0,
        read.unrelated,
    ),
    Claim(
        "edits by ROME leak to neighbours",
        "KC 5, ROME 3.3",
        "share of the neighbours' p(true object) that is lost",
        0.0,
        read.leak("rome"),
    ),
    Claim(
        "edits by FT-M leak to neighbours",
        "KC 5, ROME 3.3",
        "share of the neighbours' p(true object) that is lost",
        0.0,
        read.leak("ft-m"),
    ),
    Claim(
        "knowing is not saying: AttnEdit's edits generalize less than ROME's",
        "ROME 3.4",
        "efficacy less paraphrase score (ES - PS), AttnEdit less ROME",
        0.0,
        read.says_more_than_it_knows,
    ),
    Claim(
        "in wrong answers the mover head writes the wrong object",
        "KC 6.1",
        "share of wrong answers of the right type for which the relation's mover raises the wrong object among the ten "
        "first, less the share for which it raises the right one",
        0.0,
        read.wrong("writes_rival", "writes_right"),
    ),
    Claim(
        "the wrong answer takes the lead late",
        "KC 6.1",
        "layers passed when the wrong object leads the right one for good, as a share of all",
        0.5,
        read.wrong("leads_from"),
    ),
    Claim(
        "the right answer was on top on the way and is lost",
        "KC 6.1",
        "share of wrong answers of the right type for which the right one ranks first after some layer",
        0.5,
        read.wrong("ever_on_top"),
    ),
    Claim(
        "in-context answers depend on the heads that demonstrations bring in",
        "KC 6.2",
        "hit@10 without random heads of the same layers, less without the new heads",
        0.0,
        read.difference("icl", "random_heads_ablated", "icl_heads_ablated"),
    ),
    Claim(
        "the new heads attend to the demonstrations",
        "KC 6.2",
        "attention on the demonstrations from the last position, new heads less others of their layers",
        0.0,
        read.difference("icl", "attention_new", "attention_others"),
    ),
    Claim(
        "an integrated question reuses the circuit of its first hop",
        "KC appendix",
        "Jaccard index of the circuits' edges, with the first hop less with first hops of other compositions",
        0.0,
        read.difference("hops", "edges_integrated_first", "edges_integrated_unrelated"),
    ),
    Claim(
        "an integrated question reuses the circuit of its second hop more than that of its first",
        "KC appendix",
        "Jaccard index of the circuits' edges, with the second hop less with the first",
        0.0,
        read.difference("hops", "edges_integrated_second", "edges_integrated_first"),
    ),
    Claim(
        "the model answers two hops as well where the first is left out",
        "KC appendix",
        "hit@10 with the first hop left out of the text, less with it in the text (bound: -0.1)",
        -0.1,
        read.difference("hops", "hit_left_out", "hit_integrated"),
    ),
    Claim(
        "a fact and its reverse share no more than two unrelated facts",
        "KC appendix",
        "Jaccard index of the circuits' edges of unrelated relations, less of a relation both ways",
        0.0,
        read.difference("both_ways", "edges_unrelated", "edges_both_ways"),
    ),
)
