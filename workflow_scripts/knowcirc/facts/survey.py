"""The survey of a model's knowledge: every fact asked in one or more wordings, and the table that the studies share.

One row per fact and wording: relation, category, answer_type, template (index), wording (the template's text), fact
(index), subject, object, rank (from 0), p, top (text of the likeliest token), p_top, wrong (the other object of the
relation whose first token is the top one, or empty: a wrong answer of the right type), split (val, test or empty) and
val_rank (the worst rank that D_val was drawn from). Splits are drawn on the first wording.
"""

from collections.abc import Sequence

import pandas as pd

from knowcirc.facts.knowledge import answer_prompts, split_facts
from knowcirc.facts.prompts import Prompt, alike_objects, answer_tokens, fill
from knowcirc.facts.relations import Relation
from knowcirc.facts.settings import Known
from knowcirc.files import read_table
from knowcirc.models.loading import LanguageModel
from knowcirc.models.tokens import shown_token
from knowcirc.seeding import derive
from knowcirc.statistics import bootstrap, columns, wilson

COLUMNS = (
    *("relation", "category", "answer_type", "template", "wording", "fact", "subject", "object", "rank", "p", "top"),
    *("p_top", "wrong", "split", "val_rank"),
)


def read_facts(paths: Sequence[str]) -> pd.DataFrame:
    """Several tables of facts as one; those of relations that were left out have no rows."""
    tables = [read_table(path) for path in paths]
    filled = [table for table in tables if len(table)]
    return pd.concat(filled, ignore_index=True) if filled else tables[0]


def survey_relation(
    model: LanguageModel,
    relation: Relation,
    templates: Sequence[int],
    *,
    hits: int,
    d_val: int,
    d_test: int,
    seed: int,
    known: Known = "rank1",
) -> pd.DataFrame:
    """The survey's rows of one relation; a template that it lacks is replaced by its last.

    A wrong answer is named only where its first token is that of a single object.
    """
    alike = {text for texts in alike_objects(model.text, relation) for text in texts}
    first = {answer_tokens(model.text, text)[0]: text for text in relation.objects if text not in alike}
    rows: list[dict[str, object]] = []
    for index in sorted({min(template, len(relation.templates) - 1) for template in templates}):
        wording = relation.templates[index]
        prompts = [fill(model.text, wording, fact.subject, fact.object) for fact in relation.facts]
        for number, (fact, answer) in enumerate(zip(relation.facts, answer_prompts(model, prompts), strict=True)):
            named = first.get(answer.top, "")
            rows.append(
                {
                    "relation": relation.name,
                    "category": relation.category,
                    "answer_type": relation.answer_type,
                    "template": index,
                    "wording": wording,
                    "fact": number,
                    "subject": fact.subject,
                    "object": fact.object,
                    "rank": answer.rank,
                    "p": answer.p,
                    "top": shown_token(model.text, answer.top),
                    "p_top": answer.p_top,
                    "wrong": "" if named == fact.object else named,
                    "split": "",
                    "val_rank": -1,
                }
            )
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    first_wording = frame[frame.template == 0]
    drawn = derive(seed, "split", relation.name)
    split = split_facts(first_wording["rank"].tolist(), d_val, d_test, hits, drawn, known)
    frame.loc[first_wording.index, "val_rank"] = split.val_rank
    for name, chosen in (("val", split.val), ("test", split.test)):
        frame.loc[first_wording.index[list(chosen)], "split"] = name
    return frame


def known_facts_table(facts: pd.DataFrame, model: str, hits: int) -> pd.DataFrame:
    """Table known_facts: hit@1, hit@k and mean p(answer) of the whole model, one row per relation (first wording)."""
    rows = []
    for (category, relation), group in facts[facts.template == 0].groupby(["category", "relation"], sort=True):
        first, among = (wilson(int((group["rank"] < k).sum()), len(group)) for k in (1, hits))
        rows.append(
            {
                "model": model,
                "category": category,
                "relation": relation,
                "n": len(group),
                **columns("hit_at_1", first),
                **columns(f"hit_at_{hits}", among),
                **columns("p_answer", bootstrap(group["p"].tolist())),
                "n_val": int((group["split"] == "val").sum()),
                "n_test": int((group["split"] == "test").sum()),
                "val_drawn_from": "rank 1" if group["val_rank"].iloc[0] == 0 else f"rank 1 to {hits}",
                "n_wrong_of_right_type": int((group["wrong"] != "").sum()),
                "wording": group["wording"].iloc[0],
            }
        )
    return pd.DataFrame(rows)


def prompts_of(model: LanguageModel, frame: pd.DataFrame) -> list[Prompt]:
    """The prompts of survey rows, in their order."""
    return [
        fill(model.text, wording, subject, answer)
        for wording, subject, answer in zip(frame["wording"], frame["subject"], frame["object"], strict=True)
    ]


def split_rows(frame: pd.DataFrame, relation: str, split: str) -> pd.DataFrame:
    """The rows of a relation's D_val or D_test."""
    return frame[(frame.relation == relation) & (frame.split == split)]


def object_tokens(model: LanguageModel, frame: pd.DataFrame, relation: str) -> list[int]:
    """The first token of each object of a relation; one that several objects share stands as often."""
    objects = frame.loc[frame.relation == relation, "object"].unique()
    return sorted(answer_tokens(model.text, text)[0] for text in objects)


def known_facts(frame: pd.DataFrame, relation: str, most: int, seed: int) -> pd.DataFrame:
    """At most `most` facts of a relation whose answer ranks first (first wording), drawn by seed."""
    rows = frame[(frame.relation == relation) & (frame.template == 0) & (frame["rank"] == 0)]
    return rows.sample(n=min(most, len(rows)), random_state=derive(seed, "known", relation) % 2**32)


def fact_row(frame: pd.DataFrame, relation: str, subject: str, wording: str) -> pd.DataFrame:
    """The survey row of one fact, put in another wording.

    Raises:
        ValueError: if the relation has no such subject.
    """
    found = frame[(frame.relation == relation) & (frame.subject == subject) & (frame.template == 0)]
    if found.empty:
        raise ValueError(f"showcase: relation {relation} has no subject {subject!r}; choose one of its file")
    return found.assign(wording=wording)


def draw_in_turn(frame: pd.DataFrame, relations: Sequence[str], n: int, seed: int) -> pd.DataFrame:
    """`n` rows drawn from the relations in turn, by seed; fewer where these hold fewer."""
    shuffled = frame.sample(frac=1, random_state=seed % 2**32)
    shuffled["turn"] = shuffled.groupby("relation").cumcount()
    shuffled["place"] = shuffled["relation"].map({name: place for place, name in enumerate(relations)})
    chosen = shuffled[shuffled["place"].notna()].sort_values(["turn", "place"]).head(n)
    return chosen.drop(columns=["turn", "place"])
