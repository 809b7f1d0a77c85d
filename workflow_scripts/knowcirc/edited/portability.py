"""What follows from an edit: two hops after the first was edited (KC section 5), and the table of all such questions.

The first hop of a chain x -> y -> z is edited: x -> y' instead, an object y' of which the second relation says z'. The
question through both hops is asked before and after. The paper's case: "home country" of Thierry Mugler edited to
China, and "The official currency of the home country of Thierry Mugler is" answered with China.

| what is ranked after the question | is |
|---|---|
| old | z, right before the edit |
| follows | z', which follows from the edit |
| object | y', the edit's own object: the paper's wrong answer |

Beside each rank stands whether the mover head of z before the edit still raises the token among its first; where no
head moved z, that is left empty. What else is asked after the same edits: `questions.py`; how: `asking.py`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from knowcirc.behaviours.hops import Composition
from knowcirc.edited.asking import ASKED, MakeEdit, read_checks, takes
from knowcirc.edited.questions import HOPS, QUESTIONS, AskedChain, about_subject, hop_check
from knowcirc.editing.editors import UNEDITED
from knowcirc.editing.edits import Request, applied, request
from knowcirc.facts.prompts import Prompt, answer_tokens
from knowcirc.facts.relations import Relation
from knowcirc.facts.ripples import Check
from knowcirc.models.loading import LanguageModel
from knowcirc.reading.heads import Thresholds, find_head, observe, read_outputs
from knowcirc.seeding import derive
from knowcirc.statistics import bootstrap, columns, proportion


@dataclass(frozen=True, slots=True)
class HopCase:
    """A chain to edit: its subject, the edit, the question through both hops, and the tokens that are ranked.

    `checks` are all that is asked after the edit, that question first.
    """

    subject: str
    requested: Request
    target: str
    question: Prompt
    tokens: dict[str, int]
    checks: tuple[Check, ...]


def draw_cases(
    model: LanguageModel,
    composition: Composition,
    relations: Mapping[str, Relation],
    asked: Sequence[AskedChain],
    n: int,
    seed: int,
) -> list[HopCase]:
    """At most `n` of the `asked` chains of which the model says y and, through both hops, z first; y' is drawn by seed.

    The three ranked tokens differ: a chain without such a y' is left out.
    """
    first, second = relations[composition.first], relations[composition.second]
    then = {fact.subject: fact.object for fact in second.facts}
    objects = [name for name in dict.fromkeys(fact.object for fact in first.facts) if name in then]
    cases: list[HopCase] = []
    for one in asked:
        if not {"first", "integrated"} <= one.known or len(cases) == n:
            continue
        subject, middle, old = one.chain
        rng = np.random.default_rng(derive(seed, "portability", composition.name, subject))
        for place in rng.permutation(len(objects)):
            target = objects[int(place)]
            texts = {"old": old, "follows": then[target], "object": target}
            tokens = {name: answer_tokens(model.text, text)[0] for name, text in texts.items()}
            said = answer_tokens(model.text, middle)[0]  # an edit to an object that begins alike would show nothing
            if len(set(tokens.values())) == len(tokens) and tokens["object"] != said:
                requested = request(model, first.templates[0], subject, target)
                question = one.prompts["integrated"]
                through = hop_check(composition, question.text, old, then[target], target)
                rest = about_subject(model, first, list(relations.values()), subject, middle, target)
                cases.append(HopCase(subject, requested, target, question, tokens, (through, *rest)))
                break
    return cases


def study_case(
    model: LanguageModel, case: HopCase, editors: Mapping[str, MakeEdit], limits: Thresholds, tokens: int
) -> Iterator[dict[str, object]]:
    """A row for each check, for the unedited model (editor `none`) and each editor.

    The first check's row says what becomes of the mover. The weights are put back after each edit.
    """
    mover: str | None = None
    is_mover = False
    for editor, make in [(UNEDITED, None), *editors.items()]:
        with applied(model, None if make is None else make([case.requested])) as edited:
            rows = read_checks(edited, case.checks, tokens)
            taken = takes(edited, [case.requested])
            readings = read_outputs(edited, case.question, observe(edited, case.question), tuple(case.tokens.values()))
        if mover is None:
            found, is_mover = find_head(readings[list(case.tokens).index("old")], "mover", limits)
            mover = found.name
        rows[0] |= {"mover": mover, "is_mover": is_mover}
        for name, heads in zip(case.tokens, readings, strict=True):
            raised = next(one.rank for one in heads if one.name == mover)
            rows[0][f"writes_{name}"] = raised < limits.tokens if is_mover else None
        shared: dict[str, object] = {"subject": case.subject, "target": case.target, "editor": editor, "takes": taken}
        yield from [{**shared, **row} for row in rows]


def portability_table(rows: pd.DataFrame, hits: int, editors: Sequence[str], model: str) -> pd.DataFrame:
    """Table edit_portability: one row per question, composition (or relation, or data set) and editor.

    Before those of a question of the study's own relations stand rows over all of them. Without any case, the rows of
    two hops over all compositions stand alone, with n of 0.
    """
    found = []
    asked = list(dict.fromkeys(rows["question"]))
    own = [HOPS, *(name for name in QUESTIONS[1:] if name in asked)]
    for question in (*own, *(name for name in asked if name not in QUESTIONS)):
        group = rows[rows["question"] == question]
        parts = [(str(name), part) for name, part in group.groupby("relation", sort=False)]
        for relation, part in [("all", group), *parts] if question in QUESTIONS else parts:
            found += [
                {"model": model, "question": question, "relation": relation, **_row(part, editor, hits)}
                for editor in (UNEDITED, *editors)
            ]
    return pd.DataFrame(found)


def _row(part: pd.DataFrame, editor: str, hits: int) -> dict[str, object]:
    """An editor's shares and means over the rows of one question."""
    group = part[part["editor"] == editor]
    named = part["criterion"].iloc[0] if len(part) else None
    row: dict[str, object] = {"criterion": named, "editor": editor}
    row |= columns("takes", proportion(group["takes"].tolist()))
    for name in ASKED:
        ranks = group[f"rank_{name}"].dropna()
        row |= columns(f"says_{name}", proportion((ranks == 0).tolist()))
        row |= columns(f"hit_{name}", proportion((ranks < hits).tolist()))
        row |= columns(f"p_{name}", bootstrap(group[f"p_{name}"].dropna().astype(float).tolist()))
        for kind in ("forced", "generated", "writes"):
            row |= columns(f"{kind}_{name}", proportion(group[f"{kind}_{name}"].dropna().tolist()))
    return {**row, "n_mover": int(group["is_mover"].astype(bool).sum()), "n": len(group)}
