"""Wrong answers of the right type beside right ones, relation by relation (KC 6, C.2, made quantitative).

1. Of every relation the wrong answers whose top token begins another object of the relation, and as many right ones.
2. At the last position, layer by layer: from which layer on the wrong answer leads the right one for good, and whether
   the right one was ever on top on the way (known but lost) or never; and where the wrong one is about to lead, which
   share of the relation's other objects the right one leads, less the same of right answers to other questions.
3. Which head adds most to what the model says, and which to the right answer (direct logit attribution).
4. The relation's main mover head (`components.py`; of its movers and mixtures the one of the largest attribution):
   whether it attends to the subject, and which of the two answers it writes.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from jaxtyping import Int
from numpy import ndarray

from knowcirc.facts.prompts import Prompt, answer_tokens
from knowcirc.facts.ranking import token_ranks
from knowcirc.facts.survey import prompts_of
from knowcirc.models.loading import LanguageModel
from knowcirc.reading.ablation import Head, head_name, head_of
from knowcirc.reading.heads import Thresholds, attributions, observe
from knowcirc.reading.lens import by_layer, last_logits, step_ranks
from knowcirc.seeding import derive

FIRST = 10


@dataclass(frozen=True, slots=True)
class Case:
    """A fact that the model answers: its prompt, and the first tokens of the right answer and of its rival.

    The rival of a wrong answer is what the model says; that of a right one is the runner-up of the relation's objects.
    """

    kind: str
    subject: str
    prompt: Prompt
    right: int
    rival: int


def draw_cases(model: LanguageModel, survey: pd.DataFrame, relation: str, most: int, seed: int) -> list[Case]:
    """At most `most` wrong answers of the right type, and as many right ones, of the first wording."""
    first_wording = survey[(survey.relation == relation) & (survey.template == 0)]
    objects = first_tokens(model, first_wording["object"].unique())
    wrong = first_wording[first_wording["wrong"].fillna("") != ""]
    right = first_wording[first_wording["rank"] == 0]
    cases = []
    for kind, rows in (("wrong", wrong), ("right", right)):
        rows = rows.sample(n=min(most, len(wrong), len(rows)), random_state=derive(seed, kind, relation) % 2**32)
        for prompt, (_, row) in zip(prompts_of(model, rows), rows.iterrows(), strict=True):
            own = prompt.answer[0]
            said = answer_tokens(model.text, row["wrong"])[0] if kind == "wrong" else runner_up(model, prompt, objects)
            cases.append(Case(kind, str(row["subject"]), prompt, own, said))
    return cases


def first_tokens(model: LanguageModel, objects: Iterable[str]) -> set[int]:
    """The tokens by which objects begin."""
    return {answer_tokens(model.text, text)[0] for text in objects}


def runner_up(model: LanguageModel, prompt: Prompt, objects: set[int]) -> int:
    """Of the first tokens of a relation's objects the likeliest that is not the prompt's answer."""
    logits = model.transformer.logits(model.batch([prompt.ids]))[0]
    others = sorted(objects - {prompt.answer[0]})
    return others[int(logits[others].argmax())]


def case_rows(
    model: LanguageModel,
    relation: str,
    category: str,
    cases: Sequence[Case],
    objects: set[int],
    mover: Head | None,
    limits: Thresholds,
) -> pd.DataFrame:
    """One row per case; what the mover does is missing where the relation has none.

    `objects` are the first tokens of the relation's objects. `said_by` and `right_by` are the heads that add most to
    what the model says and to the right answer: in a right answer one and the same.
    """
    tokens = [{"right": case.right, "rival": case.rival} for case in cases]
    places = [{"last": len(case.prompt.ids) - 1} for case in cases]
    rows = []
    found = step_ranks(model, [case.prompt for case in cases], tokens, places)
    curves = [[by_layer(ranks[name, "last"]) for name in ("right", "rival")] for ranks in found]
    leads = [
        _leads_from(*((rival, right) if case.kind == "wrong" else (right, rival)))
        for case, (right, rival) in zip(cases, curves, strict=True)
    ]
    gathered = _gathered(model, cases, objects, leads)
    for case, (right, rival), first, gathers in zip(cases, curves, leads, gathered, strict=True):
        row: dict[str, object] = {
            "relation": relation,
            "category": category,
            "kind": case.kind,
            "subject": case.subject,
            "leads_from": first / (len(right) - 1),
            "ever_on_top": bool((right == 1).any()),
            "ever_in_first": bool((right[:-1] <= FIRST).any()),  # at the output it would be hit@10
            "gathers": gathers,
            "ever_led": bool((right < rival).any()),
        }
        rows.append(row | _heads_row(model, case, mover, limits))
    return pd.DataFrame(rows)


def _gathered(model: LanguageModel, cases: Sequence[Case], objects: set[int], leads: Sequence[int]) -> list[float]:
    """What share of the relation's other objects each case's right answer leads, less the mean of other right answers.

    At the last position, before the layer from which the rival `leads` for good (in a right answer: the right one). The
    rival is no other object here. NaN where there is no other object or no other right answer.
    """
    prompts = [case.prompt for case in cases]
    gathered = []
    for case, first, logits in zip(cases, leads, last_logits(model, prompts, sorted(objects)), strict=True):
        at = dict(zip(sorted(objects), by_layer(logits)[max(0, first - 1)].tolist(), strict=True))
        others = {one.right for one in cases if one.kind == case.kind} - {case.right, case.rival}
        led = {token: _leads(at, token, case.rival) for token in (case.right, *others)}
        gathered.append(led[case.right] - float(np.mean([led[token] for token in others])) if others else math.nan)
    return gathered


def _leads(logits: dict[int, float], token: int, rival: int) -> float:
    """The share of the objects, but a token and its rival, whose logit is lower than the token's."""
    below = [value < logits[token] for other, value in logits.items() if other not in (token, rival)]
    return float(np.mean(below)) if below else math.nan


