"""RippleEdits' files as edits with checks (Cohen et al. 2023, arXiv 2307.12976).

An entry states its edit as a sentence ("The name of the mother of X is Y."), with Wikidata's ids of X and Y alone.
Their names are found in the file itself:

1. Y: answers stand beside their ids all over the file; the sentence must end with one of them.
2. X: a name beside its id, too, or what is left of the sentence without the words that all sentences of its relation
   begin and end with.

An entry without either is left out, by name. Checks hold their conditions, queries that the unedited model must answer.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any

from knowcirc.facts import ripples
from knowcirc.facts.ripples import Case, Check, Query, Wanted
from knowcirc.facts.upstream import read_entries, reading
from knowcirc.wording import PLACE

CRITERIA = {
    "Logical_Generalization": ripples.LOGICAL,
    "Compositionality_I": ripples.FIRST_HOP,
    "Compositionality_II": ripples.SECOND_HOP,
    "Subject_Aliasing": ripples.ALIAS,
    "Forgetfulness": ripples.PRESERVED,
    "Relation_Specificity": ripples.SPECIFIC,
}
MISSPELT = {"Relation_Specificity": "Relation_Specifity"}  # as the data set's own description has it
LEAST = 3  # sentences of a relation with different subjects, before what they share is taken for its words
log = logging.getLogger(__name__)
Entry = Mapping[str, Any]


def read_cases(path: Path, n: int, name: str) -> list[Case]:
    """The first `n` entries of a file whose edits can be made, with the checks that can be judged.

    Raises:
        ValueError: if it does not have RippleEdits' fields, or holds fewer.
    """
    found: list[Case] = []
    with reading(path, "RippleEdits"):
        entries = read_entries(path)
        names, wordings = _names(entries), _wordings(entries)
        for number, entry in enumerate(entries):
            if len(found) == n:
                break
            wanted = _wanted(entry["edit"], names, wordings)
            checks = tuple(_checks(entry, name))
            if isinstance(wanted, str) or not checks:
                log.info("%s/%d is left out: %s", name, number, wanted if isinstance(wanted, str) else "it has no test")
            else:
                found.append(Case(f"{name}/{number}", (wanted,), checks))
    if len(found) < n:
        raise ValueError(f"editing.portability.cases: {n} asked for, {path} holds {len(found)}; ask for fewer")
    return found


def _parts(entry: Entry) -> Iterator[tuple[str, Sequence[Entry]]]:
    """An entry's tests by criterion, in the paper's order."""
    for key in CRITERIA:
        yield key, entry[key] if key in entry else entry[MISSPELT.get(key, key)]


def _queries(entries: Sequence[Entry]) -> Iterator[Entry]:
    """All queries of a file."""
    for entry in entries:
        for _, tests in _parts(entry):
            for test in tests:
                yield from (*test["test_queries"], *test["condition_queries"])


def _names(entries: Sequence[Entry]) -> dict[str, list[str]]:
    """The names of Wikidata's items, as answers have them: their own, then aliases."""
    found: dict[str, list[str]] = {}
    for query in _queries(entries):
        ids = query["second_hop_target_ids"] if query["query_type"] == "two_hop" else query["target_ids"]
        for item, answer in zip(ids, query["answers"], strict=False):
            if isinstance(item, str):
                found.setdefault(item, [answer["value"], *answer["aliases"]])
    return found


def _wordings(entries: Sequence[Entry]) -> dict[str, tuple[str, str]]:
    """What the sentences of each relation begin and end with, whatever their subject."""
    texts: dict[str, dict[str, str]] = {}
    for query in _queries(entries):
        if query["query_type"] == "regular" and query["phrase"] is None:
            texts.setdefault(query["relation"], {})[query["subject_id"]] = query["prompt"]
    found = {}
    for relation, of_subject in texts.items():
        each = list(of_subject.values())
        if len(set(each)) >= LEAST:
            start, end = _shared(each), _shared([text[::-1] for text in each])[::-1]
            found[relation] = start[: start.rfind(" ") + 1], end[end.find(" ") :] if " " in end else ""
    return found


def _shared(texts: Sequence[str]) -> str:
    """What all texts begin with."""
    letters = takewhile(lambda each: len(set(each)) == 1, zip(*texts, strict=False))
    return "".join(each[0] for each in letters)


def _wanted(edit: Entry, names: Mapping[str, Sequence[str]], wordings: Mapping[str, tuple[str, str]]) -> Wanted | str:
    """The edit, or why it cannot be told."""
    sentence = str(edit["prompt"])
    target = next((name for name in names.get(edit["target_id"], ()) if sentence.endswith(f" {name}.")), None)
    if not target:
        return f"the new object's name is not in the file: {sentence!r}"
    text = sentence[: -len(f" {target}.")]
    subject = next((name for name in names.get(edit["subject_id"], ()) if name and text.count(name) == 1), "")
    if not subject and edit["relation"] in wordings:
        start, end = wordings[edit["relation"]]
        if text.startswith(start) and text.endswith(end) and len(text) > len(start) + len(end):
            subject = text[len(start) : len(text) - len(end)]
    if not subject or subject != subject.strip() or text.count(subject) != 1 or PLACE in text:
        return f"the subject's name cannot be told: {sentence!r}"
    return Wanted(text.replace(subject, PLACE), subject, target)


def _checks(entry: Entry, name: str) -> Iterator[Check]:
    """The checks whose queries all have answers."""
    for key, tests in _parts(entry):
        for test in tests:
            queries = [_query(each) for each in test["test_queries"]]
            conditions = [_query(each) for each in test["condition_queries"]]
            asked = tuple(each for each in queries if each is not None)
            needed = tuple(each for each in conditions if each is not None)
            if asked and len(asked) == len(queries) and len(needed) == len(conditions):
                every = test["test_condition"] == "AND"
                yield Check(CRITERIA[key], CRITERIA[key], asked, name, every, needed)


def _query(query: Entry) -> Query | None:
    """A query; None where it has no text, or an answer has no name of more than one letter."""
    answers = []
    for answer in query["answers"]:
        names = [str(name).strip() for name in (answer["value"], *answer["aliases"])]
        answers.append(tuple(each for each in names if len(each) > 1 or each.isdigit()))
    text = str(query["prompt"]).strip()
    return Query(text, tuple(answers)) if text and answers and all(answers) else None
