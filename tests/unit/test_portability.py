"""Questions after edits: two hops, the second hop edited, the reverse, other wordings and other facts."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from knowcirc.edited.asking import ASKED, COLUMNS, ask_case, continuations
from knowcirc.edited.portability import HopCase, draw_cases, portability_table, study_case
from knowcirc.edited.questions import (
    QUESTIONS,
    AskedChain,
    about_subject,
    ask_chains,
    decides,
    reverse_cases,
    second_hop_cases,
)
from knowcirc.editing.edits import Edit, Matrix, Request, applied
from knowcirc.editing.evaluation import read_said
from knowcirc.facts.knowledge import answer_prompts
from knowcirc.facts.prompts import answer_tokens
from knowcirc.facts.relations import Relation
from knowcirc.facts.ripples import Case, Check, Query, Wanted, says
from knowcirc.models.loading import LanguageModel
from knowcirc.reading.heads import Thresholds, find_head, read_heads
from unit.test_behaviours import CAPITALS, CITIES, COMPOSITION, LANGUAGES, known_first, relation

Loader = Callable[..., LanguageModel]
LIMITS = Thresholds(0.05, 50)
RELATIONS = {each.name: each for each in (CITIES, LANGUAGES, CAPITALS)}
ANSWERS = "knowcirc.edited.questions.answer_prompts"
TOKENS = 4


def asked_chains(model: LanguageModel, second: Relation = LANGUAGES) -> list[AskedChain]:
    return ask_chains(model, COMPOSITION, CITIES, second, seed=0)


def draw(model: LanguageModel, n: int, seed: int = 0, second: Relation = LANGUAGES) -> list[HopCase]:
    relations = {**RELATIONS, second.name: second}
    return draw_cases(model, COMPOSITION, relations, asked_chains(model, second), n, seed)


def test_edits_move_the_first_hop_to_another_object_with_another_answer(
    load_tiny: Loader, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load_tiny("gpt2")
    known_first(monkeypatch, ANSWERS, ["city of Rome lies", "people in the city of Madrid"])
    cases = draw(model, 9)
    assert {case.subject for case in cases} == {"Paris", "Lima"}  # Rome's first hop, Madrid's question are not known
    then = {fact.subject: fact.object for fact in LANGUAGES.facts}
    home = {fact.subject: fact.object for fact in CITIES.facts}
    for case in cases:
        assert case.question.text == f"people in the city of {case.subject} speak"
        assert case.requested.prompt.text == f"the city of {case.subject} lies in"
        assert case.target in then  # not Chile, whose language is not known
        # Spain would not do for Lima: its language is Peru's.
        assert then[case.target] != then[home[case.subject]]
        texts = (then[home[case.subject]], then[case.target], case.target)
        assert case.tokens == dict(zip(ASKED, (answer_tokens(model.text, text)[0] for text in texts), strict=True))
        assert case.requested.target[0] == case.tokens["object"]
        assert case.checks[0].ranked == dict(zip(ASKED, texts, strict=True))
        assert case.checks[0].queries[0].text == case.question.text
    assert len(draw(model, 1)) == 1
    assert draw(model, 9) == cases
    assert len({tuple(case.target for case in draw(model, 9, seed)) for seed in range(8)}) > 1


def test_a_chain_is_left_out_where_no_edit_has_another_answer(
    load_tiny: Loader, monkeypatch: pytest.MonkeyPatch
) -> None:
    known_first(monkeypatch, ANSWERS)
    one_language = replace(LANGUAGES, facts=tuple(replace(fact, object="Spanish") for fact in LANGUAGES.facts))
    assert draw(load_tiny("gpt2"), 9, second=one_language) == []


def test_second_hops_are_edited_once_each_and_asked_through_the_first(
    load_tiny: Loader, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load_tiny("gpt2")
    known_first(monkeypatch, ANSWERS, ["people in Italy speak"])
    twice = replace(CITIES, facts=(*CITIES.facts, replace(CITIES.facts[0], subject="Wellington")))
    relations = {**RELATIONS, "city_country": twice}
    asked = ask_chains(model, COMPOSITION, twice, LANGUAGES, seed=0)
    assert sum(one.chain[1] == "France" for one in asked) == 2
    cases = list(second_hop_cases(model, COMPOSITION, relations, asked, 9, seed=0))
    assert sorted(case.name for case in cases) == ["France", "Peru", "Spain"]  # Italy's language is not known
    for case in cases:
        (edit,), through = case.edits, case.checks[0]
        assert (edit.template, edit.subject) == (LANGUAGES.templates[0], case.name)
        x = next(one.chain[0] for one in asked if one.chain[1] == case.name)
        assert through.queries == (Query(f"people in the city of {x} speak", ((edit.target,),)),)
        assert through.old == next(fact.object for fact in LANGUAGES.facts if fact.subject == case.name) != edit.target
    assert len(list(second_hop_cases(model, COMPOSITION, relations, asked, 2, seed=0))) == 2


def test_a_relation_is_asked_backward_of_its_new_object(load_tiny: Loader, monkeypatch: pytest.MonkeyPatch) -> None:
    model = load_tiny("gpt2")
    known_first(monkeypatch, ANSWERS)
    wording = str(CAPITALS.reverse_template)
    cases = list(reverse_cases(model, CAPITALS, wording, list(RELATIONS.values()), 9, seed=0))
    assert sorted(case.name for case in cases) == ["Italy", "Spain"]  # Paris is the capital of two
    for case in cases:
        (edit,), back = case.edits, case.checks[0]
        assert back.queries == (Query(f"{edit.target} is the capital of", ((case.name,),)),)
        owner = {"Rome": "Italy", "Madrid": "Spain"}.get(edit.target)
        assert back.old == owner != case.name
    assert len(list(reverse_cases(model, CAPITALS, wording, list(RELATIONS.values()), 1, seed=0))) == 1


def test_the_subject_is_asked_in_other_words_and_for_what_else_is_known_of_it(
    load_tiny: Loader, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load_tiny("gpt2")
    worded = replace(CAPITALS, templates=(*CAPITALS.templates, "the city of {} is", "{} is in", "people in {} is"))
    known_first(monkeypatch, ANSWERS)
    checks = about_subject(model, worded, [worded, LANGUAGES, CITIES], "Italy", "Rome", "Lima")
    assert [(check.question, check.queries[0].text, check.old) for check in checks] == [
        ("other wordings", "the city of Italy is", "Rome"),
        ("other wordings", "Italy is in", "Rome"),
        ("other facts", "people in Italy speak", None),
    ]
    assert [check.queries[0].answers for check in checks] == [(("Lima",),), (("Lima",),), (("Italian",),)]
    known_first(monkeypatch, ANSWERS, ["people in Italy speak"])
    assert len(about_subject(model, worded, [worded, LANGUAGES], "Italy", "Rome", "Lima")) == 2


def test_a_relation_decides_another_where_equal_objects_always_go_together() -> None:
    lands = relation("land", "{} in", "a:France", "b:France", "c:Peru", "d:Peru")
    parts = relation("part", "{} on", "a:Europe", "b:Europe", "c:America", "d:America")
    assert decides(lands, parts)
    mixed = relation("mixed", "{} on", "a:one", "b:two", "c:one", "d:one")
    assert not decides(lands, mixed)
    assert not decides(relation("alone", "{} of", "a:x", "b:y"), parts)  # no two subjects to tell by


def noisy(model: LanguageModel, layer: int) -> Edit:
    old = model.transformer.blocks[layer].mlp.w_out
    noise = torch.randn(old.shape, generator=torch.Generator().manual_seed(layer), dtype=old.dtype)
    return Edit({Matrix(layer): old + noise * old.std()}, {})


def test_a_case_of_several_edits_is_asked_where_its_conditions_hold(editable: LanguageModel) -> None:
    model = editable
    text = "people in France speak"
    (said,) = continuations(model, [text], TOKENS)
    word = said.split()[0]
    holds, fails = Query(text, ((word,),)), Query(text, (("Wellington Wellington",),))
    asks = Query("the capital of Italy is", (("Rome",),))
    checks = tuple(
        Check("q", name, (asks, holds), "data", conditions=each) for name, each in (("a", (holds,)), ("b", (fails,)))
    )
    edits = (Wanted("the capital of {} is", "Italy", "Lima"), Wanted("people in {} speak", "Peru", "French"))
    seen: list[list[str]] = []

    def make(requests: Sequence[Request]) -> Edit:
        seen.append([each.subject for each in requests])
        return noisy(model, 1)

    rows = list(ask_case(model, Case("c", edits, checks), {"rome": make}, TOKENS))
    assert seen == [["Italy", "Peru"]]
    assert [(row["editor"], row["criterion"], row["subject"], row["target"]) for row in rows] == [
        *(("none", "a", "Italy; Peru", "Lima; French"), ("rome", "a", "Italy; Peru", "Lima; French"))
    ]
    assert rows[0]["generated_follows"]  # of two wordings one is enough
    with applied(model, noisy(model, 1)) as edited:
        first, second = continuations(edited, [asks.text, text], TOKENS)
        one = read_said(edited, [(asks.text, "Rome")])[0]
    assert rows[1]["generated_follows"] == (says(first, "Rome") or says(second, word))
    assert (rows[1]["rank_follows"], rows[1]["forced_follows"], rows[1]["text"]) == (
        one.ranks[0],
        one.share == 1,
        first,
    )
    assert list(ask_case(model, Case("c", edits, checks[1:]), {"rome": make}, TOKENS)) == []


@pytest.fixture
def case(editable: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> HopCase:
    """Paris, moved."""
    with monkeypatch.context() as patched:
        known_first(patched, ANSWERS)
        found = next(one for one in draw(editable, 9) if one.subject == "Paris")
        extra = Check("other facts", "relation specificity", (Query("people in Peru speak", (("Spanish",),)),), "x")
        return replace(found, checks=(*found.checks, extra))


@pytest.mark.parametrize("limits", [LIMITS, Thresholds(1.1, 50)], ids=["mover", "no mover"])
def test_the_question_is_read_before_and_after_each_edit(
    editable: LanguageModel, case: Case, limits: Thresholds
) -> None:
    model = editable

    def make(layer: int) -> Callable[[Sequence[Request]], Edit]:
        def edit(requests: Sequence[Request]) -> Edit:
            assert list(requests) == [case.requested]
            return noisy(model, layer)

        return edit

    kept = [block.mlp.w_out.clone() for block in model.transformer.blocks]
    every = pd.DataFrame(study_case(model, case, {"rome": make(0), "ft-m": make(2)}, limits, TOKENS))
    assert every["editor"].tolist() == ["none", "none", "rome", "rome", "ft-m", "ft-m"]
    assert set(every.columns) == set(COLUMNS)
    rows, others = (every[every["question"] == name] for name in ("two hops", "other facts"))
    assert others["rank_old"].isna().all()
    assert not others["is_mover"].any()
    asked = {name: replace(case.question, answer=(token,)) for name, token in case.tokens.items()}
    mover, is_mover = find_head(read_heads(model, asked["old"]), "mover", limits)
    assert (rows["mover"] == mover.name).all()
    assert (rows["is_mover"] == is_mover).all()
    assert is_mover == (limits is LIMITS)
    for (_, row), edit in zip(rows.iterrows(), (None, make(0), make(2)), strict=True):
        with applied(model, None if edit is None else edit([case.requested])) as edited:
            for name, prompt in asked.items():
                answer = answer_prompts(edited, [prompt])[0]
                assert row[f"rank_{name}"] == answer.rank
                assert row[f"generated_{name}"] == says(row["text"], case.checks[0].ranked[name])
                assert row[f"p_{name}"] == pytest.approx(answer.p)
                raised = next(one.rank for one in read_heads(edited, prompt) if one.name == mover.name)
                written = row[f"writes_{name}"]
                assert written == (raised < limits.tokens) if is_mover else pd.isna(written)
            direct = answer_prompts(edited, [case.requested.prompt])[0]
            assert row["takes"] == (direct.top == case.requested.target[0])
    assert len(set(rows["p_old"])) == 3
    for block, weights in zip(model.transformer.blocks, kept, strict=True):
        assert torch.equal(block.mlp.w_out, weights)


def rows_of(question: str, relation: str, n: int, **changes: object) -> list[dict[str, object]]:
    """Two editors' rows of `n` edits; edited models say the object."""
    rows = []
    for number in range(n):
        for editor in ("none", "rome"):
            edited = editor == "rome"
            row: dict[str, object] = {"question": question, "relation": relation, "criterion": "c", "editor": editor}
            row |= {"subject": str(number), "is_mover": number == 0, "takes": edited}
            row |= {"p_old": 0.25 if edited else 0.5, "p_follows": 0.125, "p_object": 0.5}
            row |= {"rank_old": 4 if edited else 0, "rank_follows": 9 + number, "rank_object": 0 if edited else 99}
            row |= {f"writes_{name}": edited if number == 0 else None for name in ASKED}
            row |= {f"{kind}_{name}": edited for name in ASKED for kind in ("forced", "generated")}
            rows.append({**row, **changes})
    return rows


