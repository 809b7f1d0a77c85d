"""Hallucination seen from inside: a wrong answer of the right type beside a right one (KC 6, C.2)."""

from collections.abc import Collection
from dataclasses import dataclass

import pandas as pd

from knowcirc.behaviours.wrong_answers import runner_up
from knowcirc.facts.prompts import answer_tokens, fill, token_texts
from knowcirc.models.loading import LanguageModel
from knowcirc.reading.ablation import Head
from knowcirc.reading.heads import Thresholds, find_head, observe, read_outputs
from knowcirc.reading.lens import curve_rows, token_curve

SHOWN_TOKENS = 8


@dataclass(frozen=True, slots=True)
class Case:
    """A case's curves through the layers, its mover head, and what it is; plain values."""

    ranks: list[dict[str, object]]
    head: dict[str, object]
    meta: dict[str, object]


def pick_cases(survey: pd.DataFrame, with_mover: Collection[str] = ()) -> dict[str, pd.Series]:
    """The most confident wrong answer of the right type, and the right answer of its relation nearest in confidence.

    Relations that have a mover head come first, of these the factual ones; others are taken only where these have none.

    Raises:
        ValueError: if no relation holds both.
    """
    first_wording = survey[survey.template == 0]
    right = first_wording[first_wording["rank"] == 0]
    wrong = first_wording[
        (first_wording["wrong"] != "") & first_wording["wrong"].notna() & first_wording.relation.isin(right.relation)
    ]
    if wrong.empty:
        raise ValueError("hallucination: the model gives no wrong answer of the right type; add relations to the study")
    for requested in (wrong.relation.isin(with_mover), wrong.category == "factual"):
        wrong = wrong[requested.loc[wrong.index]] if requested.loc[wrong.index].any() else wrong
    worst = wrong.loc[wrong["p_top"].idxmax()]
    same = right[(right.relation == worst.relation) & (right["object"] != worst["wrong"])]
    same = same if len(same) else right[right.relation == worst.relation]
    return {"wrong": worst, "right": same.loc[(same["p_top"] - worst["p_top"]).abs().idxmin()]}


def describe_case(
    model: LanguageModel, name: str, row: pd.Series, objects: set[int], mover: Head | None, limits: Thresholds
) -> Case:
    """Curves of the right and the wrong answer, and the relation's mover head; without one, the head nearest to it.

    Beside a right answer stands the runner-up of the relation's objects, given by their first tokens, as the wrong one.
    """
    prompt = fill(model.text, row["wording"], row["subject"], row["object"])
    right = prompt.answer[0]
    wrong = answer_tokens(model.text, row["wrong"])[0] if name == "wrong" else runner_up(model, prompt, objects)
    last = len(prompt.ids) - 1
    ranks = [
        entry
        for label, token in (("right_answer", right), ("wrong_answer", wrong))
        for entry in curve_rows(token_curve(model, prompt, token, last), case=name, token=label)
    ]
    said = right if name == "right" else wrong
    read = read_outputs(model, prompt, observe(model, prompt), (right, wrong))
    readings = dict(zip((right, wrong), read, strict=True))
    if mover is None:
        reading, is_mover = find_head(readings[said], "mover", limits)
    else:
        reading = next(one for one in readings[said] if (one.layer, one.head) == mover)
        is_mover = reading.moves(limits)
    place = readings[said].index(reading)
    p = model.transformer.logits(model.batch([prompt.ids]))[0].double().softmax(-1)
    texts = token_texts(model.text, [right, wrong])
    head = {
        "case": name,
        "name": reading.name,
        "layer": reading.layer,
        "is_mover": is_mover,
        "of_relation": mover is not None,
        "tokens": token_texts(model.text, prompt.ids),
        "attention": list(reading.attention),
        "top_tokens": token_texts(model.text, reading.top[:SHOWN_TOKENS]),
        "right_rank": readings[right][place].rank + 1,
        "wrong_rank": readings[wrong][place].rank + 1,
    }
    meta = {
        "case": name,
        "prompt": prompt.text,
        "relation": row["relation"],
        "right": texts[0],
        "wrong": texts[1],
        "right_token": texts[0],
        "wrong_token": texts[1],
        "p_right": float(p[right]),
        "p_wrong": float(p[wrong]),
    }
    return Case(ranks, head, meta)
