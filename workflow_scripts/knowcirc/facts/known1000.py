"""ROME's file of facts for causal tracing, `known_1000` (1,209 records; Meng et al. 2022, section 2).

The file was made for GPT-2 XL: what that model knows, another may not. ROME's code skips a fact unless the model's
likeliest token is the whole answer. Here the same facts are skipped, each by name and with its reason:

1. read the records (`read_known_1000`),
2. find each subject in its prompt's tokens and count the answer's tokens,
3. ask the model what is left and keep the facts whose answer ranks first (`screen_facts`).
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from tokenizers import Tokenizer

from knowcirc.facts.knowledge import Answer, answer_prompts
from knowcirc.facts.prompts import Prompt, answer_tokens, tokenise
from knowcirc.facts.upstream import reading
from knowcirc.models.loading import LanguageModel

TEXTS = ("subject", "attribute", "prompt", "relation_id")
NO_SUBJECT = "no subject in the prompt"
SEVERAL_TOKENS = "answer of {} tokens"
NOT_KNOWN = "not known: the answer ranks {}"
KINDS = (NO_SUBJECT, SEVERAL_TOKENS, NOT_KNOWN)


@dataclass(frozen=True, slots=True)
class KnownFact:
    """A record of the file. `attribute` is the answer, without the space before it; `relation_id` is Wikidata's."""

    known_id: int
    subject: str
    attribute: str
    prompt: str
    relation_id: str


@dataclass(frozen=True, slots=True)
class UsableFact:
    """A fact that can be traced: its tokens, and how the model answers."""

    fact: KnownFact
    prompt: Prompt
    answer: Answer


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A fact that cannot be traced. `kind` is one of KINDS; `number` fills it in (ranks count from 1 here)."""

    fact: KnownFact
    kind: str
    number: int | None = None

    @property
    def reason(self) -> str:
        """The reason in words.

        >>> LeftOut(KnownFact(0, "Rome", "Italy", "Rome is in", "P17"), NOT_KNOWN, 3).reason
        'not known: the answer ranks 3'
        """
        return self.kind.format(self.number)


def read_known_1000(path: Path) -> list[KnownFact]:
    """The file's facts, in its order; fields that tracing does not need are not read.

    Raises:
        ValueError: naming the file, the record and the field that is not as expected.
    """
    with reading(path, "known_1000"):
        records = json.loads(path.read_text("utf-8"))
    if not isinstance(records, list) or not records:
        raise ValueError(f"{path} is no known_1000 file: a list of records is expected; fetch it again")
    facts = [_read_fact(path, number, record) for number, record in enumerate(records)]
    first: dict[int, int] = {}
    for number, fact in enumerate(facts):
        if first.setdefault(fact.known_id, number) != number:
            raise ValueError(
                f"{path}: record {number}: field known_id: {fact.known_id} is also that of record "
                f"{first[fact.known_id]}; fetch it again"
            )
    return facts


def _read_fact(path: Path, number: int, record: object) -> KnownFact:
    where = f"{path}: record {number}"
    if not isinstance(record, dict):
        raise ValueError(f"{where}: {record!r} is no mapping of fields; fetch it again")
    missing = [name for name in ("known_id", *TEXTS) if name not in record]
    if missing:
        raise ValueError(f"{where}: field {missing[0]} is missing; fetch it again")
    if type(record["known_id"]) is not int:
        raise ValueError(f"{where}: field known_id: {record['known_id']!r} is no integer; fetch it again")
    for name in TEXTS:
        text = record[name]
        if not isinstance(text, str) or not text or text != text.strip():
            raise ValueError(f"{where}: field {name}: {text!r} is no text without spaces around it; fetch it again")
    return KnownFact(record["known_id"], *(record[name] for name in TEXTS))


def screen_facts(model: LanguageModel, facts: Sequence[KnownFact]) -> tuple[list[UsableFact], list[LeftOut]]:
    """The facts that can be traced on this model, and the others with the first reason against each; order is kept.

    A subject is found by character offsets, its last occurrence. An answer is " " + attribute without special tokens.
    A fact is known when its answer ranks first (ROME section 2).

    Raises:
        ValueError: if the model's folder holds no tokenizer, or this merges an answer with the text before it.
    """
    prompts: dict[int, Prompt] = {}
    left_out: dict[int, LeftOut] = {}
    for index, fact in enumerate(facts):
        prompt = _find_subject(model.text, fact)
        if prompt is None:
            left_out[index] = LeftOut(fact, NO_SUBJECT)
        elif len(prompt.answer) != 1:
            left_out[index] = LeftOut(fact, SEVERAL_TOKENS, len(prompt.answer))
        else:
            prompts[index] = prompt
    usable = []
    for index, found in zip(prompts, answer_prompts(model, list(prompts.values())), strict=True):
        if found.rank == 0:
            usable.append(UsableFact(facts[index], prompts[index], found))
        else:
            left_out[index] = LeftOut(facts[index], NOT_KNOWN, found.rank + 1)
    return usable, [left_out[index] for index in sorted(left_out)]


def _find_subject(tokenizer: Tokenizer, fact: KnownFact) -> Prompt | None:
    """The fact's prompt, or None where its subject has no token there."""
    answer_tokens(tokenizer, fact.attribute)  # an answer that will not do is no missing subject
    try:
        return tokenise(tokenizer, fact.prompt, fact.attribute, fact.subject)
    except ValueError:
        return None


def usable_table(usable: Sequence[UsableFact]) -> pd.DataFrame:
    """Usable facts as rows; p is the answer's probability."""
    names = ("known_id", "relation", "subject", "prompt", "answer", "p")
    rows = [
        (one.fact.known_id, one.fact.relation_id, one.fact.subject, one.fact.prompt, one.fact.attribute, one.answer.p)
        for one in usable
    ]
    return pd.DataFrame(rows, columns=list(names))


def left_out_table(left_out: Sequence[LeftOut], model: str) -> pd.DataFrame:
    """The facts left out as rows, each with its reason."""
    names = ("model", "known_id", "subject", "prompt", "answer", "reason")
    rows = [
        (model, one.fact.known_id, one.fact.subject, one.fact.prompt, one.fact.attribute, one.reason)
        for one in left_out
    ]
    return pd.DataFrame(rows, columns=list(names))


def describe_screening(usable: Sequence[UsableFact], left_out: Sequence[LeftOut]) -> str:
    """How many facts can be traced, and how many were left out by reason, in one line.

    >>> describe_screening([], [LeftOut(KnownFact(0, "Rome", "Italy", "Rome is in", "P17"), NOT_KNOWN, 3)])
    '0 of 1 facts can be traced; no subject in the prompt: 0, answer of N tokens: 0, not known: the answer ranks N: 1'
    """
    counts = [f"{kind.format('N')}: {sum(one.kind == kind for one in left_out)}" for kind in KINDS]
    return f"{len(usable)} of {len(usable) + len(left_out)} facts can be traced; {', '.join(counts)}"


def draw_usable(table: pd.DataFrame, n: int, seed: int) -> pd.DataFrame:
    """`n` rows drawn by seed, fewer where there are fewer; a larger draw begins with the smaller one."""
    return table.sample(frac=1, random_state=seed % 2**32).head(n)


def prompts_of_table(model: LanguageModel, table: pd.DataFrame) -> list[Prompt]:
    """The prompts of `usable_table`'s rows, in their order."""
    return [
        tokenise(model.text, prompt, answer, subject)
        for prompt, answer, subject in zip(table["prompt"], table["answer"], table["subject"], strict=True)
    ]
