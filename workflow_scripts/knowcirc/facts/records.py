"""Editing records in the manner of CounterFact, built from any relation table.

A record asks for a counterfactual: the subject with another object of its relation. Beside the request it holds
paraphrases (other templates; the request behind sampled text that no editor reads), its neighbourhood (other subjects
with the same true object, whose answers must not move), prompts to generate from, reference texts about the new object,
a question about the subject, and questions about unrelated facts.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from types import MappingProxyType

import numpy as np

from knowcirc.facts.relations import Relation
from knowcirc.seeding import derive
from knowcirc.wording import fill_in, fits, names

UNRELATED = 2


@dataclass(frozen=True, slots=True)
class Record:
    """One counterfactual edit and all that judges it. Prompts are full texts; `template` holds `{}`.

    `unrelated` are (question, answer) pairs about other relations' facts.
    """

    case: str
    relation: str
    subject: str
    template: str
    target_true: str
    target_new: str
    paraphrases: tuple[str, ...]
    neighbours: tuple[str, ...]
    generation: tuple[str, ...]
    references: tuple[str, ...]
    question: str | None = None
    unrelated: tuple[tuple[str, str], ...] = ()

    @property
    def prompt(self) -> str:
        """The request with its subject."""
        return fill_in(self.template, self.subject)

    def as_json(self) -> dict[str, object]:
        """A plain dictionary."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, object]) -> "Record":
        """The record of `as_json`."""
        return cls(**{key: _frozen(value) for key, value in data.items()})  # type: ignore[arg-type]


def _frozen(value: object) -> object:
    return tuple(map(_frozen, value)) if isinstance(value, list) else value


def build_record(
    relation: Relation,
    index: int,
    *,
    n_neighbours: int,
    prefixes: Sequence[str],
    seed: int,
    alike: Sequence[Sequence[str]] = (),
) -> Record | None:
    """The record of one fact, or None where the relation cannot give it a neighbour or another object.

    `alike` are groups of objects that begin with the same token: one is not put in the place of another. `prefixes` are
    texts that the model sampled, none of them a context that editors optimise on (`editing/sampling.py`:
    `unseen_prefixes`); one, chosen by seed, stands before the request as a paraphrase.
    """
    fact = relation.facts[index]
    rng = np.random.default_rng(derive(seed, relation.name, fact.subject))
    same = {fact.object, *(text for group in alike if fact.object in group for text in group)}
    others = [text for text in relation.objects if text not in same]
    near = [other.subject for other in relation.facts if other.object == fact.object and other != fact]
    if not others or not near:
        return None
    new = others[int(rng.integers(len(others)))]
    template = relation.templates[0]
    near = [near[i] for i in rng.permutation(len(near))[:n_neighbours]]
    sharing = [other.subject for other in relation.facts if other.object == new]
    paraphrases = [fill_in(text, fact.subject) for text in relation.templates[1:3]]
    if prefixes:
        paraphrases.append(f"{prefixes[int(rng.integers(len(prefixes)))]} {fill_in(template, fact.subject)}")
    return Record(
        case=f"{relation.name}/{fact.subject}",
        relation=relation.name,
        subject=fact.subject,
        template=template,
        target_true=fact.object,
        target_new=new,
        paraphrases=tuple(paraphrases),
        neighbours=tuple(fill_in(template, subject) for subject in near),
        generation=tuple(fill_in(text, fact.subject) for text in relation.templates[1:]),
        references=tuple(f"{fill_in(text, s)} {new}." for s in sharing for text in relation.templates),
        question=None if relation.question_template is None else fill_in(relation.question_template, fact.subject),
    )


def unedited_neighbours(record: Record, edited: Iterable[Record]) -> tuple[str, ...]:
    """The record's neighbours but those whose own fact another record edits.

    Where all neighbours are in the request's wording, as those of relation tables are, the text decides. CounterFact's
    are in other wordings: one goes, too, if it names the subject of an edited record of the same relation as whole
    words. That may be a part of a longer name, which is then not asked though nobody edited it.
    """
    edited = list(edited)
    prompts = {one.prompt for one in edited}
    kept = tuple(text for text in record.neighbours if text not in prompts)
    if all(fits(record.template, text) for text in record.neighbours):
        return kept
    subjects = {one.subject for one in edited if one.relation == record.relation}
    return tuple(text for text in kept if not any(names(text, subject) for subject in subjects))


def choose_records(
    relations: Sequence[Relation],
    known: dict[str, set[str]],
    n: int,
    *,
    n_neighbours: int,
    prefixes: Sequence[str],
    seed: int,
    alike: Mapping[str, Sequence[Sequence[str]]] = MappingProxyType({}),
) -> list[Record]:
    """`n` records of facts that the model knows, drawn from the relations in turn; a larger `n` begins with a smaller.

    `alike` are each relation's groups of objects that begin with the same token. Each record asks about UNRELATED facts
    of other relations, too. Facts with fewer than `n_neighbours` neighbours are left out, so that every record weighs
    its neighbourhood alike.

    Raises:
        ValueError: if the relations give fewer than `n` records.
    """
    queues = [
        _candidates(r, known.get(r.name, set()), n_neighbours, prefixes, seed, alike.get(r.name, ())) for r in relations
    ]
    queues = [queue for queue in queues if queue]
    records: list[Record] = []
    while len(records) < n and queues:
        for queue in list(queues):
            if len(records) < n:
                records.append(queue.pop())
            if not queue:
                queues.remove(queue)
    if len(records) < n:
        raise ValueError(
            f"editing.records: {n} asked for, the relations give {len(records)} with {n_neighbours} neighbours; "
            "ask for fewer, or for more relations"
        )
    return [replace(record, unrelated=_unrelated(record, relations, known, seed)) for record in records]


def _unrelated(
    record: Record, relations: Sequence[Relation], known: dict[str, set[str]], seed: int
) -> tuple[tuple[str, str], ...]:
    """Questions about facts that the model knows, each of another relation than the record's and than each other's."""
    rng = np.random.default_rng(derive(seed, "unrelated", record.case))
    found: list[tuple[str, str]] = []
    for index in rng.permutation(len(relations)):
        relation = relations[int(index)]
        facts = [fact for fact in relation.facts if fact.subject in known.get(relation.name, set())]
        if relation.name != record.relation and facts and len(found) < UNRELATED:
            fact = facts[int(rng.integers(len(facts)))]
            wording = relation.question_template or relation.templates[0]
            found.append((fill_in(wording, fact.subject), fact.object))
    return tuple(found)


def _candidates(
    relation: Relation,
    known: set[str],
    n_neighbours: int,
    prefixes: Sequence[str],
    seed: int,
    alike: Sequence[Sequence[str]],
) -> list[Record]:
    order = np.random.default_rng(derive(seed, "records", relation.name)).permutation(len(relation.facts))
    found = [
        build_record(relation, int(i), n_neighbours=n_neighbours, prefixes=prefixes, seed=seed, alike=alike)
        for i in order
        if relation.facts[int(i)].subject in known
    ]
    return [record for record in found if record is not None and len(record.neighbours) == n_neighbours]
