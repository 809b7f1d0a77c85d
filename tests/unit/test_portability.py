"""Questions in two hops after the first hop was edited."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from knowcirc.edited.portability import ASKED, COLUMNS, Case, draw_cases, portability_table, study_case
from knowcirc.editing.edits import Edit, Matrix, Request, applied
from knowcirc.facts.knowledge import answer_prompts
from knowcirc.facts.prompts import answer_tokens
from knowcirc.models.loading import LanguageModel
from knowcirc.reading.heads import Thresholds, find_head, read_heads
from unit.test_behaviours import CITIES, COMPOSITION, LANGUAGES, known_first

Loader = Callable[..., LanguageModel]
LIMITS = Thresholds(0.05, 50)
PAIR = (CITIES, LANGUAGES)
ANSWERS = "knowcirc.edited.portability.answer_prompts"


def test_edits_move_the_first_hop_to_another_object_with_another_answer(
    load_tiny: Loader, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load_tiny("gpt2")
    known_first(monkeypatch, ANSWERS, ["city of Rome lies", "people in the city of Madrid"])
    cases = draw_cases(model, COMPOSITION, PAIR, 9, seed=0)
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
    assert len(draw_cases(model, COMPOSITION, PAIR, 1, seed=0)) == 1
    assert draw_cases(model, COMPOSITION, PAIR, 9, seed=0) == cases
    targets = {tuple(case.target for case in draw_cases(model, COMPOSITION, PAIR, 9, seed=seed)) for seed in range(8)}
    assert len(targets) > 1


def test_a_chain_is_left_out_where_no_edit_has_another_answer(
    load_tiny: Loader, monkeypatch: pytest.MonkeyPatch
) -> None:
    known_first(monkeypatch, ANSWERS)
    one_language = replace(LANGUAGES, facts=tuple(replace(fact, object="Spanish") for fact in LANGUAGES.facts))
    assert draw_cases(load_tiny("gpt2"), COMPOSITION, (CITIES, one_language), 9, seed=0) == []


@pytest.fixture
def case(editable: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> Case:
    """Paris, moved."""
    with monkeypatch.context() as patched:
        known_first(patched, ANSWERS)
        return next(one for one in draw_cases(editable, COMPOSITION, PAIR, 9, seed=0) if one.subject == "Paris")


@pytest.mark.parametrize("limits", [LIMITS, Thresholds(1.1, 50)], ids=["mover", "no mover"])
def test_the_question_is_read_before_and_after_each_edit(
    editable: LanguageModel, case: Case, limits: Thresholds
) -> None:
    model = editable

    def make(layer: int) -> Callable[[Request], Edit]:
        def edit(requested: Request) -> Edit:
            assert requested is case.requested
            old = model.transformer.blocks[layer].mlp.w_out
            noise = torch.randn(old.shape, generator=torch.Generator().manual_seed(layer), dtype=old.dtype)
            return Edit({Matrix(layer): old + noise * old.std()}, {})

        return edit

    kept = [block.mlp.w_out.clone() for block in model.transformer.blocks]
    rows = pd.DataFrame(study_case(model, case, {"rome": make(0), "ft-m": make(2)}, limits))
    assert rows["editor"].tolist() == ["none", "rome", "ft-m"]
    assert {"composition", *rows.columns} == set(COLUMNS)
    asked = {name: replace(case.question, answer=(token,)) for name, token in case.tokens.items()}
    mover, is_mover = find_head(read_heads(model, asked["old"]), "mover", limits)
    assert (rows["mover"] == mover.name).all()
    assert (rows["is_mover"] == is_mover).all()
    assert is_mover == (limits is LIMITS)
    for (_, row), edit in zip(rows.iterrows(), (None, make(0), make(2)), strict=True):
        with applied(model, None if edit is None else edit(case.requested)) as edited:
            for name, prompt in asked.items():
                answer = answer_prompts(edited, [prompt])[0]
                assert (row[f"rank_{name}"], row["said"]) == (answer.rank, answer.top)
                assert row[f"p_{name}"] == pytest.approx(answer.p)
                raised = next(one.rank for one in read_heads(edited, prompt) if one.name == mover.name)
                assert row[f"writes_{name}"] == (raised < limits.tokens if is_mover else None)
            direct = answer_prompts(edited, [case.requested.prompt])[0]
            assert row["takes"] == (direct.top == case.requested.target[0])
    assert len(set(rows["p_old"])) == 3
    for block, weights in zip(model.transformer.blocks, kept, strict=True):
        assert torch.equal(block.mlp.w_out, weights)


def test_the_table_has_a_row_for_all_compositions_and_one_for_each() -> None:
    rows = []
    for composition, n in (("a+b", 2), ("c+d", 1)):
        for number in range(n):
            for editor in ("none", "rome"):
                edited = editor == "rome"
                row = {"composition": composition, "subject": str(number), "editor": editor, "is_mover": number == 0}
                row |= {"takes": edited, "p_old": 0.25 if edited else 0.5, "p_follows": 0.125, "p_object": 0.5}
                row |= {"rank_old": 4 if edited else 0, "rank_follows": 9 + number, "rank_object": 0 if edited else 99}
                row |= {f"writes_{name}": edited if number == 0 else None for name in ASKED}
                rows.append(row)
    table = portability_table(pd.DataFrame(rows, columns=list(COLUMNS)), 10, ["rome"], "m")
    assert table[["relation", "editor"]].to_numpy().tolist() == [
        *(["all", "none"], ["all", "rome"], ["a+b", "none"], ["a+b", "rome"], ["c+d", "none"], ["c+d", "rome"])
    ]
    whole, edited = table.iloc[0], table.iloc[1]
    assert (whole["takes"], whole["says_old"], whole["says_object"]) == (0.0, 1.0, 0.0)
    assert (edited["takes"], edited["says_old"], edited["says_object"]) == (1.0, 0.0, 1.0)
    assert edited["hit_old"] == 1.0
    assert whole["hit_object"] == 0.0
    assert edited["hit_follows"] == pytest.approx(2 / 3)  # rank 10 of one of three is not among ten
    assert (edited["p_old"], edited["writes_old"], whole["writes_old"]) == (0.25, 1.0, 0.0)
    assert (edited["n"], edited["n_mover"], table.iloc[3]["n"], table.iloc[3]["n_mover"]) == (3, 2, 2, 1)


def test_without_a_case_the_table_says_so() -> None:
    table = portability_table(pd.DataFrame(columns=list(COLUMNS)), 10, ["rome", "ft-m"], "m")
    assert table["relation"].tolist() == ["all"] * 3
    assert (table["n"] == 0).all()
    assert np.isnan(table["p_old"].astype(float)).all()
