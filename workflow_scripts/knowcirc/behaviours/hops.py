"""Facts in two hops (KC C.1): the language of the country where a landmark stands.

A composition joins two relations over the object of the first, which is a subject of the second.

| prompt | asks for | for example |
|---|---|---|
| first | the first relation's object y of x | The landmark {x} is a place in the country of |
| second | the second relation's object z of y | The main language spoken in {y} is |
| integrated | z through the first hop | The main language spoken in the country of {x} is |
| left_out | z, the first hop left out of the text | The main language spoken in {x} is |

Each kind but the last has one circuit, found on its prompts of several chains together, both hops of which are known;
all are found by one method and of one size. An overlap stands between a floor and a ceiling:

| overlap | of | with |
|---|---|---|
| integrated_unrelated | integrated | first, of compositions that share no relation: the mean over these |
| first_again, second_again | first, second | the relation's own circuit: the same question, on the facts of its D_val |

The two circuits of an overlap come from searches that know nothing of each other. So the ceiling is not 1: it shows how
much two searches share where the question is the same and the facts are not, or not all (D_val may hold some of them).
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
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
from knowcirc.facts.prompts import Prompt, fill, tokenise
from knowcirc.facts.relations import Relation
from knowcirc.files import read_json, write_json
from knowcirc.models.loading import LanguageModel
from knowcirc.statistics import columns, proportion
from knowcirc.wording import fill_in, place_in

ASKED = ("first", "second", "integrated", "left_out")
KINDS = ("first", "second", "integrated")
PAIRS = (("integrated", "first"), ("integrated", "second"), ("first", "second"))
LEAST = 3
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Composition:
    """Two relations, and the words by which the second is asked about the first's subject; `phrase` holds `{}`."""

    first: str
    second: str
    phrase: str

    @property
    def name(self) -> str:
        """`city_country+country_language`."""
        return f"{self.first}+{self.second}"


@dataclass(frozen=True, slots=True)
class Chains:
    """A composition's prompts, chain by chain, and the model's answers; which chains have both hops known.

    `circuits` are of the kinds in `KINDS`, none where too few chains are known; `together` says on how many different
    prompts each was found.
    """

    composition: Composition
    prompts: list[dict[str, Prompt]]
    answers: dict[str, list[Answer]]
    known: list[int]
    circuits: dict[str, Circuit]
    together: dict[str, int]


def chains(first: Relation, second: Relation, seed: int) -> list[tuple[str, str, str]]:
    """(x, y, z) for all facts x -> y of the first and y -> z of the second relation, in a seeded order."""
    then = {fact.subject: fact.object for fact in second.facts}
    found = [(fact.subject, fact.object, then[fact.object]) for fact in first.facts if fact.object in then]
    return [found[i] for i in np.random.default_rng(seed).permutation(len(found))]


def chain_prompts(
    model: LanguageModel, composition: Composition, first: Relation, second: Relation, chain: tuple[str, str, str]
) -> dict[str, Prompt]:
    """The four prompts of one chain."""
    x, y, z = chain
    ask, then = first.templates[0], second.templates[0]
    phrase = composition.phrase
    inside = tokenise(model.text, fill_in(then, fill_in(phrase, x)), z, x, place_in(then) + place_in(phrase))
    return {
        "first": fill(model.text, ask, x, y),
        "second": fill(model.text, then, y, z),
        "integrated": inside,
        "left_out": fill(model.text, then, x, z),
    }


def study_chains(
    finder: KeptCircuits,
    composition: Composition,
    relations: tuple[Relation, Relation],
    *,
    most: int,
    d_val: int,
    seed: int,
) -> Chains:
    """At most `most` chains asked, and the circuits of the first `d_val` of which both hops rank first."""
    model = finder.model
    made = [chain_prompts(model, composition, *relations, one) for one in chains(*relations, seed)[:most]]
    answers = {name: answer_prompts(model, [one[name] for one in made]) for name in ASKED}
    known = [i for i in range(len(made)) if answers["first"][i].rank == 0 == answers["second"][i].rank]
    prompts: dict[str, list[Prompt]] = {}
    if len(known) >= LEAST:
        prompts = {name: list({made[i][name].text: made[i][name] for i in known[:d_val]}.values()) for name in KINDS}
    circuits = {
        name: finder.find_with_partners(f"{composition.name} {name}", questions, seed)
        for name, questions in prompts.items()
    }
    return Chains(
        composition, made, answers, known, circuits, {name: len(questions) for name, questions in prompts.items()}
    )


def write_chains(answers: Path, circuits: Path, study: Chains) -> None:
    """Keep what the comparison of compositions reads of a study."""
    about = {"composition": asdict(study.composition), "known": study.known, "together": study.together}
    save_circuits(circuits, study.circuits)
    write_json(answers, {**about, "answers": as_json(study.answers)})


def read_chains(answers: Path, circuits: Path, method: str) -> Chains:
    """A kept study; its prompts are left out."""
    found = read_json(answers)
    return Chains(
        Composition(**found["composition"]),
        [],
        from_json(found["answers"]),
        found["known"],
        load_circuits(circuits, method),
        found["together"],
    )


def hop_row(
    graph: Graph, study: Chains, others: Sequence[Chains], own: Mapping[str, Circuit], k: int
) -> dict[str, object]:
    """A composition's row of table hops: hit@k of all chains and of the known ones, and overlaps of circuits.

    `others` give the unrelated circuits: first hops of compositions that share no relation with this one. `own` are the
    relations' own circuits.
    """
    composition = study.composition
    row: dict[str, object] = {"composition": composition.name}
    for name in ASKED:
        row |= columns(f"hit_{name}", proportion(hits(study.answers[name], k)))
        row |= columns(f"known_hit_{name}", proportion(hits([study.answers[name][i] for i in study.known], k)))
    edges = {name: circuit.edges for name, circuit in study.circuits.items()}
    pairs = {f"{one}_{other}": (edges[one], [edges[other]]) for one, other in PAIRS}
    unrelated = [other.circuits["first"].edges for other in others if _apart(study, other)]
    pairs["integrated_unrelated"] = (edges["integrated"], unrelated)
    pairs["first_again"] = (edges["first"], own_circuit(own, composition.first))
    pairs["second_again"] = (edges["second"], own_circuit(own, composition.second))
    row |= overlap_columns(graph, pairs)
    row |= {"n_prompts": study.together["integrated"], "n_prompts_second": study.together["second"]}
    return {**row, "n_known": len(study.known), "n": len(study.answers["first"])}


def _apart(study: Chains, other: Chains) -> bool:
    mine, theirs = study.composition, other.composition
    return not {mine.first, mine.second} & {theirs.first, theirs.second}


def hops_rows(graph: Graph, studies: Sequence[Chains], own: Mapping[str, Circuit], k: int) -> pd.DataFrame:
    """Table hops: one row per composition; those with too few chains of known hops are left out, and named in the log.

    Raises:
        ValueError: if none is left.
    """
    enough = [study for study in studies if len(study.known) >= LEAST]
    for study in studies:
        if len(study.known) < LEAST:
            log.warning(
                "hops: %s is left out, both hops of %d chains are known", study.composition.name, len(study.known)
            )
    if not enough:
        raise ValueError(
            f"hops.compositions: the model knows both hops of fewer than {LEAST} chains of each; name others"
        )
    return pd.DataFrame([hop_row(graph, study, enough, own, k) for study in enough])
