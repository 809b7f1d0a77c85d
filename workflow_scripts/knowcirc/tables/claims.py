"""The papers' claims as statements that the run's own data decide: table claims.

Every claim is one number with a 95 % interval (`evidence.py`), and a bound: it holds where the whole interval lies
above the bound, does not where it lies below, and is unclear otherwise. It names the section as printed, quotes it
shortly, and says what would make it fail. A paper's claim about one example is read over all cases of this run.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pandas as pd

from knowcirc.statistics import Interval, columns
from knowcirc.tables import evidence as read
from knowcirc.tables.evidence import FEWEST, AbsentError, Evidence

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Claim:
    """A statement of a paper: where and in which words it stands, how it is measured, above which bound it holds.

    `fails` says in words what a number below the bound means.
    """

    claim: str
    section: str
    quote: str
    measure: str
    fails: str
    bound: float
    read: Callable[[Evidence], Interval]


def verdict(interval: Interval, bound: float) -> str:
    """`yes` above the bound, `no` below it, `unclear` where the interval holds it or fewer than FEWEST were resampled.

    >>> verdict(Interval(0.4, 0.1, 0.6, 9), 0.0), verdict(Interval(0.4, 0.1, 0.6, 9), 0.5)
    ('yes', 'unclear')
    >>> verdict(Interval(0.4, 0.3, 0.5, 2), 0.0)
    'unclear'
    """
    if interval.n < FEWEST:
        return "unclear"
    if interval.low > bound:
        return "yes"
    return "no" if interval.high < bound else "unclear"


def claims_table(evidence: Evidence, model: str) -> pd.DataFrame:
    """Table claims: one row per claim. Those about editors or traces that the study does not run are left out,
    named in the log."""
    rows = []
    for claim in CLAIMS:
        try:
            interval = claim.read(evidence)
        except AbsentError as error:
            log.warning("claims: %r is left out, the study does not run %s", claim.claim, error)
            continue
        row: dict[str, object] = {"model": model, "claim": claim.claim, "section": claim.section, "quote": claim.quote}
        row |= {"measure": claim.measure, **columns("value", interval), "bound": claim.bound, "fails": claim.fails}
        rows.append({**row, "holds": verdict(interval, claim.bound), "n": interval.n})
    return pd.DataFrame(rows).rename(columns={"value_low": "low", "value_high": "high"})


def claims_of_study(model: str, **tables: Any) -> pd.DataFrame:
    """Table claims from the tables of a run, named as `Evidence` names them."""
    return claims_table(Evidence(**tables), model)


CIRCUITS = (
    *(
        Claim(
            f"a circuit of under 10 % of the edges keeps over 70 % of the model's hit@10 on {name}",
            "KC 4",
            "with only less than 10% of the original knowledge circuit's subgraph, the model can maintain over 70% of "
            "its original performance",
            f"hit@10 on {name} of a relation's circuit, all other edges zeroed, over that of the model, at most 1; "
            "mean over the relations whose circuit has at most 10 % of the edges",
            "circuits of that size lose more than 30 % of the model's hits",
            0.7,
            read.kept_alone(split),
        )
        for name, split in (("D_val", "d_val"), ("D_test", "d_test"))
    ),
    Claim(
        "a random circuit of the same size does not keep it",
        "KC 4",
        "the random circuit failed to maintain the model's performance",
        "hit@10 on D_test of a relation's circuit, all other edges zeroed, less that of random circuits of its size",
        "random circuits of that size answer as well",
        0.0,
        read.beyond_random,
    ),
    *(
        Claim(
            f"{plural} are more active in the lower layers",
            "KC 4",
            "attention and MLPs are more active in the lower layers of the network",
            f"share of a layer's {plural} that are in a relation's circuit, lower half of the layers less upper half",
            f"circuits hold more {plural} of the upper half",
            0.0,
            read.lower_half(component),
        )
        for component, plural in (("head", "heads"), ("mlp", "MLPs"))
    ),
)
LAYERS = (
    Claim(
        "early and middle layers gather the answer at the subject",
        "KC 5",
        "the early-to-middle layers are the main part of aggregating the target entity",
        "share of other objects of the relation that rank below the answer at the subject's last token, two thirds of "
        "the layers passed, less the same with one layer passed",
        "the answer ranks there no better than after the first layer",
        0.0,
        read.gathered_at_subject,
    ),
    Claim(
        "at the last position the answer arrives in middle to late layers",
        "KC B.1, Fig. 7",
        "the model would get the knowledge at middle-to-later layers",
        "layers passed until the answer is among the ten first for good, as a share of all",
        "the answer is there in the lower half of the layers",
        0.5,
        read.arrives_late,
    ),
    Claim(
        "MLPs recall the answer at the subject",
        "ROME 2.3",
        "each midlayer MLP module accepts inputs that encode a subject, then produces outputs that recall memorized "
        "properties",
        "orders of magnitude of rank that MLPs take off at the subject's last token, less those of attention",
        "attention takes off more there",
        0.0,
        lambda evidence: read.rank_drops(evidence, "subject", "rank_drop_mlp", "rank_drop_attention"),
    ),
    Claim(
        "attention copies the answer to the last position",
        "ROME 2.3",
        "the summed information is copied to the last token by attention at high layers",
        "orders of magnitude of rank that attention takes off at the last position, less those of MLPs",
        "MLPs take off more there",
        0.0,
        lambda evidence: read.rank_drops(evidence, "last", "rank_drop_attention", "rank_drop_mlp"),
    ),
    Claim(
        "the heads that move the answer are in high layers",
        "ROME 2.3",
        "copied to the last token by attention at high layers",
        "depth of mover and mixture heads (0 first layer, 1 last)",
        "they lie in the lower half",
        0.5,
        read.mover_depth,
    ),
    *(
        Claim(
            f"the answer depends on {role} heads",
            "KC B.2",
            "several kinds of special attention heads, or MLPs, in the model that play a pivotal role in the final "
            "prediction",
            f"p(answer) on D_test without random heads of the same layers, less without the relation's {role} heads",
            "random heads of the same layers matter more",
            0.0,
            read.ablation(role),
        )
        for role in ("mover", "relation")
    ),
)
TRACES = (
    Claim(
        "at the subject's last token MLPs carry facts, not attention",
        "ROME 2.2",
        "MLP contributions peak at AIE 6.6%, while attention at the last subject token is only AIE 1.6%",
        "indirect effect of MLP windows less that of attention windows there, each at its best layer (probability)",
        "attention windows have the larger effect there",
        0.0,
        read.sites("subject_last", "mlp", "attention"),
    ),
    Claim(
        "at the last token attention carries facts, not MLPs",
        "ROME 2.2",
        "attention is more important at the last token of the prompt",
        "indirect effect of attention windows less that of MLP windows there, each at its best layer (probability)",
        "MLP windows have the larger effect there",
        0.0,
        read.sites("last", "attention", "mlp"),
    ),
    Claim(
        "low layers work through the MLPs above them",
        "ROME 2.2",
        "the lowest layers lose their causal effect without the activity of future MLP modules",
        "indirect effect of a single state at the subject's last token with attention severed, less with MLPs severed, "
        "mean over the lowest third of the layers (probability)",
        "severing attention costs more",
        0.0,
        read.severed_low,
    ),
)
EDITS = (
    Claim(
        "the answer rises some layers after the one that ROME edits",
        "KC D.2",
        "reaches its peak only a few layers after the edited layer",
        "how many layers later the new object is among the ten first at the last position for each layer that is "
        "edited later (slope within a record; 1: always as many layers after the edited one)",
        "it comes at the same layers whatever layer is edited",
        0.5,
        read.rises_later,
    ),
    Claim(
        "FT-M writes the answer straight into the stream",
        "KC 5",
        "For FT-M, the edited model tends to directly write the knowledge into the specific component",
        "orders of magnitude that the edited MLP takes off the new object's rank at the last position, FT-M less ROME",
        "ROME's edited MLP takes off more",
        0.0,
        read.written_straight,
    ),
    Claim(
        "after ROME the mover head writes the new object",
        "KC 5",
        "Mover Head shifts from copying to extracting the edited information from the subject position",
        "share of edits after which the original mover head's ten most raised tokens hold it, less the share before, "
        "of records with a mover head",
        "it writes the new object less often than before",
        0.0,
        read.mover_writes_new,
    ),
    *(
        Claim(
            f"{label}'s edits carry over to other facts",
            "KC 5, Fig. 4",
            "these two editing methods would affect other unrelated input",
            "share of the record's neighbours for which the new object is likelier than the true one, after the edit "
            "less before",
            "fewer neighbours answer with the new object than before",
            0.0,
            read.score_gap("NS", "none", editor),
        )
        for editor, label in (("rome", "ROME"), ("ft-m", "FT-M"))
    ),
    Claim(
        "ROME stays specific where FT does not",
        "ROME 3.4",
        "FT achieves high generalization at the cost of making mistakes on most neighboring entities",
        "neighborhood score (NS), ROME less FT",
        "FT leaves more neighbours as they were",
        0.0,
        read.score_gap("NS", "rome", "ft"),
    ),
    Claim(
        "ROME generalizes where FT+L does not",
        "ROME 3.4",
        "the reverse is true of FT+L",
        "paraphrase score (PS), ROME less FT+L",
        "FT+L's edits hold in more other wordings",
        0.0,
        read.score_gap("PS", "rome", "ft-l"),
    ),
    Claim(
        "knowing is not saying: AttnEdit's edits generalize less than ROME's",
        "ROME 3.4, I",
        "editing the late-layer attention modules leads to regurgitation",
        "efficacy less paraphrase score (ES - PS), AttnEdit less ROME",
        "ROME's edits lose more in other wordings",
        0.0,
        read.says_more_than_it_knows,
    ),
)
BEHAVIOURS = (
    Claim(
        "in wrong answers the mover head selects the wrong object",
        "KC 6",
        "the circuit lacks an effective mover head or the mover head selects incorrect information",
        "share of wrong answers of the right type for which the relation's mover raises the wrong object among the ten "
        "first, less the share for which it raises the right one",
        "it raises the right object more often",
        0.0,
        read.wrong("writes_rival", "writes_right"),
    ),
    Claim(
        "in wrong answers the right one gathers, too",
        "KC C.2",
        "the correct answer and the wrong answer are both accumulated at the previous layer",
        "share of the relation's other objects that rank below the right one at the last position, where the wrong one "
        "is about to lead for good, less the same of right answers to other questions",
        "it ranks there no better than right answers to other questions",
        0.0,
        read.wrong("gathers"),
    ),
    Claim(
        "the wrong answer takes the lead in the upper half of the layers",
        "KC 6",
        "at layer 16, the mover head L15H10 extracts the erroneous information",
        "layers passed when the wrong object leads the right one for good, as a share of all (the paper's case: 0.67)",
        "it leads from the lower half on",
        0.5,
        read.wrong("leads_from"),
    ),
    Claim(
        "in-context answers depend on the heads that demonstrations bring in",
        "KC 6, Table 2",
        "compared to the randomly selected attention head by ablating this attention, the probability drops "
        "significantly",
        "p(answer) without random heads of the same layers, less without the new heads",
        "random heads of the same layers matter more",
        0.0,
        read.difference("icl", "p_random_heads_ablated", "p_icl_heads_ablated"),
    ),
    Claim(
        "the new heads attend to the demonstrations",
        "KC 6",
        "these heads mainly focus on the demonstration's context",
        "attention on the demonstrations from the last position, new heads less others of their layers",
        "other heads of their layers attend more to them",
        0.0,
        read.difference("icl", "attention_new", "attention_others"),
    ),
    Claim(
        "a question through two hops reuses the circuit of its first hop",
        "KC C.1",
        "the language model utilizes a large portion of the nodes in the original single hop's circuit",
        "share of the nodes of the first hop's circuit that the circuit of both hops holds (equation 4), less the same "
        "for first hops of other compositions",
        "it holds more of other compositions' first hops",
        0.0,
        read.difference("hops", "reused_nodes_first", "reused_nodes_unrelated"),
    ),
    Claim(
        "a question through two hops reuses the first hop more than the second",
        "KC C.1, Table 5",
        "node 83.33 70.27",
        "share of the nodes of the first hop's circuit that the circuit of both hops holds, less that of the second's",
        "it holds more of the second hop's",
        0.0,
        read.difference("hops", "reused_nodes_first", "reused_nodes_second"),
    ),
    Claim(
        "the model answers two hops as well where the first is left out",
        "KC C.1",
        "the models can still correctly answer the multi-hop question",
        "hit@1 with the first hop left out of the text, less with it in the text, of chains of known hops "
        "(bound: -0.1)",
        "more than a tenth of the answers are lost without the first hop",
        -0.1,
        read.without_first_hop,
    ),
    Claim(
        "a fact and its reverse share their circuit",
        "KC C.3",
        "the overlap between the two circuits is about 70%",
        "share of the nodes of the forward circuit that the reverse one holds (equation 4), less the same for forward "
        "circuits of other relations",
        "the reverse circuit holds more of other relations' circuits",
        0.0,
        read.difference("both_ways", "reused_nodes_both_ways", "reused_nodes_unrelated"),
    ),
)
CLAIMS = (*CIRCUITS, *LAYERS, *TRACES, *EDITS, *BEHAVIOURS)
