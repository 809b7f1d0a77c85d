"""Facts in two hops (KC appendix): the language of the country where a landmark stands.

A composition joins two relations over the object of the first, which is a subject of the second.

| prompt | asks for | for example |
|---|---|---|
| first | the first relation's object y of x | The landmark {x} is a place in the country of |
| second | the second relation's object z of y | The main language spoken in {y} is |
| integrated | z through the first hop | The main language spoken in the country of {x} is |
| left_out | z, the first hop left out of the text | The main language spoken in {x} is |

Circuits are those of single prompts whose hops are both known, against the zero baseline; their overlap stands beside
that with a prompt of another composition.
"""

import logging
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
from knowcirc.facts.prompts import Prompt, tokenise
from knowcirc.facts.relations import Relation
from knowcirc.models.loading import LanguageModel
from knowcirc.statistics import columns, proportion

ASKED = ("first", "second", "integrated", "left_out")
PAIRS = (("integrated", "first"), ("integrated", "second"), ("first", "second"), ("integrated", "left_out"))
LEAST = 3
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Composition:
    """Two relations, and the words by which the second is asked about the first's subject; `bridge` holds `{}`."""

    first: str
    second: str
    bridge: str

    @property
    def name(self) -> str:
        """`city_country+country_language`."""
        return f"{self.first}+{self.second}"


@dataclass(frozen=True, slots=True)
class Chains:
    """A composition's prompts, chain by chain, the model's answers, and circuits of the first chains that are known."""

    composition: Composition
    prompts: list[dict[str, Prompt]]
    answers: dict[str, list[Answer]]
    known: list[int]
    circuits: list[dict[str, Circuit]]


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
    texts = {
        "first": (ask.format(x), y, x),
        "second": (then.format(y), z, y),
        "integrated": (then.format(composition.bridge.format(x)), z, x),
        "left_out": (then.format(x), z, x),
    }
    return {name: tokenise(model.text, text, answer, about) for name, (text, answer, about) in texts.items()}


def study_chains(
    model: LanguageModel,
    find: Find,
    composition: Composition,
    relations: tuple[Relation, Relation],
    *,
    most: int,
    n_circuits: int,
    seed: int,
) -> Chains:
    """At most `most` chains asked, and circuits of the first `n_circuits` of which both hops rank first."""
    made = [chain_prompts(model, composition, *relations, one) for one in chains(*relations, seed)[:most]]
    answers = {name: answer_prompts(model, [one[name] for one in made]) for name in ASKED}
    known = [i for i in range(len(made)) if answers["first"][i].rank == 0 == answers["second"][i].rank]
    circuits = [{name: find(model, made[i][name]) for name in ASKED} for i in known[:n_circuits]]
    return Chains(composition, made, answers, known, circuits)


def hop_row(graph: Graph, study: Chains, others: Sequence[Chains], k: int) -> dict[str, object]:
    """A composition's row of table hops: hit@k of all chains and of the known ones, and overlaps of circuits.

    `others` give the unrelated circuits: first hops of compositions that share no relation with this one.
    """
    row: dict[str, object] = {"composition": study.composition.name}
    for name in ASKED:
        row |= columns(f"hit_{name}", proportion(hits(study.answers[name], k)))
        row |= columns(f"known_hit_{name}", proportion(hits([study.answers[name][i] for i in study.known], k)))
    pairs = {
        f"{one}_{other}": [(each[one].edges, [each[other].edges]) for each in study.circuits] for one, other in PAIRS
    }
    strangers = [[each["first"].edges for each in other.circuits] for other in others if _apart(study, other)]
    pairs["integrated_unrelated"] = beside([each["integrated"].edges for each in study.circuits], strangers)
    row |= overlap_columns(graph, pairs)
    return {**row, "n_circuits": len(study.circuits), "n_known": len(study.known), "n": len(study.prompts)}


def _apart(study: Chains, other: Chains) -> bool:
    mine, theirs = study.composition, other.composition
    return not {mine.first, mine.second} & {theirs.first, theirs.second}


def hops_rows(graph: Graph, studies: Sequence[Chains], k: int) -> pd.DataFrame:
    """Table hops: a row a composition; those with too few chains of known hops are left out, and named in the log.

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
    return pd.DataFrame([hop_row(graph, study, enough, k) for study in enough])
