"""Relations: a set of facts of one kind and the sentences that ask for them.

Built-in relations are YAML files in `config/facts/`; those of LRE (Hernandez et al. 2023) are JSON files.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from knowcirc.facts.sources import SOURCES
from knowcirc.functions import function_of
from knowcirc.wording import place_in
from knowcirc.yaml_files import read_yaml

CATEGORIES = ("linguistic", "commonsense", "factual", "bias")
REQUIRED = ("name", "category", "subject_type", "answer_type", "templates", "question_template", "facts")
OPTIONAL = ("reverse_template", "relation_words")
TEXTS = ("name", "category", "subject_type", "answer_type", "question_template", "reverse_template")
MAYBE = ("question_template", "reverse_template")  # null where a relation has none
LISTS = ("templates", "facts", "relation_words")


@dataclass(frozen=True, slots=True)
class Fact:
    """One fact: what the sentence is about, and what completes it."""

    subject: str
    object: str


@dataclass(frozen=True, slots=True)
class Relation:
    """Facts of one kind. Templates hold `{}` for the subject; the object follows after a space.

    `templates[0]` is the prompt of every study, the others are paraphrases. `reverse_template` holds `{}` for
    the object. `relation_words` are the words of the templates that carry the relation.
    """

    name: str
    category: str
    subject_type: str
    answer_type: str
    templates: tuple[str, ...]
    question_template: str | None
    reverse_template: str | None
    relation_words: tuple[str, ...]
    facts: tuple[Fact, ...]

    @property
    def objects(self) -> tuple[str, ...]:
        """The different objects, in the order of their first appearance."""
        return tuple(dict.fromkeys(fact.object for fact in self.facts))


def read_relation(path: Path) -> Relation:
    """A relation from a built-in YAML file.

    Raises:
        ValueError: naming the file and what is wrong with it.
    """
    data = read_yaml(path)
    if not isinstance(data, dict):
        raise ValueError(f"{path}: a mapping with the keys {', '.join(REQUIRED)} is expected")
    missing = [key for key in REQUIRED if key not in data]
    unknown = sorted(set(data) - set(REQUIRED) - set(OPTIONAL))
    if missing or unknown:
        raise ValueError(f"{path}: missing keys {missing}, unknown keys {unknown}; correct the file")
    for key in TEXTS:
        if not isinstance(data.get(key), str) and not (key in MAYBE and data.get(key) is None):
            raise ValueError(f"{path}: {key} must be a text, not {data[key]!r} (quote it)")
    for key in LISTS:
        if not isinstance(data.get(key, []), list):
            raise ValueError(f"{path}: {key} must be a list, not {data[key]!r}")
        if key != "facts" and (odd := [each for each in data.get(key, []) if not isinstance(each, str)]):
            raise ValueError(f"{path}: {key}: {odd[0]!r} is not a text (quote it)")
    relation = Relation(
        name=data["name"],
        category=data["category"],
        subject_type=data["subject_type"],
        answer_type=data["answer_type"],
        templates=tuple(data["templates"]),
        question_template=data["question_template"],
        reverse_template=data.get("reverse_template"),
        relation_words=tuple(data.get("relation_words", ())),
        facts=tuple(_read_fact(path, row) for row in data["facts"]),
    )
    _check(path, relation)
    return relation


def _read_fact(path: Path, row: object) -> Fact:
    if not (isinstance(row, list) and len(row) == 2 and all(isinstance(text, str) for text in row)):
        raise ValueError(f"{path}: facts: {row!r} is not a [subject, object] pair of texts (quote them)")
    for text in row:
        if not text or text != text.strip():
            raise ValueError(f"{path}: facts: {row!r}: {text!r} is empty or has spaces around it; leave these out")
    return Fact(*row)


def _check(path: Path, relation: Relation) -> None:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", relation.name):
        raise ValueError(f"{path}: name {relation.name!r}: take letters, digits, dots, underscores and dashes alone")
    if relation.name != path.stem:
        raise ValueError(f"{path}: name {relation.name!r} is not the file's name; make them equal")
    if relation.category not in CATEGORIES:
        raise ValueError(f"{path}: category {relation.category!r} is none of {', '.join(CATEGORIES)}")
    if len(relation.templates) < 3:
        raise ValueError(f"{path}: {len(relation.templates)} templates; at least 3 are needed")
    sentences = [*relation.templates, relation.question_template, relation.reverse_template]
    for sentence in sentences:
        if sentence is not None:
            _check_template(path, sentence)
    if odd := [word for word in relation.relation_words if not word or word != word.strip()]:
        raise ValueError(f"{path}: relation_words: {odd[0]!r} is empty or has spaces around it; leave these out")
    twice = [subject for subject, count in Counter(f.subject for f in relation.facts).items() if count > 1]
    if twice:
        raise ValueError(f"{path}: subjects {twice} stand twice; keep one fact each")


def _check_template(path: Path, template: str) -> None:
    try:
        place_in(template)
    except ValueError as error:
        raise ValueError(f"{path}: template {error}") from None
    if template != template.strip():
        raise ValueError(f"{path}: template {template!r} must have no space at its ends")


def _stripped(text: Any) -> Any:
    """A text of LRE without the spaces that some have around them."""
    return text.strip() if isinstance(text, str) else text


def read_lre(path: Path) -> Relation:
    """A relation from an LRE file; its zero-shot templates come first, of a repeated subject the first fact counts.

    Raises:
        ValueError: if the file is no LRE relation.
    """
    try:
        data = json.loads(path.read_text("utf-8"))
        properties = data["properties"]
        pairs = [[_stripped(row[key]) for key in ("subject", "object")] for row in reversed(data["samples"])]
        facts = {subject: Fact(subject, told) for subject, told in pairs}
        templates = [*data["prompt_templates_zs"], *data["prompt_templates"]]
        words = tuple(word for word in data["name"].split() if len(word) > 2)
        kind, subject_type, answer_type = (properties[key] for key in ("relation_type", "domain_name", "range_name"))
        asked = tuple(dict.fromkeys(text.strip() for text in templates))
        texts = [text for fact in facts.values() for text in (fact.subject, fact.object)]
        if odd := [text for text in texts if not isinstance(text, str)]:
            raise TypeError(f"{odd[0]!r} is no text")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: no LRE relation ({type(error).__name__}: {error}); download it again") from None
    for template in asked:
        _check_template(path, template)
    return Relation(
        name=path.stem,
        category=kind,
        subject_type=subject_type,
        answer_type=answer_type,
        templates=asked,
        question_template=None,
        reverse_template=None,
        relation_words=words,
        facts=tuple(reversed(facts.values())),
    )


def read_relations(source: str, paths: Iterable[str]) -> dict[str, Relation]:
    """Relations by name, from files of a source (`sources.py`)."""
    reader = function_of(SOURCES[source].read)
    return {relation.name: relation for relation in map(reader, map(Path, paths))}