def _leads_from(leader: Int[ndarray, " layer"], other: Int[ndarray, " layer"]) -> int:
    """How many layers are passed when the leader ranks before the other for good; all where it never does."""
    behind = np.flatnonzero(leader >= other)
    return min(int(behind[-1]) + 1, len(leader) - 1) if len(behind) else 0


@torch.no_grad()
def _heads_row(model: LanguageModel, case: Case, mover: Head | None, limits: Thresholds) -> dict[str, object]:
    seen = observe(model, case.prompt)
    right, rival = (attributions(model, seen, answer) for answer in (case.right, case.rival))
    by_right, by_rival = (divmod(int(added.argmax()), added.shape[1]) for added in (right, rival))
    said = by_rival if case.kind == "wrong" else by_right
    row: dict[str, object] = {
        "said_by": head_name(said),
        "right_by": head_name(by_right),
        "same_head": said == by_right,
    }
    if mover is None or case.prompt.span is None:
        return row
    low, high = case.prompt.span
    to_subject = float(seen.attention[mover][low:high].sum())
    logits = model.transformer.unembed(seen.written[mover][None])[0]
    writes = {
        token: int(token_ranks(logits, token, case.prompt.text)) < limits.tokens for token in (case.right, case.rival)
    }
    return row | {
        "head": head_name(mover),
        "to_subject": to_subject,
        "attends": to_subject >= limits.attention,
        "writes_right": writes[case.right],
        "writes_rival": writes[case.rival],
        "prefers_rival": bool(rival[mover] > right[mover]),
    }


def main_mover(named: pd.DataFrame, relation: str) -> Head | None:
    """Of a relation's movers and mixtures the one of the largest mean attribution, or None."""
    rows = named[(named["relation"] == relation) & named["role"].isin(["mover", "mixture"])]
    if rows.empty:
        return None
    return head_of(str(rows.loc[rows["attribution"].idxmax(), "head"]))
