"""Asking what follows from an edit: the edited model ranks answers, and writes on by itself.

| reading | of an answer |
|---|---|
| rank, p | of its first token behind the question |
| forced | whether all its tokens are the likeliest, each behind the right ones before it (teacher-forced) |
| generated | whether the model names it in the text that it writes on by itself, likeliest token by likeliest token |

A check of several queries (`facts/ripples.py`) is ranked by its first; what is generated counts for all of them.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence

from knowcirc.editing.editors import UNEDITED
from knowcirc.editing.edits import Edit, Request, applied, request
from knowcirc.editing.evaluation import read_said
from knowcirc.editing.sampling import greedy
from knowcirc.facts.ripples import Case, Check, says
from knowcirc.models.loading import LanguageModel
from knowcirc.models.tokens import token_text

ASKED = ("old", "follows", "object")
READ = ("rank", "p", "forced", "generated")
OF_CHECK = ("question", "criterion", "relation", "subject", "target", "editor", "takes", "text", "mover", "is_mover")
COLUMNS = (*OF_CHECK, *(f"{what}_{name}" for name in ASKED for what in (*READ, "writes")))
MakeEdit = Callable[[Sequence[Request]], Edit]


def continuations(model: LanguageModel, texts: Sequence[str], tokens: int) -> list[str]:
    """What the model writes after each text: its `tokens` likeliest tokens, one after the other."""
    rows = [model.ids_of(text) for text in texts]
    return [token_text(model.text, row) for row in greedy(model, rows, tokens)] if rows else []


def read_checks(model: LanguageModel, checks: Sequence[Check], tokens: int) -> list[dict[str, object]]:
    """A row for each check under the weights as they are."""
    texts = list(dict.fromkeys(query.text for check in checks for query in check.queries))
    said = dict(zip(texts, continuations(model, texts, tokens), strict=True))
    answers = [(check.queries[0].text, text) for check in checks for text in check.ranked.values()]
    read = iter(read_said(model, answers))
    rows: list[dict[str, object]] = []
    for check in checks:
        written = [said[query.text] for query in check.queries]
        row: dict[str, object] = {"question": check.question, "criterion": check.criterion, "relation": check.relation}
        row |= {"text": written[0], "is_mover": False}
        for name, text in check.ranked.items():
            one = next(read)
            row |= {f"rank_{name}": one.ranks[0], f"p_{name}": math.exp(one.log_p[0])}
            row |= {f"forced_{name}": one.share == 1.0, f"generated_{name}": says(written[0], text)}
        rows.append(row | {"generated_follows": check.passed(written)})
    return rows


def takes(model: LanguageModel, requests: Sequence[Request]) -> bool:
    """Whether every edited sentence is answered with the first token of the edit's object."""
    pairs = [(each.prompt.text, each.prompt.answer_text) for each in requests]
    return all(said.ranks[0] == 0 for said in read_said(model, pairs))


def ask_case(
    model: LanguageModel, case: Case, editors: Mapping[str, MakeEdit], tokens: int
) -> Iterator[dict[str, object]]:
    """A row for each check of a case, for the unedited model (editor `none`) and each editor.

    Checks with a condition that the unedited model does not meet are left out. The weights are put back after each.
    """
    requests = [request(model, each.template, each.subject, each.target) for each in case.edits]
    needed = list(dict.fromkeys(query for check in case.checks for query in check.conditions))
    said = continuations(model, [query.text for query in needed], tokens)
    met = {query for query, text in zip(needed, said, strict=True) if query.answered(text)}
    checks = [check for check in case.checks if set(check.conditions) <= met]
    if not checks:
        return
    named: dict[str, object] = {name: "; ".join(getattr(each, name) for each in case.edits) for name in _NAMED}
    for editor, make in [(UNEDITED, None), *editors.items()]:
        with applied(model, None if make is None else make(requests)) as edited:
            row = {**named, "editor": editor, "takes": takes(edited, requests)}
            yield from [{**row, **read} for read in read_checks(edited, checks, tokens)]


_NAMED = ("subject", "target")
