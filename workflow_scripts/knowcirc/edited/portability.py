"""What follows from an edit: questions that go through the edited fact (KC section 5, multi-hop editing).

The first hop of a chain x -> y -> z is edited: x -> y' instead, an object y' of which the second relation says z'. The
question through both hops is asked before and after. The paper's case: "home country" of Thierry Mugler edited to
China, and "The official currency of the home country of Thierry Mugler is" answered with China.

| what is ranked after the question | is |
|---|---|
| old | z, right before the edit |
| follows | z', which follows from the edit |
| object | y', the edit's own object: the paper's wrong answer |

Beside each rank stands whether the mover head of z before the edit still raises the token among its first; where no
head moved z, that is left empty.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from knowcirc.behaviours.hops import Composition, chain_prompts, chains
from knowcirc.editing.editors import UNEDITED
from knowcirc.editing.edits import Edit, Request, applied, request
from knowcirc.facts.knowledge import answer_prompts
from knowcirc.facts.prompts import Prompt, answer_tokens
from knowcirc.facts.ranking import token_ranks
from knowcirc.facts.relations import Relation
from knowcirc.models.loading import LanguageModel
from knowcirc.reading.heads import Thresholds, find_head, observe, read_outputs
from knowcirc.seeding import derive
from knowcirc.statistics import bootstrap, columns, proportion

ASKED = ("old", "follows", "object")
OF_CASE = ("composition", "subject", "target", "editor", "mover", "is_mover", "takes", "said")
COLUMNS = (*OF_CASE, *(f"{what}_{name}" for name in ASKED for what in ("rank", "p", "writes")))  # of a case's rows
MakeEdit = Callable[[Request], Edit]


@dataclass(frozen=True, slots=True)
class Case:
    """A chain to edit: its subject, the edit, the question through both hops, and the tokens that are ranked."""

    subject: str
    requested: Request
    target: str
    question: Prompt
    tokens: dict[str, int]


def draw_cases(
    model: LanguageModel, composition: Composition, relations: tuple[Relation, Relation], n: int, seed: int
) -> list[Case]:
    """At most `n` chains of which the model says y and, through both hops, z first; y' is drawn by seed.

    The three ranked tokens differ: a chain without such a y' is left out.
    """
    first, second = relations
    then = {fact.subject: fact.object for fact in second.facts}
    objects = [name for name in dict.fromkeys(fact.object for fact in first.facts) if name in then]
    made = {chain: chain_prompts(model, composition, first, second, chain) for chain in chains(first, second, seed)}
    asked = {name: answer_prompts(model, [each[name] for each in made.values()]) for name in ("first", "integrated")}
    cases: list[Case] = []
    for chain, one, both in zip(made, asked["first"], asked["integrated"], strict=True):
        if one.rank or both.rank or len(cases) == n:
            continue
        subject, _, old = chain
        rng = np.random.default_rng(derive(seed, "portability", composition.name, subject))
        for place in rng.permutation(len(objects)):
            target = objects[int(place)]
            texts = {"old": old, "follows": then[target], "object": target}
            tokens = {name: answer_tokens(model.text, text)[0] for name, text in texts.items()}
            said = answer_tokens(model.text, chain[1])[0]  # an edit to an object that begins alike would show nothing
            if len(set(tokens.values())) == len(tokens) and tokens["object"] != said:
                requested = request(model, first.templates[0], subject, target)
                cases.append(Case(subject, requested, target, made[chain]["integrated"], tokens))
                break
    return cases


def study_case(
    model: LanguageModel, case: Case, editors: Mapping[str, MakeEdit], limits: Thresholds
) -> Iterator[dict[str, object]]:
    """A row for the unedited model (editor `none`) and one for each editor; the weights are put back after each."""
    mover: str | None = None
    is_mover = False
    for editor, make in [(UNEDITED, None), *editors.items()]:
        with applied(model, None if make is None else make(case.requested)) as edited:
            said = answer_prompts(edited, [case.requested.prompt, case.question])
            with torch.no_grad():
                logits = edited.transformer.logits(edited.batch([case.question.ids]))[0].double()
            readings = read_outputs(edited, case.question, observe(edited, case.question), tuple(case.tokens.values()))
        if mover is None:
            found, is_mover = find_head(readings[list(case.tokens).index("old")], "mover", limits)
            mover = found.name
        row: dict[str, object] = {"subject": case.subject, "target": case.target, "editor": editor}
        row |= {"mover": mover, "is_mover": is_mover}
        row |= {"takes": said[0].top == case.requested.target[0], "said": said[1].top}
        p = logits.softmax(-1)
        for (name, token), heads in zip(case.tokens.items(), readings, strict=True):
            raised = next(one.rank for one in heads if one.name == mover)
            row |= {f"rank_{name}": int(token_ranks(logits, token, case.question.text)), f"p_{name}": float(p[token])}
            row[f"writes_{name}"] = raised < limits.tokens if is_mover else None
        yield row


def portability_table(rows: pd.DataFrame, hits: int, editors: Sequence[str], model: str) -> pd.DataFrame:
    """Table edit_portability: one row per composition and editor, and one per editor over all compositions.

    Without any case, the rows over all compositions stand alone, with n of 0.
    """
    found = []
    parts = [("all", rows), *((str(name), part) for name, part in rows.groupby("composition", sort=False))]
    for composition, part in parts:
        for editor in (UNEDITED, *editors):
            group = part[part["editor"] == editor]
            row: dict[str, object] = {"model": model, "question": "two hops", "relation": composition, "editor": editor}
            row |= columns("takes", proportion(group["takes"].tolist()))
            for name in ASKED:
                row |= columns(f"says_{name}", proportion((group[f"rank_{name}"] == 0).tolist()))
                row |= columns(f"hit_{name}", proportion((group[f"rank_{name}"] < hits).tolist()))
                row |= columns(f"p_{name}", bootstrap(group[f"p_{name}"].astype(float).tolist()))
                row |= columns(f"writes_{name}", proportion(group[f"writes_{name}"].dropna().tolist()))
            found.append({**row, "n_mover": int(group["is_mover"].astype(bool).sum()), "n": len(group)})
    return pd.DataFrame(found)
