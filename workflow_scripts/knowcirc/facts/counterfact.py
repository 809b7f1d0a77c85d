"""ROME's CounterFact file as editing records.

Its paraphrases, neighbourhood and generation prompts are taken as they are. Reference texts are those of ROME's
`attribute_snippets`: passages of Wikipedia about subjects of which the record's new object is true.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from knowcirc.facts.records import UNRELATED, Record
from knowcirc.facts.upstream import reading
from knowcirc.seeding import derive

Order = Literal["drawn", "file"]
Snippets = dict[tuple[str, str], list[str]]
"""Texts by relation and object, named as CounterFact names them."""


def read_counterfact(path: Path) -> list[dict[str, Any]]:
    """The file's cases.

    Raises:
        ValueError: if it does not have CounterFact's fields.
    """
    with reading(path, "CounterFact"):
        cases = json.loads(path.read_text("utf-8"))
        for case in cases:
            rewrite = case["requested_rewrite"]
            _ = rewrite["prompt"], rewrite["subject"], rewrite["target_new"]["str"], rewrite["target_true"]["str"]
            _ = rewrite["relation_id"], rewrite["target_new"]["id"]
            _ = case["case_id"], case["paraphrase_prompts"], case["neighborhood_prompts"], case["generation_prompts"]
    return list(cases)


def read_snippets(path: Path) -> Snippets:
    """The texts of ROME's `attribute_snippets` file.

    Raises:
        ValueError: if it does not have the file's fields.
    """
    found: Snippets = {}
    with reading(path, "attribute_snippets"):
        for part in json.loads(path.read_text("utf-8")):
            texts = found.setdefault((part["relation_id"], part["target_id"]), [])
            texts += [str(sample["text"]) for sample in part["samples"]]
    return found


def choose_cases(
    cases: Sequence[dict[str, Any]],
    n: int,
    snippets: Mapping[tuple[str, str], Sequence[str]],
    *,
    n_neighbours: int,
    seed: int,
    order: Order = "drawn",
) -> list[Record]:
    """`n` records, drawn by seed or the file's first, each with at most `n_neighbours` of its neighbourhood prompts.

    Raises:
        ValueError: if the file holds fewer cases.
    """
    if len(cases) < n:
        raise ValueError(f"editing.records: {n} asked for, CounterFact holds {len(cases)}; ask for fewer")
    places = np.arange(len(cases))
    if order == "drawn":
        places = np.random.default_rng(derive(seed, "counterfact")).permutation(len(cases))
    records = [_record(cases[i], snippets, n_neighbours) for i in places[:n]]
    return [
        replace(record, unrelated=tuple((other.prompt, other.target_true) for other in _next(records, at, UNRELATED)))
        for at, record in enumerate(records)
    ]


def _next(records: Sequence[Record], at: int, most: int) -> list[Record]:
    """The records after one, those of other relations, from the first again at the end."""
    others = [*records[at + 1 :], *records[:at]]
    return [record for record in others if record.relation != records[at].relation][:most]


def _record(case: dict[str, Any], snippets: Mapping[tuple[str, str], Sequence[str]], n_neighbours: int) -> Record:
    rewrite = case["requested_rewrite"]
    new = rewrite["target_new"]
    return Record(
        case=f"counterfact/{case['case_id']}",
        relation=str(rewrite["relation_id"]),
        subject=rewrite["subject"],
        template=rewrite["prompt"],
        target_true=rewrite["target_true"]["str"],
        target_new=new["str"],
        paraphrases=tuple(case["paraphrase_prompts"]),
        neighbours=tuple(case["neighborhood_prompts"][:n_neighbours]),
        generation=tuple(case["generation_prompts"]),
        references=tuple(snippets.get((rewrite["relation_id"], new["id"]), ())),
    )
