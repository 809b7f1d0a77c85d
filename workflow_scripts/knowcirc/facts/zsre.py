"""zsRE's questions as editing records, as ROME takes them (ROME 3.2, Table 1).

A record asks a question about a subject and gives an answer to edit in. It is judged on the question, on another
wording of it, and on a question of Natural Questions that has nothing to do with it.
"""

import json
import logging
from pathlib import Path
from typing import Any

from knowcirc.facts.records import Record
from knowcirc.facts.upstream import reading

TEXTS = ("src", "subject", "rephrase", "loc", "loc_ans")
log = logging.getLogger(__name__)


def read_questions(path: Path) -> list[dict[str, Any]]:
    """The cases of a file like ROME's `zsre_mend_eval.json`.

    Raises:
        ValueError: if it does not have the file's fields.
    """
    with reading(path, "zsRE"):
        cases = json.loads(path.read_text("utf-8"))
        for case in cases:
            for text in (*(case[name] for name in TEXTS), *case["answers"]):
                if not isinstance(text, str):
                    raise TypeError(f"{text!r} is no text")
    return list(cases)


def choose_questions(cases: list[dict[str, Any]], n: int) -> list[Record]:
    """Records of the first `n` cases whose question names its subject once and that lack nothing, in the file's order.

    Raises:
        ValueError: if the file holds fewer.
    """
    records: list[Record] = []
    for number, case in enumerate(cases):
        if len(records) == n:
            break
        template = case["src"].replace(case["subject"], "{}") if case["subject"] else ""
        if reason := _flaw(case, template):
            log.info("zsre/%d is left out: %s", number, reason)
        else:
            records.append(_record(number, case, template))
    if len(records) < n:
        raise ValueError(f"editing.zsre_records: {n} asked for, the file holds {len(records)}; ask for fewer")
    return records


def _flaw(case: dict[str, Any], template: str) -> str:
    """Why a case cannot be edited or judged; "" if it can."""
    if not all(text.strip() for text in (*(case[name] for name in TEXTS), *case["answers"][:1])) or not case["answers"]:
        return "one of its texts is empty"
    if case["subject"] != case["subject"].strip():
        return f"spaces stand around its subject {case['subject']!r}"
    if template.count("{}") != 1 or template.count("{") != 1 or template.count("}") != 1:
        return f"its question does not name {case['subject']!r} once"
    return ""


def _record(number: int, case: dict[str, Any], template: str) -> Record:
    return Record(
        case=f"zsre/{number}",
        relation="zsre",
        subject=case["subject"],
        template=template,
        target_true="",  # none is known
        target_new=case["answers"][0].strip(),
        paraphrases=(),
        neighbours=(),
        generation=(),
        references=(),
        question=case["rephrase"],
        unrelated=((f"{case['loc']}?", case["loc_ans"].strip()),),
    )