def test_the_table_has_a_row_for_all_compositions_and_one_for_each() -> None:
    rows = [*rows_of("two hops", "a+b", 2), *rows_of("two hops", "c+d", 1)]
    table = portability_table(pd.DataFrame(rows, columns=list(COLUMNS)), 10, ["rome"], "m")
    assert table[["relation", "editor"]].to_numpy().tolist() == [
        *(["all", "none"], ["all", "rome"], ["a+b", "none"], ["a+b", "rome"], ["c+d", "none"], ["c+d", "rome"])
    ]
    whole, edited = table.iloc[0], table.iloc[1]
    assert (whole["takes"], whole["says_old"], whole["says_object"]) == (0.0, 1.0, 0.0)
    assert (edited["takes"], edited["says_old"], edited["says_object"]) == (1.0, 0.0, 1.0)
    assert (edited["hit_old"], edited["forced_old"], whole["generated_follows"]) == (1.0, 1.0, 0.0)
    assert whole["hit_object"] == 0.0
    assert edited["hit_follows"] == pytest.approx(2 / 3)  # rank 10 of one of three is not among ten
    assert (edited["p_old"], edited["writes_old"], whole["writes_old"]) == (0.25, 1.0, 0.0)
    assert (edited["n"], edited["n_mover"], table.iloc[3]["n"], table.iloc[3]["n_mover"]) == (3, 2, 2, 1)


def test_other_questions_follow_and_data_sets_stand_for_themselves() -> None:
    rows = [*rows_of("relation specificity", "ripple-recent", 1), *rows_of("reverse", "capital", 2, rank_old=None)]
    rows += rows_of("two hops", "a+b", 1)
    table = portability_table(pd.DataFrame(rows, columns=list(COLUMNS)), 10, ["rome"], "m")
    asked = table[table["editor"] == "rome"]
    assert asked[["question", "relation", "n"]].to_numpy().tolist() == [
        *(["two hops", "all", 1], ["two hops", "a+b", 1], ["reverse", "all", 2], ["reverse", "capital", 2]),
        ["relation specificity", "ripple-recent", 1],
    ]
    assert np.isnan(asked.iloc[2]["says_old"])
    assert asked.iloc[2]["says_object"] == 1.0
    assert set(QUESTIONS) >= {"two hops", "reverse"}


def test_without_a_case_the_table_says_so() -> None:
    table = portability_table(pd.DataFrame(columns=list(COLUMNS)), 10, ["rome", "ft-m"], "m")
    assert table["relation"].tolist() == ["all"] * 3
    assert (table["n"] == 0).all()
    assert np.isnan(table["p_old"].astype(float)).all()
