"""Facts asked forward and backward (KC C.3): the capital of France is Paris; Paris is the capital city of France.

Relations with a reverse template are asked for their subjects, too, for objects of a single subject: of the others the
answer would be one of several. Each way has one circuit, found on its prompts of several facts together that are known
forward; all are found by one method and of one size. The overlap of the two (`both_ways`) stands between a floor and a
ceiling:

| overlap | of | with |
|---|---|---|
| unrelated | forward | forward, of relations without a common subject: the mean over these |
| same_way | forward | the relation's own circuit: the same question, on the facts of its D_val |

The two circuits of an overlap come from searches that know nothing of each other. So the ceiling is not 1: it shows how
much two searches share where the question is the same and the facts are not, or not all (D_val may hold some of them).
"""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from knowcirc.behaviours.kept_answers import as_json, from_json
from knowcirc.circuits.circuit import Circuit
from knowcirc.circuits.evaluation import hits
from knowcirc.circuits.export import load_circuits, save_circuits
from knowcirc.circuits.graph import Graph
from knowcirc.circuits.kept import KeptCircuits
from knowcirc.circuits.overlap import overlap_columns, own_circuit
from knowcirc.facts.knowledge import Answer, answer_prompts
from knowcirc.facts.prompts import fill
from knowcirc.facts.relations import Fact, Relation
from knowcirc.files import read_json, write_json
from knowcirc.statistics import columns, proportion

WAYS = ("forward", "reverse")
LEAST = 3
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class BothWays:
    """A relation's answers both ways, fact by fact, and which facts are known forward.

    `circuits` are of both ways, none where too few facts are known; `together` says on how many facts they were found.
    """

    relation: str
    subjects: frozenset[str]
    answers: dict[str, list[Answer]]
    known: list[int]
    circuits: dict[str, Circuit]
    together: int


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


def study_both_ways(finder: KeptCircuits, relation: Relation, *, most: int, d_val: int, seed: int) -> BothWays:
    """A relation asked both ways, and the circuits of the first `d_val` facts of which the forward answer ranks first.

    Raises:
        ValueError: if it has no reverse template.
    """
    wording, model = reverse_wording(relation), finder.model
    facts = reversible(relation, most, seed)
    prompts = {
        "forward": [fill(model.text, relation.templates[0], fact.subject, fact.object) for fact in facts],
        "reverse": [fill(model.text, wording, fact.object, fact.subject) for fact in facts],
    }
    answers = {way: answer_prompts(model, prompts[way]) for way in WAYS}
    known = [i for i in range(len(facts)) if answers["forward"][i].rank == 0]
    chosen = known[:d_val] if len(known) >= LEAST else []
    circuits = {
        way: finder.find_with_partners(f"{relation.name} {way}", [prompts[way][i] for i in chosen], seed)
        for way in WAYS
        if chosen
    }
    subjects = frozenset(fact.subject for fact in relation.facts)
    return BothWays(relation.name, subjects, answers, known, circuits, len(chosen))


def write_both_ways(answers: Path, circuits: Path, study: BothWays) -> None:
    """Keep what the comparison of relations reads of a study."""
    about = {"relation": study.relation, "subjects": sorted(study.subjects), "known": study.known}
    save_circuits(circuits, study.circuits)
    write_json(answers, {**about, "together": study.together, "answers": as_json(study.answers)})


def read_both_ways(answers: Path, circuits: Path, method: str) -> BothWays:
    """A kept study."""
    found = read_json(answers)
    subjects, read = frozenset(found["subjects"]), from_json(found["answers"])
    return BothWays(
        found["relation"], subjects, read, found["known"], load_circuits(circuits, method), found["together"]
    )


def reverse_row(
    graph: Graph, study: BothWays, others: Sequence[BothWays], own: Mapping[str, Circuit], k: int
) -> dict[str, object]:
    """A relation's row of table reverse_relations: hit@k both ways, and overlaps of nodes and edges.

    `others` give the unrelated circuits: of relations without a common subject. `own` are the relations' own circuits.
    """
    row: dict[str, object] = {"relation": study.relation}
    for way in WAYS:
        row |= columns(f"hit_{way}", proportion(hits(study.answers[way], k)))
    forward, backward = (study.circuits[way].edges for way in WAYS)
    unrelated = [other.circuits["forward"].edges for other in others if not study.subjects & other.subjects]
    pairs = {
        "both_ways": (forward, [backward]),
        "unrelated": (forward, unrelated),
        "same_way": (forward, own_circuit(own, study.relation)),
    }
    row |= overlap_columns(graph, pairs)
    return {**row, "n_prompts": study.together, "n_known": len(study.known), "n": len(study.answers["forward"])}


def reverse_rows(graph: Graph, studies: Sequence[BothWays], own: Mapping[str, Circuit], k: int) -> pd.DataFrame:
    """Table reverse_relations: one row per relation.

    Relations with too few such facts that are known forward are left out, and named in the log.

    Raises:
        ValueError: if none is left.
    """
    enough = [study for study in studies if len(study.known) >= LEAST]
    for study in studies:
        if len(study.known) < LEAST:
            log.warning("reverse: %s is left out, %d of its facts are known", study.relation, len(study.known))
    if not enough:
        raise ValueError(f"reverse.relations: the model knows fewer than {LEAST} facts of each forward; name others")
    return pd.DataFrame([reverse_row(graph, study, enough, own, k) for study in enough])
