"""Facts asked forward and backward (KC appendix): the capital of France is Paris; Paris is the capital city of France.

Relations with a reverse template are asked for their subjects, too, for objects of a single subject: of the others the
answer would be one of several. Circuits are those of single facts that are known forward, against the zero baseline;
their overlap stands beside that of forward circuits of two relations without a common subject.
"""

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from knowcirc.analysis.comparison import beside, overlap_columns
from knowcirc.circuits.discovery import Circuit
from knowcirc.circuits.evaluation import hits
from knowcirc.circuits.finding import Find
from knowcirc.circuits.graph import Graph
from knowcirc.facts.knowledge import Answer, answer_prompts
from knowcirc.facts.prompts import fill
from knowcirc.facts.relations import Fact, Relation
from knowcirc.models.loading import LanguageModel
from knowcirc.statistics import columns, proportion

WAYS = ("forward", "reverse")
LEAST = 3
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class BothWays:
    """A relation's answers both ways, fact by fact, and circuits of the first facts whose forward answer is known."""

    relation: str
    subjects: frozenset[str]
    answers: dict[str, list[Answer]]
    known: list[int]
    circuits: list[dict[str, Circuit]]


def reversible(relation: Relation, most: int, seed: int) -> list[Fact]:
    """At most `most` facts whose object has no other subject, in a seeded order."""
    counts = Counter(fact.object for fact in relation.facts)
    found = [fact for fact in relation.facts if counts[fact.object] == 1]
    return [found[i] for i in np.random.default_rng(seed).permutation(len(found))[:most]]


def reverse_wording(relation: Relation) -> str:
    """The wording by which a relation is asked backward.

    Raises:
        ValueError: if it has none.
    """
    if relation.reverse_template is None:
        raise ValueError(f"relation {relation.name} has no reverse_template; add one to its file, or leave it out")
    return relation.reverse_template


def study_both_ways(
    model: LanguageModel, find: Find, relation: Relation, *, most: int, n_circuits: int, seed: int
) -> BothWays:
    """A relation asked both ways.

    Raises:
        ValueError: if it has no reverse template.
    """
    wording = reverse_wording(relation)
    facts = reversible(relation, most, seed)
    prompts = {
        "forward": [fill(model.text, relation.templates[0], fact.subject, fact.object) for fact in facts],
        "reverse": [fill(model.text, wording, fact.object, fact.subject) for fact in facts],
    }
    answers = {way: answer_prompts(model, prompts[way]) for way in WAYS}
    known = [i for i in range(len(facts)) if answers["forward"][i].rank == 0]
    circuits = [{way: find(model, prompts[way][i]) for way in WAYS} for i in known[:n_circuits]]
    subjects = frozenset(fact.subject for fact in relation.facts)
    return BothWays(relation.name, subjects, answers, known, circuits)


def reverse_rows(graph: Graph, studies: Sequence[BothWays], k: int) -> pd.DataFrame:
    """Table reverse_relations: a row a relation; hit@k both ways, and overlaps of nodes and edges.

    Relations with too few such facts that are known forward are left out, and named in the log.

    Raises:
        ValueError: if none is left.
    """
    enough, rows = [study for study in studies if len(study.known) >= LEAST], []
    for study in studies:
        if len(study.known) < LEAST:
            log.warning("reverse: %s is left out, %d of its facts are known", study.relation, len(study.known))
    if not enough:
        raise ValueError(f"reverse.relations: the model knows fewer than {LEAST} facts of each forward; name others")
    for study in enough:
        row: dict[str, object] = {"relation": study.relation}
        for way in WAYS:
            row |= columns(f"hit_{way}", proportion(hits(study.answers[way], k)))
        strangers = [
            [each["forward"].edges for each in other.circuits]
            for other in enough
            if not study.subjects & other.subjects
        ]
        pairs = {
            "both_ways": [(each["forward"].edges, [each["reverse"].edges]) for each in study.circuits],
            "unrelated": beside([each["forward"].edges for each in study.circuits], strangers),
        }
        row |= overlap_columns(graph, pairs)
        rows.append({**row, "n_circuits": len(study.circuits), "n": len(study.answers["forward"])})
    return pd.DataFrame(rows)
