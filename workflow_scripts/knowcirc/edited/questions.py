"""Checks of what follows from an edit, made from the study's own relations.

| question | criterion (`facts/ripples.py`) | must be said |
|---|---|---|
| two hops | compositionality I: the first hop is edited | what the second relation says of the new object |
| second hop edited | compositionality II: the second hop is edited, and asked of what leads to it | the new object |
| reverse | logical generalization, by the inverse relation | the edited subject, asked of the new object |
| other wordings | paraphrase | the new object |
| other facts | relation specificity: other relations of the subject | their objects, as before |

Of other relations those are left out that the edited one decides: where subjects that share its object always share
theirs (a landmark's country decides its continent), so that it is not said that they should stay. RippleEdits' subject
aliasing and preservation cannot be asked: the relations have one name for a subject, and one object.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from knowcirc.behaviours.hops import KINDS, Composition, chain_prompts, chains
from knowcirc.behaviours.reverse import reversible
from knowcirc.facts.knowledge import answer_prompts
from knowcirc.facts.prompts import Prompt, answer_tokens, fill
from knowcirc.facts.relations import Relation
from knowcirc.facts.ripples import FIRST_HOP, LOGICAL, PARAPHRASE, SECOND_HOP, SPECIFIC, Case, Check, Query, Wanted
from knowcirc.models.loading import LanguageModel
from knowcirc.seeding import derive
from knowcirc.wording import fill_in

HOPS, SECOND, REVERSE, WORDINGS, FACTS = "two hops", "second hop edited", "reverse", "other wordings", "other facts"
QUESTIONS = (HOPS, SECOND, REVERSE, WORDINGS, FACTS)
N_WORDINGS = 2  # of a relation's others


def decides(first: Relation, other: Relation) -> bool:
    """Whether a relation's object decides the other's: subjects that share the one share the other, and some do."""
    one, two = ({fact.subject: fact.object for fact in relation.facts} for relation in (first, other))
    found: dict[str, list[str]] = {}
    for subject in one:
        if subject in two:
            found.setdefault(one[subject], []).append(two[subject])
    shared = [objects for objects in found.values() if len(objects) > 1]
    return bool(shared) and all(len(set(objects)) == 1 for objects in shared)


def about_subject(
    model: LanguageModel, relation: Relation, relations: Sequence[Relation], subject: str, old: str, new: str
) -> list[Check]:
    """The edited fact in other words, and the subject's other facts that the unedited model knows."""
    found = [
        Check(WORDINGS, PARAPHRASE, (Query(fill_in(text, subject), ((new,),)),), relation.name, old=old)
        for text in relation.templates[1 : 1 + N_WORDINGS]
    ]
    others = [
        (other, fact.object)
        for other in relations
        for fact in other.facts
        if fact.subject == subject and other.name != relation.name and not decides(relation, other)
    ]
    prompts = [fill(model.text, other.templates[0], subject, text) for other, text in others]
    for prompt, (_, text), answer in zip(prompts, others, answer_prompts(model, prompts), strict=True):
        if answer.rank == 0:
            found.append(Check(FACTS, SPECIFIC, (Query(prompt.text, ((text,),)),), relation.name))
    return found


def hop_check(composition: Composition, question: str, old: str, follows: str, new: str) -> Check:
    """The question through both hops after the first was edited to `new`."""
    return Check(HOPS, FIRST_HOP, (Query(question, ((follows,),)),), composition.name, old=old, object=new)


def another(model: LanguageModel, relation: Relation, old: str, seed: int) -> str | None:
    """Another object of the relation, drawn by seed, with another first token than the old one; None: there is none."""
    first = answer_tokens(model.text, old)[0]
    objects = [text for text in relation.objects if answer_tokens(model.text, text)[0] != first]
    return objects[int(np.random.default_rng(seed).integers(len(objects)))] if objects else None


@dataclass(frozen=True, slots=True)
class AskedChain:
    """A chain x -> y -> z, its prompts (`hops.py`), and which of them the unedited model answers."""

    chain: tuple[str, str, str]
    prompts: dict[str, Prompt]
    known: frozenset[str]


def ask_chains(
    model: LanguageModel, composition: Composition, first: Relation, second: Relation, seed: int
) -> list[AskedChain]:
    """All chains of a composition in a seeded order, with what the unedited model answers of them."""
    found = [(chain, chain_prompts(model, composition, first, second, chain)) for chain in chains(first, second, seed)]
    asked = list({prompts[kind].text: prompts[kind] for _, prompts in found for kind in KINDS}.values())
    right = {prompt.text for prompt, one in zip(asked, answer_prompts(model, asked), strict=True) if one.rank == 0}
    return [
        AskedChain(chain, prompts, frozenset(kind for kind in KINDS if prompts[kind].text in right))
        for chain, prompts in found
    ]


def second_hop_cases(
    model: LanguageModel,
    composition: Composition,
    relations: Mapping[str, Relation],
    asked: Sequence[AskedChain],
    n: int,
    seed: int,
) -> Iterator[Case]:
    """At most `n` edits of second hops y -> z, each of another y, with the question through both hops of one x.

    The unedited model answers both hops and the question.
    """
    second = relations[composition.second]
    taken: set[str] = set()
    for one in asked:
        _, y, old = one.chain
        if len(taken) == n or y in taken or one.known != frozenset(KINDS):
            continue
        if (new := another(model, second, old, derive(seed, "second hop", composition.name, y))) is None:
            continue
        taken.add(y)
        asks = (Query(one.prompts["integrated"].text, ((new,),)),)
        through = Check(SECOND, SECOND_HOP, asks, composition.name, old=old)
        rest = about_subject(model, second, list(relations.values()), y, old, new)
        yield Case(y, (Wanted(second.templates[0], y, new),), (through, *rest))


def reverse_cases(
    model: LanguageModel,
    relation: Relation,
    wording: str,
    relations: Sequence[Relation],
    n: int,
    seed: int,
) -> Iterator[Case]:
    """At most `n` edits of facts that the unedited model knows, each asked backward, of its new object.

    Facts are those whose object has no other subject, as where relations are asked backward unedited.
    """
    facts = reversible(relation, len(relation.facts), derive(seed, "reverse edits"))
    owners = {fact.object: fact.subject for fact in facts}
    prompts = [fill(model.text, relation.templates[0], fact.subject, fact.object) for fact in facts]
    left = n
    for fact, answer in zip(facts, answer_prompts(model, prompts), strict=True):
        if answer.rank or not left:
            continue
        new = another(model, relation, fact.object, derive(seed, "reverse", relation.name, fact.subject))
        if new is None:
            continue
        left -= 1
        asks = (Query(fill_in(wording, new), ((fact.subject,),)),)
        back = Check(REVERSE, LOGICAL, asks, relation.name, old=owners.get(new))
        rest = about_subject(model, relation, relations, fact.subject, fact.object, new)
        yield Case(fact.subject, (Wanted(relation.templates[0], fact.subject, new),), (back, *rest))
