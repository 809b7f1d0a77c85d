"""MQuAKE's files as edits with checks (Zhong et al. 2023, arXiv 2305.14795).

A case has one to four edits, made together, and three wordings of a question in two to four hops through them; it
passes where one wording is answered with the new answer or an alias, as in the paper (section 4.2).
"""

import logging
from pathlib import Path
from typing import Any

from knowcirc.facts.ripples import FIRST_HOP, Case, Check, Query, Wanted
from knowcirc.facts.upstream import read_entries, reading
from knowcirc.wording import fill_in

log = logging.getLogger(__name__)


def read_cases(path: Path, n: int, name: str) -> list[Case]:
    """The first `n` cases of a file whose edits can be made.

    Raises:
        ValueError: if it does not have MQuAKE's fields, or holds fewer.
    """
    found: list[Case] = []
    with reading(path, "MQuAKE"):
        for each in read_entries(path):
            if len(found) == n:
                break
            edits, check = _edits(each), _check(each, name)
            if reason := _flaw(edits, check):
                log.info("%s/%s is left out: %s", name, each["case_id"], reason)
            else:
                found.append(Case(f"{name}/{each['case_id']}", edits, (check,)))
    if len(found) < n:
        raise ValueError(f"editing.portability.cases: {n} asked for, {path} holds {len(found)}; ask for fewer")
    return found


def _edits(case: dict[str, Any]) -> tuple[Wanted, ...]:
    return tuple(
        Wanted(_text(edit["prompt"]), _text(edit["subject"]), _text(edit["target_new"]["str"]))
        for edit in case["requested_rewrite"]
    )


def _check(case: dict[str, Any], name: str) -> Check:
    names = tuple(map(_text, (case["new_answer"], *case["new_answer_alias"])))
    queries = tuple(Query(_text(text), (names,)) for text in case["questions"])
    return Check("hops through edits", FIRST_HOP, queries, name, old=_text(case["answer"]))


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    return value


def _flaw(edits: tuple[Wanted, ...], check: Check) -> str:
    """Why a case cannot be edited or judged; "" if it can."""
    if not edits or not check.queries:
        return "it has no edit, or no question"
    texts = [*(text for edit in edits for text in (edit.subject, edit.target)), *check.queries[0].answers[0], check.old]
    if odd := [text for text in texts if not text or text != text.strip()]:
        return f"{odd[0]!r} is empty or has spaces around it"
    for edit in edits:
        try:
            fill_in(edit.template, edit.subject)
        except ValueError as error:
            return str(error)
    return ""
